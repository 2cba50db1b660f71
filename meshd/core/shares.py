"""Which samples a member computes at a step: whoever comes and goes, each is used once an epoch.

The order of an epoch is a function of (seed, epoch) alone; step t of an epoch takes the next B
samples of it, and the members cut those B among them by rank, in proportion to their weights: whole
numbers that everybody holds alike (`ring/pace.py` says where they come from).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace


@dataclass(frozen=True)
class StepPlace:
    """Where a step lies: its epoch, and samples [start, stop) of the epoch's order."""

    epoch: int
    start: int
    stop: int


def steps_per_epoch(samples: int, batch: int) -> int:
    """The last step of an epoch takes what is left."""
    return -(-samples // batch)


def place_of(step: int, samples: int, batch: int) -> StepPlace:
    """The samples of a step, counted from 0 over all epochs."""
    epoch, within = divmod(step, steps_per_epoch(samples, batch))
    return StepPlace(epoch, within * batch, min((within + 1) * batch, samples))


def equal_weights(size: int) -> tuple[int, ...]:
    """Members that compute alike."""
    return (1,) * size


def cut(count: int, weights: Sequence[int]) -> tuple[int, ...]:
    """Cut `count` samples into parts in proportion to the members' weights.

    Each gets the whole samples of its quota, count w / sum w; each sample that is left goes to the
    member that would be done first, the least (part + 1) / w (Jefferson's method): the longest
    part / w is as short as whole samples allow, so no slow member is rounded up. Members of weight
    0 get none. Where weights are equal, those get one more that [r count / N] counts it for.

    Raises:
        ValueError: no weight is positive, or one is negative.
    """
    total = sum(weights)
    if total < 1 or min(weights) < 0:
        raise ValueError(f"weights {tuple(weights)}: none may be negative, nor all of them 0")
    size = len(weights)
    parts = [count * weight // total for weight in weights]

    def turn(rank: int) -> tuple[float, bool, int]:
        is_counted = (rank + 1) * count // size - rank * count // size > count // size
        return (parts[rank] + 1) / weights[rank], not is_counted, rank

    turns = [turn(rank) for rank in range(size) if weights[rank]]
    heapify(turns)
    for _ in range(count - sum(parts)):
        rank = turns[0][2]
        parts[rank] += 1
        heapreplace(turns, turn(rank))
    return tuple(parts)


def share_of(place: StepPlace, rank: int, weights: Sequence[int]) -> tuple[int, int]:
    """A member's samples [start, stop) of the epoch's order; `weights`: all members' by rank.

    Raises:
        ValueError: see `cut`.
    """
    parts = cut(place.stop - place.start, weights)
    start = place.start + sum(parts[:rank])
    return start, start + parts[rank]
