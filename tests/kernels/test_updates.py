"""Votes applied to latents, by momentum and by Adam, against plain numpy: every bit of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stream_cases import floats, planes_of, same

from meshd.bits import layout, ops, reference

pytestmark = pytest.mark.usefixtures("isa")

RULES = ("sgd", "adam")
NUMBERS: dict[str, dict[str, float]] = {
    "sgd": {"momentum": 0.9, "rate": 0.01},
    "adam": {
        "decay_1": 0.9,
        "decay_2": 0.999,
        "epsilon": 1e-8,
        "second_scale": 500.1,
        "rate": 0.0123,
    },
}
MOMENTS = {"sgd": ("velocity",), "adam": ("first", "second")}
Case = dict[str, Any]


def votes(rng: np.random.Generator, n: int, members: int, gamma: int) -> Case:
    counts = rng.integers(0, members + 1, n)
    return {
        "planes": planes_of(counts, layout.plane_count(members)),
        "members": members,
        "scale": np.abs(floats(rng, layout.segments(n, gamma))),
        "gamma": gamma,
    }


def moments(rng: np.random.Generator, rule: str, *shape: int) -> Case:
    """Adam's second moment is never negative."""
    drawn = {name: floats(rng, *shape) for name in MOMENTS[rule]}
    return {name: np.abs(x) if name == "second" else x for name, x in drawn.items()}


def case(
    rng: np.random.Generator,
    rule: str,
    rows: int,
    k: int,
    members: int,
    gamma: int,
    beta: int,
    cut: float | None,
) -> Case:
    return {
        **votes(rng, rows * k, members, gamma),
        **moments(rng, rule, rows, k),
        **NUMBERS[rule],
        "latents": floats(rng, rows, k),
        "cut": cut,
        "beta": beta,
    }


def copied(arguments: Case) -> Case:
    return {n: v.copy() if isinstance(v, np.ndarray) else v for n, v in arguments.items()}


def compare(rule: str, arguments: Case) -> None:
    """Outputs, moments and latents have the bits of the reference; inputs are not written."""
    before, wanted_state = copied(arguments), copied(arguments)
    words, scales = getattr(ops, f"votes_{rule}")(**arguments)
    wanted = getattr(reference, f"votes_{rule}")(**wanted_state)
    same(words, wanted[0], "words")
    same(scales, wanted[1], "scales")
    for name in ("latents", *MOMENTS[rule]):
        same(arguments[name], wanted_state[name], name)
    for name in ("planes", "scale"):
        same(arguments[name], before[name], name)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("members", [1, 2, 3, 7, 8, 15, 16, 40, 65535])
@pytest.mark.parametrize("k", [0, 1, 7, 16, 17, 64, 65, 100, 128, 333])
def test_updates(rule: str, k: int, members: int, rng: np.random.Generator) -> None:
    for rows, gamma, beta, cut in (
        (1, 64, 64, 1.0),
        (3, 64, 16, None),
        (4, 5, 7, 0.5),
        (2, 1000, 1000, 0.0),
        (0, 64, 64, 1.0),
        (5, 128, 128, np.inf),
        (7, 1, 1, 1.0),
    ):
        compare(rule, case(rng, rule, rows, k, members, gamma, beta, cut))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 4),
    k=st.integers(1, 200),
    members=st.integers(1, 300),
    gamma=st.integers(1, 300),
    beta=st.integers(1, 220),
    cut=st.sampled_from([None, 0.0, 0.3, 1.0]),
    rule=st.sampled_from(RULES),
)
def test_updates_of_any_shape(
    seed: int,
    rows: int,
    k: int,
    members: int,
    gamma: int,
    beta: int,
    cut: float | None,
    rule: str,
) -> None:
    compare(rule, case(np.random.default_rng(seed), rule, rows, k, members, gamma, beta, cut))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("n", [0, 1, 15, 16, 70, 1000])
def test_dense_latents_move_alike(rule: str, n: int, rng: np.random.Generator) -> None:
    """Neither cut nor binarized; else the same."""
    whole = case(rng, rule, 1, n, 5, 64, 64, None)
    flat = {
        name: v[0].copy() if isinstance(v, np.ndarray) and name not in ("planes", "scale") else v
        for name, v in whole.items()
        if name not in ("cut", "beta")
    }
    getattr(ops, f"votes_{rule}_dense")(**flat)
    getattr(reference, f"votes_{rule}")(**whole)
    for name in ("latents", *MOMENTS[rule]):
        same(flat[name], whole[name][0], name)


