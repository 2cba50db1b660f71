"""Which samples a member computes at a step: whoever comes and goes, each is used once an epoch.

The order of an epoch is a function of (seed, epoch) alone; step t of an epoch takes the next B
samples of it, and the members cut those B among them by rank.
"""

from __future__ import annotations

from dataclasses import dataclass


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


def share_of(place: StepPlace, rank: int, size: int) -> tuple[int, int]:
    """A member's samples [start, stop) of the epoch's order; shares differ by one at the most."""
    count = place.stop - place.start
    return place.start + rank * count // size, place.start + (rank + 1) * count // size
