"""Turns are interleaved, spread evenly, and as many as there is time for; no test reads a clock."""

from __future__ import annotations

import pytest

from meshd.bench import timing
from meshd.bench.timing import Effort, Turn, calls, interleave, schedule


class Clock:
    """Time that passes only when a competitor lets it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.log: list[str] = []
        monkeypatch.setattr(timing.time, "perf_counter", lambda: self.now)

    def turn(self, name: str, seconds: float, once: bool = False) -> Turn:
        def call() -> None:
            self.now += seconds
            self.log.append(name)

        return Turn(call, lambda: self.log.append(f"before {name}"), once)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_another_clock_may_be_read(clock: Clock) -> None:
    """One on which time passes twice as fast."""
    effort = Effort(3.0, clock=lambda: 2 * clock.now)
    times = interleave({"a": clock.turn("a", 0.25)}, effort)
    assert times["a"].best == pytest.approx(0.5)


def test_long_calls_alternate(clock: Clock) -> None:
    turns = {name: clock.turn(name, 0.5) for name in "ab"}
    times = interleave(turns, Effort(3.0, least_turns=1))
    assert [len(times[name].seconds) for name in "ab"] == [3, 3]
    after_first = [name for name in clock.log if not name.startswith("before")][4:]
    assert after_first == ["a", "b"] * 3
    assert times["a"].best == times["a"].median == pytest.approx(0.5)


def test_a_turn_of_a_short_call_is_many_and_a_warm_one(clock: Clock) -> None:
    times = interleave({"a": clock.turn("a", 0.001)}, Effort(1.0, least_turns=1, most_turns=1))
    # Two to learn how long it takes; one untimed; two that fill a turn.
    assert clock.log == ["before a", "a"] * 2 + ["before a", "a", "a", "a"]
    assert times["a"].seconds == [pytest.approx(0.001)]


def test_what_may_run_once_a_turn_does(clock: Clock) -> None:
    turn = clock.turn("a", 0.0001, once=True)
    interleave({"a": turn}, Effort(1.0, least_turns=2, most_turns=2))
    assert clock.log == ["before a", "a"] * 4
    assert calls(turn, 0.0001) == (0, 1)


def test_what_takes_longer_than_its_share_runs_no_more(clock: Clock) -> None:
    times = interleave({"a": clock.turn("a", 5.0), "b": clock.turn("b", 0.1)}, Effort(1.0))
    assert times["a"].seconds == [5.0]
    assert len(times["b"].seconds) == 5


def test_turns_have_bounds(clock: Clock) -> None:
    effort = Effort(1.0, least_turns=4, most_turns=6)
    times = interleave({"a": clock.turn("a", 0.4), "b": clock.turn("b", 0.03)}, effort)
    assert [len(times[name].seconds) for name in "ab"] == [4, 6]


@pytest.mark.parametrize("wanted", [{"a": 3, "b": 7}, {"a": 0, "b": 2}, {"a": 5}, {}])
def test_a_schedule_is_complete_and_even(wanted: dict[str, int]) -> None:
    order = list(schedule(wanted))
    assert {name: order.count(name) for name in wanted} == wanted
    if wanted == {"a": 3, "b": 7}:
        halves = order[: len(order) // 2], order[len(order) // 2 :]
        assert all(1 <= half.count("a") <= 2 for half in halves)


def test_nothing_to_time() -> None:
    assert interleave({}, Effort(1.0)) == {}