@pytest.mark.parametrize("rule", RULES)
def test_planes_may_be_columns_of_wider_ones(rule: str, rng: np.random.Generator) -> None:
    """A slice's votes lie in the middle of its chunk's."""
    arguments = case(rng, rule, 3, 100, 6, 64, 50, 1.0)
    wide = rng.integers(0, 2**64, (3, 20), np.uint64)
    wide[:, 4:9] = arguments["planes"]
    compare(rule, arguments | {"planes": wide[:, 4:9]})


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("at", [0, 63, 64, 298, 299])
def test_impossible_votes_change_nothing(rule: str, at: int, rng: np.random.Generator) -> None:
    """A count above the members is seen before anything is written."""
    arguments = case(rng, rule, 3, 100, 4, 64, 50, 1.0)
    counts = reference.planes_counts(arguments["planes"], 300).astype(np.int64)
    counts[at] = 5
    arguments["planes"] = planes_of(counts, 3)
    arguments["out_words"] = np.full((3, 2), 7, np.uint64)
    arguments["out_scales"] = np.full((3, 2), 7, np.float32)
    flat = {
        name: v.reshape(-1) if name in ("latents", *MOMENTS[rule]) else v
        for name, v in copied(arguments).items()
        if name not in ("cut", "beta", "out_words", "out_scales")
    }
    for op, tried in ((f"votes_{rule}", arguments), (f"votes_{rule}_dense", flat)):
        before = copied(tried)
        with pytest.raises(ValueError, match=r"^planes: a count is larger than members = 4"):
            getattr(ops, op)(**tried)
        for name, old in before.items():
            assert np.array_equal(tried[name], old), name


@pytest.mark.parametrize("rule", RULES)
def test_bits_behind_the_last_element_are_nobodys_votes(
    rule: str, rng: np.random.Generator
) -> None:
    arguments = case(rng, rule, 1, 70, 4, 64, 64, 1.0)
    arguments["planes"][:, 1] |= np.uint64(2**64 - 2**6)
    compare(rule, arguments)


@pytest.mark.parametrize("rule", RULES)
def test_the_cut_stops_the_gradient_not_the_momentum(rule: str) -> None:
    """Beyond the cut g is 0, so a moment of 0 leaves the latent alone; at the cut it passes."""
    arguments = case(np.random.default_rng(1), rule, 1, 4, 1, 64, 64, 1.0)
    for name in MOMENTS[rule]:
        arguments[name][:] = 0
    arguments["planes"][:] = 0b1111
    arguments["scale"][:] = 1
    arguments["latents"][:] = start = np.array([[0.5, 1.0, 1.0000001, -2.0]], np.float32)
    getattr(ops, f"votes_{rule}")(**arguments)
    assert (arguments["latents"] != start).tolist() == [[True, True, False, False]]


@pytest.mark.parametrize("rule", RULES)
def test_a_scale_that_is_nan_shows(rule: str, rng: np.random.Generator) -> None:
    """It makes its latents NaN, and these their segments' scales; no neighbour is touched."""
    arguments = case(rng, rule, 2, 128, 3, 64, 32, None)
    arguments["scale"][1] = np.nan
    words, scales = getattr(ops, f"votes_{rule}")(**arguments)
    assert np.isnan(scales).tolist() == [[False, False, True, True], [False] * 4]
    assert not reference.unpack_bits(words, 128)[0, 64:].any()
    assert np.isnan(arguments["latents"]).sum() == 64


@pytest.mark.parametrize("rule", RULES)
def test_given_outputs_are_filled_and_returned(rule: str, rng: np.random.Generator) -> None:
    arguments = case(rng, rule, 2, 70, 3, 64, 32, 1.0)
    wanted = getattr(reference, f"votes_{rule}")(**copied(arguments))
    words, scales = np.full((2, 2), 7, np.uint64), np.full((2, 3), 7, np.float32)
    got = getattr(ops, f"votes_{rule}")(**arguments, out_words=words, out_scales=scales)
    assert got[0] is words and got[1] is scales
    same(words, wanted[0], "words")
    same(scales, wanted[1], "scales")


@pytest.mark.parametrize(
    ("planes", "text"),
    [
        (np.zeros((3, 4), np.uint64)[:, ::2], "planes: is not C-contiguous within its rows"),
        (np.zeros((3, 2), np.uint64)[::-1], "planes: is not C-contiguous within its rows"),
        (
            np.broadcast_to(np.zeros(2, np.uint64), (3, 2)),
            "planes: is not C-contiguous within its rows",
        ),
        (np.zeros((2, 2), np.uint64), r"planes: expected shape \(3, 2\), got \(2, 2\)"),
        (np.zeros((3, 3), np.uint64), r"planes: expected shape \(3, 2\), got \(3, 3\)"),
    ],
)
@pytest.mark.parametrize("rule", RULES)
def test_planes_that_do_not_fit(rule: str, planes: layout.Words, text: str) -> None:
    arguments = case(np.random.default_rng(1), rule, 1, 70, 5, 64, 32, 1.0)
    with pytest.raises(ValueError, match=f"^{text}"):
        getattr(ops, f"votes_{rule}")(**arguments | {"planes": planes})
