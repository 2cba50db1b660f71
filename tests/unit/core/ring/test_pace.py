"""Shares follow speed, not noise; a straggler loses its share before its place."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.ring.pace import GAIN, Pace, Shares, is_straggler, reshare, share, step_seconds
from meshd.core.shares import cut

paces = st.builds(Pace, st.sampled_from([0.001, 0.003, 0.01, 0.2]), st.sampled_from([0.0, 0.1]))


def settle(shares: Shares, measured: list[Pace | None], batch: int) -> Shares:
    """The same measurements again and again."""
    for _ in range(40):
        shares, _ = reshare(shares, measured, batch)
    return shares


@given(st.lists(paces, min_size=1, max_size=4), st.integers(1, 8))
def test_the_step_is_the_shortest_of_all(measured: list[Pace], batch: int) -> None:
    shortest = min(
        step_seconds(parts, measured)
        for parts in itertools.product(range(batch + 1), repeat=len(measured))
        if sum(parts) == batch
    )
    weights = share(measured, batch).weights
    assert cut(batch, weights) == weights
    assert step_seconds(weights, measured) == pytest.approx(shortest)


@given(st.lists(paces, min_size=1, max_size=100), st.integers(1, 100_000))
def test_shares_are_the_whole_batch(measured: list[Pace], batch: int) -> None:
    assert sum(share(measured, batch).weights) == batch


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([0.01] * 4, (64, 64, 64, 64)),
        ([0.01, 0.03, 0.01, 0.01], (77, 25, 77, 77)),
        ([0.01, None, 0.01, 0.01], (64, 64, 64, 64)),  # not measured: the mean of the others
        ([0.01, 4.0, 0.01, 0.01], (86, 0, 85, 85)),  # one sample of it would take 4 s
        ([None] * 4, (64, 64, 64, 64)),
    ],
)
def test_shares_by_speed(seconds: list[float | None], expected: tuple[int, ...]) -> None:
    measured = [Pace(one) if one else None for one in seconds]
    assert cut(256, share(measured, 256).weights) == expected
    assert cut(256, settle(share([None] * 4, 256), measured, 256).weights) == expected


def test_a_member_that_is_late_however_few_its_samples_gets_fewer() -> None:
    """Ready at x = 0.7 all three: 60 x 0.01 + 0.1, twice, and 20 x 0.01 + 0.5."""
    measured = [Pace(0.01, 0.1), Pace(0.01, 0.5), Pace(0.01, 0.1)]
    assert cut(140, share(measured, 140).weights) == (60, 20, 60)


@given(st.lists(st.lists(st.floats(0.0098, 0.0102), min_size=4, max_size=4), max_size=20))
def test_noise_moves_nothing(rounds: list[list[float]]) -> None:
    shares = share([None] * 4, 4096)
    for seconds in rounds:
        shares, why = reshare(shares, [Pace(one) for one in seconds], 4096)
        assert why.startswith("shares stay: ")
    assert shares.weights == (1, 1, 1, 1)


def test_shares_move_once_the_gain_is_worth_it_and_say_why() -> None:
    shares = share([Pace(0.01)] * 4, 256)
    slow: list[Pace | None] = [Pace(0.01), Pace(0.03), Pace(0.01), Pace(0.01)]
    shares, why = reshare(shares, slow, 256)
    assert why == "shares move: a step of 0.96 s would take 0.7 s"
    once = cut(256, shares.weights)
    final = cut(256, settle(shares, slow, 256).weights)
    assert 64 > once[1] > final[1] > 0
    assert step_seconds(final, [p for p in slow if p]) <= 0.77 / (1 - GAIN)


def test_a_slow_member_loses_its_share_and_keeps_its_place() -> None:
    """It computes nothing, so nobody waits for it; unless its membership itself costs time."""
    slow = [Pace(0.01), Pace(9.0), Pace(0.01)]
    assert cut(100, share(slow, 100).weights)[1] == 0
    assert is_straggler(slow, 1, 100) == (
        False,
        "it stays: a step takes 0.5 s with it and its 0 samples, 0.5 without",
    )
    dropped, why = is_straggler(slow, 1, 100, per_member=0.1)
    assert dropped
    assert why == (
        "it costs more than it gives: a step takes 0.6 s with it and its 0 samples, 0.5 without"
    )


@given(st.lists(paces, min_size=2, max_size=5), st.integers(1, 300), st.data())
def test_nobody_is_dropped_before_its_share_is_gone(measured, batch, data) -> None:
    rank = data.draw(st.integers(0, len(measured) - 1))
    dropped, _ = is_straggler(measured, rank, batch)
    if share(measured, batch).weights[rank]:
        assert not dropped


def test_a_member_that_holds_all_up_is_dropped() -> None:
    late = [Pace(0.01), Pace(0.01, 3.0), Pace(0.01)]
    assert is_straggler(late, 1, 100)[0]
    assert not is_straggler(late, 0, 100)[0]
    assert not is_straggler([Pace(0.01), None], 1, 100)[0]
    assert not is_straggler([Pace(9.0, 9.0)], 0, 100)[0]


def test_equal_members_are_no_stragglers_however_dear_the_exchange() -> None:
    assert not is_straggler([Pace(0.01)] * 4, 0, 100, per_member=5.0)[0]


@pytest.mark.parametrize(
    "seconds", [(0.0, 0.0), (5e-324, 0.0), (float("nan"), 0.0), (1e7, 0.0), (1.0, -0.1)]
)
def test_impossible_paces_are_refused(seconds: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="must lie in"):
        Pace(*seconds)


def test_every_member_is_measured_or_said_not_to_be() -> None:
    with pytest.raises(ValueError, match="zip"):
        reshare(share([None] * 3, 10), [None] * 2, 10)
