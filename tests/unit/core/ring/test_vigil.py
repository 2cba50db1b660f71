"""When a member speaks up, by table: pulses, silence, standstill, an ACK without a plan."""

from __future__ import annotations

import itertools

import pytest

from meshd.core.ring.vigil import (
    ANSWER_S,
    PULSE_S,
    SILENCE_CEILING_S,
    SILENCE_FIRST_S,
    SILENCE_FLOOR_S,
    STALL_CEILING_S,
    STALL_FLOOR_S,
    Vigil,
)


def pulsed(seconds: float, every: float = PULSE_S) -> tuple[Vigil, float]:
    """A vigil whose predecessor was heard so often for so long, and the time of the last one."""
    vigil, now = Vigil(), 0.0
    vigil.reformed(now)
    while now < seconds:
        now += every
        vigil.heard(now)
    return vigil, now


@pytest.mark.parametrize(
    ("every", "limit"),
    [
        (None, SILENCE_FIRST_S),  # nothing was heard yet
        (PULSE_S, PULSE_S + SILENCE_FLOOR_S + PULSE_S / 2),
        (0.01, 0.01 + SILENCE_FLOOR_S + 0.005),  # frames come all the time
        (2.0, 2.0 + SILENCE_FLOOR_S + 1.0),  # a machine that is slow to send, but does
        (20.0, 20.0 + 0.0 + 10.5),  # half of what is usual, whatever the ceiling
    ],
)
def test_silence(every: float | None, limit: float) -> None:
    vigil, now = pulsed(0.0) if every is None else pulsed(40 * every, every)
    assert not vigil.silent(now + limit - 0.01)
    assert vigil.pulse_at() <= now + limit + 0.01
    assert vigil.silent(now + limit + 0.01)
    assert not vigil.silent(now + limit + 0.02)  # said once


def test_silence_is_said_again_after_as_long() -> None:
    vigil, now = pulsed(10.0)
    said = [t for t in range(500) if vigil.silent(now + t / 100)]
    assert [b - a for a, b in itertools.pairwise([0, *said])] == pytest.approx([80] * 6, abs=3)


def test_the_ceiling_of_silence_binds_where_pauses_vary() -> None:
    vigil, now = Vigil(), 0.0
    vigil.reformed(now)
    for pause in (0.1, 30.0, 0.1, 30.0, 0.1, 30.0, 0.1, 30.0):
        now += pause
        vigil.heard(now)
    assert vigil.silent(now + 2 * SILENCE_CEILING_S)


def steps(count: int, seconds: float) -> tuple[Vigil, float]:
    vigil, now = Vigil(), 0.0
    vigil.reformed(now)
    for _ in range(count):
        now += seconds
        vigil.moved(now)
        vigil.committed(now)
    return vigil, now


@pytest.mark.parametrize(
    ("seconds", "limit"),
    [
        (0.1, 0.1 + STALL_FLOOR_S + 0.05),
        (4.0, 4.0 + STALL_FLOOR_S + 2.0),
        (200.0, 200.0 + 102.0),
    ],
)
def test_standstill(seconds: float, limit: float) -> None:
    vigil, now = steps(60, seconds)
    assert not vigil.stalled(now + limit - 0.05)
    assert vigil.stall_at() == pytest.approx(now + limit, rel=1e-3)
    assert vigil.stalled(now + limit + 0.05)


def test_the_first_step_may_take_long() -> None:
    vigil = Vigil()
    vigil.reformed(0.0)
    assert not vigil.stalled(STALL_CEILING_S - 0.1)
    assert vigil.stalled(STALL_CEILING_S)


def test_patience_doubles_until_a_step_is_committed() -> None:
    vigil, now = steps(60, 0.1)
    waits = []
    for _ in range(4):
        since = now
        while not vigil.stalled(now):
            now += 0.01
        waits.append(now - since)
    assert [round(wait / waits[0]) for wait in waits] == [1, 2, 4, 8]
    vigil.committed(now)
    vigil.moved(now)
    vigil.reformed(now)
    assert vigil.stall_at() - now < 2 * waits[0] + 1


def test_pulses() -> None:
    vigil = Vigil()
    vigil.reformed(1.0)
    assert vigil.pulse_due(1.0)
    assert not vigil.pulse_due(1.0 + PULSE_S - 0.01)
    assert vigil.pulse_due(1.0 + PULSE_S)


def test_an_ack_is_repeated_and_then_complained_about() -> None:
    vigil = Vigil()
    vigil.stopped(5.0)
    vigil.answered(5.0)
    assert vigil.answer_at() == 5.0 + ANSWER_S
    assert not vigil.answer_due(5.0 + ANSWER_S - 0.01)
    assert vigil.answer_due(5.0 + ANSWER_S)
    vigil.answered(5.0 + ANSWER_S)
    assert not vigil.unanswered(5.0 + ANSWER_S)
    assert vigil.unanswered(5.0 + 2 * ANSWER_S)
