"""Shares follow measured speed: who computes how much of a step, and who is not worth waiting for.

A member of pace (t, d) is ready d + b t seconds after a step begins, with b samples. All are ready
together, at the time x, where

    sum_p max(0, (x - d_p) / t_p) = B          b_p = (x - d_p) / t_p, none for who has d_p >= x

which would be the shortest step if samples could be cut: members are taken in by d until the next
one's d_p >= x. Whole samples: somewhat fewer for each at first, then each sample to the member that
would be ready first with it, which is the shortest step (no other member could take it earlier).
Weights are these samples themselves, so that `cut` (`shares.py`) gives just them for a whole batch.
Only + - x / in a fixed order and comparisons are used, so all members find equal numbers.

Shares move only when the step becomes shorter by more than GAIN (hysteresis). A straggler's share
shrinks first, to nothing at last: then it computes no sample that anybody waits for, and times
itself on samples of its own. It is worth dropping only when the ring is faster without it even so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace

from meshd.core.shares import cut, equal_weights

SMOOTHING = 0.25
"""Weight of the newest measurement: most of a lasting change is seen after four."""

GAIN = 0.05
"""Part of a step's time that a change must save. Timings of equal machines differ by some percent;
shares that followed them would change at every measurement and save nothing."""

STRAGGLER_SHARE = 0.25
"""Of an equal share. Who computes more is no straggler, though a smaller ring might be faster: that
is a question of the job's size, and would be asked of every member alike."""

LEAST_S, MOST_S = 1e-9, 1e6
"""Seconds a sample that can be: paces come from other machines, and are divided by."""


@dataclass(frozen=True)
class Pace:
    """A member's measured speed.

    Raises:
        ValueError: seconds out of bounds.
    """

    per_sample: float
    """Seconds a sample, t >= LEAST_S."""

    fixed: float = 0.0
    """Seconds a step however few its samples, d >= 0: what the others wait for it besides."""

    def __post_init__(self) -> None:
        if not (LEAST_S <= self.per_sample <= MOST_S and 0 <= self.fixed <= MOST_S):
            raise ValueError(f"{self}: seconds must lie in {LEAST_S}..{MOST_S}, fixed ones from 0")


@dataclass(frozen=True)
class Shares:
    """How a ring cuts its steps, and what that rests on; both by rank."""

    weights: tuple[int, ...]
    paces: tuple[Pace | None, ...]
    """Smoothed; None: not measured yet, taken for the mean of the others."""


def share(paces: Sequence[Pace | None], batch: int) -> Shares:
    """The shares that make a step of `batch` samples shortest: for a new ring."""
    known = _known(paces)
    weights = _shortest(known, batch) if known else equal_weights(len(paces))
    return Shares(weights, tuple(paces))


def reshare(shares: Shares, measured: Sequence[Pace | None], batch: int) -> tuple[Shares, str]:
    """The shares after new measurements, and why they moved or did not.

    Args:
        shares: the ring's now.
        measured: what each member measured since the last time; None: nothing.
        batch: samples of a step.

    Raises:
        ValueError: a measurement too few or too many.
    """
    paces = tuple(_smooth(before, now) for before, now in zip(shares.paces, measured, strict=True))
    known = _known(paces)
    if not known:
        return Shares(shares.weights, paces), "shares stay: nothing is measured yet"
    weights = _shortest(known, batch)
    before = step_seconds(cut(batch, shares.weights), known)
    after = step_seconds(weights, known)
    what = f"a step of {before:.3g} s would take {after:.3g} s"
    if after >= before * (1 - GAIN):
        return Shares(shares.weights, paces), f"shares stay: {what}, less than {GAIN:.0%} saved"
    return Shares(weights, paces), f"shares move: {what}"


def step_seconds(parts: Sequence[int], paces: Sequence[Pace]) -> float:
    """When the last member is ready, seconds from the step's begin."""
    return max(pace.fixed + part * pace.per_sample for part, pace in zip(parts, paces, strict=True))


def is_straggler(
    paces: Sequence[Pace | None], rank: int, batch: int, per_member: float = 0.0
) -> tuple[bool, str]:
    """Whether the ring is faster without a member, by more than GAIN; and why.

    Both rings are given their best shares, so a member is one only after its share has shrunk as
    far as it helps, below STRAGGLER_SHARE at least. `per_member`: seconds that one more member adds
    to the exchange.
    """
    known = _known(paces)
    if len(known) < 2 or paces[rank] is None:
        return False, "it stays: alone, or not measured yet"
    rest = [*known[:rank], *known[rank + 1 :]]
    parts = _shortest(known, batch)
    with_it = step_seconds(parts, known) + per_member
    without = step_seconds(_shortest(rest, batch), rest)
    what = (
        f"a step takes {with_it:.3g} s with it and its {parts[rank]} samples, {without:.3g} without"
    )
    is_slow = parts[rank] <= STRAGGLER_SHARE * batch / len(parts)
    if is_slow and with_it > without * (1 + GAIN):
        return True, f"it costs more than it gives: {what}"
    return False, f"it stays: {what}"


def _smooth(before: Pace | None, now: Pace | None) -> Pace | None:
    if before is None or now is None:
        return now or before
    return Pace(
        before.per_sample + SMOOTHING * (now.per_sample - before.per_sample),
        before.fixed + SMOOTHING * (now.fixed - before.fixed),
    )


def _known(paces: Sequence[Pace | None]) -> list[Pace]:
    """Who is not measured is taken for the mean of the others; empty if nobody is."""
    measured = [pace for pace in paces if pace is not None]
    if not measured:
        return []
    per_sample = fixed = 0.0
    for pace in measured:
        per_sample += pace.per_sample
        fixed += pace.fixed
    mean = Pace(per_sample / len(measured), fixed / len(measured))
    return [pace or mean for pace in paces]


def _shortest(paces: Sequence[Pace], batch: int) -> tuple[int, ...]:
    """The parts of `batch` samples that make the step shortest."""
    order = sorted(range(len(paces)), key=lambda rank: (paces[rank].fixed, rank))
    speed = begun = ready = 0.0
    for rank in order:
        pace = paces[rank]
        if speed and pace.fixed >= ready:
            break
        speed += 1 / pace.per_sample
        begun += pace.fixed / pace.per_sample
        ready = (batch + begun) / speed
    # One less than the whole samples: no rounding of `ready` can make them more than there are.
    parts = [max(0, int((ready - pace.fixed) / pace.per_sample) - 1) for pace in paces]

    def turn(rank: int) -> tuple[float, int]:
        return paces[rank].fixed + (parts[rank] + 1) * paces[rank].per_sample, rank

    turns = [turn(rank) for rank in range(len(paces))]
    heapify(turns)
    for _ in range(batch - sum(parts)):
        rank = turns[0][1]
        parts[rank] += 1
        heapreplace(turns, turn(rank))
    return tuple(parts)
