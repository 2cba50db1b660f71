"""Deadlines follow what was observed, and one frozen machine does not stretch them."""

from __future__ import annotations

import pytest

from meshd.core.ring.deadline import CEILING_S, DEFAULT_S, FLOOR_S, RELAXED_S, Deadline


def after(*seconds: float) -> Deadline:
    deadline = Deadline()
    for one in seconds:
        deadline.observe(one)
    return deadline


@pytest.mark.parametrize(
    ("observed", "expected"),
    [
        ((), DEFAULT_S),
        ((0.0,), FLOOR_S),
        ((0.04,), 0.04 + FLOOR_S + 0.02),
        ((1.0,), 1.0 + 4 * 0.5),  # RFC 6298: deviation x / 2 at first
        ((1.0, 2.0), 1.125 + 4 * 0.625),
        ((2.0,) * 60, 2.0 + FLOOR_S + 1.0),  # steady: no deviation is left, half a step is
        ((20.0,), 20.0 + CEILING_S),
        ((100.0,), 200.0),  # slow steps: twice as long at the most
        ((0.04,) * 9 + (30.0,), 0.105 + FLOOR_S + 0.0525),  # counts as the limit then: 0.56
    ],
)
def test_limits(observed: tuple[float, ...], expected: float) -> None:
    assert after(*observed).limit() == pytest.approx(expected, rel=1e-3)


def test_the_estimate_is_relaxed_after_a_change_and_tightens_again() -> None:
    deadline = after(*(0.04,) * 40)
    steady = deadline.limit()
    deadline.relax()
    assert deadline.limit() == pytest.approx(0.04 + RELAXED_S)
    for _ in range(20):
        before = deadline.limit()
        deadline.observe(0.04)
        assert deadline.limit() <= before
    assert deadline.limit() == steady


@pytest.mark.parametrize("mean", [0.3, 3.0, 300.0])
def test_relaxing_never_shortens(mean: float) -> None:
    deadline = after(*(mean,) * 40)
    before = deadline.limit()
    deadline.relax()
    assert deadline.limit() >= before
    fresh = Deadline()
    fresh.relax()
    assert fresh.limit() == DEFAULT_S


@pytest.mark.parametrize(("times", "most"), [(2, 0), (10, 4), (1000, 20)])
def test_a_lasting_slowdown_is_learnt(times: float, most: int) -> None:
    deadline = after(*(0.1,) * 40)
    late = 0
    while deadline.limit() < 0.1 * times:
        deadline.observe(0.1 * times)
        late += 1
    assert late <= most


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_impossible_durations_are_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="cannot take"):
        Deadline().observe(seconds)
