"""Means of segments, and binarizing with a scale that is known beforehand, against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stream_cases import SIZES, betas, floats, same

from meshd.bits import layout, ops, reference

pytestmark = pytest.mark.usefixtures("isa")


@pytest.mark.parametrize("k", SIZES)
def test_segment_means(k: int, rng: np.random.Generator) -> None:
    x = floats(rng, 3, k)
    for beta in betas(k):
        means = ops.segment_means(x, beta)
        same(means, reference.segment_means(x, beta), beta)
        same(means, ops.pack_signed(x, beta)[1], (beta, "those of pack"))


@pytest.mark.parametrize("n", SIZES)
def test_feedback_binarize(n: int, rng: np.random.Generator) -> None:
    grad, start = floats(rng, n), floats(rng, n)
    weight = float(rng.uniform(0.1, 3.0))
    for gamma in betas(n):
        scale = np.abs(floats(rng, layout.segments(n, gamma)))
        carried, wanted = start.copy(), start.copy()
        bits, means = ops.feedback_binarize(grad, carried, weight, scale, gamma)
        wanted_bits, wanted_means = reference.feedback_binarize(grad, wanted, weight, scale, gamma)
        same(bits, wanted_bits, (gamma, "bits"))
        same(means, wanted_means, (gamma, "means"))
        same(carried, wanted, (gamma, "carried"))
        assert layout.padding_is_zero(bits, n)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 400), gamma=st.integers(1, 200))
def test_one_pass_is_both_steps(seed: int, n: int, gamma: int) -> None:
    rng = np.random.default_rng(seed)
    grad, start = floats(rng, n), floats(rng, n)
    scale = np.abs(floats(rng, layout.segments(n, gamma)))
    together, apart = start.copy(), start.copy()
    bits, means = ops.feedback_binarize(grad, together, 0.7, scale, gamma)
    wanted_bits, wanted_means = ops.carry_binarize(grad, apart, 0.7, gamma)
    ops.carry_settle(apart, wanted_bits, scale, gamma)
    same(bits, wanted_bits, "bits")
    same(means, wanted_means, "means")
    same(together, apart, "carried")


def test_given_outputs_are_filled_and_returned(rng: np.random.Generator) -> None:
    grad, carried, scale = floats(rng, 70), floats(rng, 70), np.ones(2, np.float32)
    bits, means = np.full(2, 7, np.uint64), np.full(2, 7, np.float32)
    wanted = reference.feedback_binarize(grad, carried.copy(), 0.5, scale, 64)
    got = ops.feedback_binarize(grad, carried, 0.5, scale, 64, out_bits=bits, out_means=means)
    assert got[0] is bits and got[1] is means
    same(bits, wanted[0], "bits")
    same(means, wanted[1], "means")
    assert ops.segment_means(grad[None], 64, out=means[None]).base is means
    same(means, reference.segment_means(grad[None], 64)[0], "means alone")


@pytest.mark.parametrize("n", [1, 9, 17, 65, 100])
def test_an_infinite_weight_harms_no_lane_behind_the_end(n: int) -> None:
    """Zeros that fill up a register times infinity would be NaN in a mean of infinities."""
    scale = np.ones(1, np.float32)
    for feedback in (False, True):
        carried = np.zeros(n, np.float32)
        grad = np.ones(n, np.float32)
        if feedback:
            _, means = ops.feedback_binarize(grad, carried, np.inf, scale, n)
        else:
            _, means = ops.carry_binarize(grad, carried, np.inf, n)
        assert means.tolist() == [np.inf]


@pytest.mark.parametrize("bad", [np.nan, -np.nan])
@pytest.mark.parametrize("k", [1, 70, 256])
def test_a_nan_is_never_a_silent_one(bad: float, k: int, rng: np.random.Generator) -> None:
    """Its bit is 0, its segment's scale NaN, and so is every product with the segment."""
    for beta in (1, 16, 64, 100, k):
        for at in {0, k // 2, k - 1}:
            x = rng.standard_normal((2, k), np.float32)
            x[1, at] = bad
            for coding in ("signed", "unipolar"):
                words, scales = getattr(ops, f"pack_{coding}")(x, beta)
                assert reference.unpack_bits(words, k)[1, at] == 0
                assert np.flatnonzero(np.isnan(scales)).tolist() == [
                    scales.shape[1] + at // min(beta, k)
                ]
                if coding == "signed":
                    back = ops.unpack_signed(words, scales, beta, k)
                    assert np.isnan(back[1, at]) and not np.isnan(back[0]).any()
                w = ops.pack_signed(np.ones((3, k), np.float32), beta)
                product = getattr(ops, f"product_{coding}")(words, scales, beta, *w, beta, k)
                assert np.isnan(product[1]).all() and np.isfinite(product[0]).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_an_infinity_keeps_its_sign_and_makes_its_scale_infinite(sign: int) -> None:
    x = np.ones((1, 130), np.float32)
    x[0, 70] = sign * np.inf
    words, scales = ops.pack_signed(x, 64)
    assert reference.unpack_bits(words, 130)[0, 70] == (sign > 0)
    assert scales.tolist() == [[1.0, np.inf, 1.0]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("gamma", [64, 100, 300])
def test_a_gradient_that_is_not_finite_shows_in_its_mean(bad: float, gamma: int) -> None:
    n, at = 300, 123
    grad = np.ones(n, np.float32)
    grad[at] = bad
    scale = np.ones(layout.segments(n, gamma), np.float32)
    _, together = ops.feedback_binarize(grad, np.zeros(n, np.float32), 1.0, scale, gamma)
    _, apart = ops.carry_binarize(grad, np.zeros(n, np.float32), 1.0, gamma)
    for means in (together, apart, ops.segment_means(grad[None], gamma)[0]):
        assert np.flatnonzero(~np.isfinite(means)).tolist() == [at // gamma]
