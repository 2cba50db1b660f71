"""What the members of an elastic ring do between steps besides training: measure and watch.

*Pace*: each tells how long a sample took it, and all cut the batch alike (`core.ring.pace`).
*Watch*: each tells digests of what it holds, and all judge alike who differs (`core.ring.watch`).

Both are gatherings of a few bytes, at steps that follow from the step's number alone.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable

from meshd.core.ring.pace import LEAST_S, MOST_S, Pace, Shares, reshare, share
from meshd.core.ring.watch import judge
from meshd.core.shares import equal_weights
from meshd.core.types import MachineKey
from meshd.train.collective import Collective
from meshd.train.gatherings import Kind
from meshd.train.holding import SliceHolding

PACE_STEPS = 20
"""Steps between two measurements of speed: N - 1 hops of a few bytes cost less than a percent of
them, and shares follow an owner's browser within seconds."""

WATCH_STEPS = 100
"""Steps between two comparisons. What differs is wrong from then on, so it is worth finding soon;
to digest 30 MB of state takes as long as a step of a small network."""

SECONDS = struct.Struct("<d")


class Paces:
    """How a ring's steps are cut among its members. `batch`: samples of a whole step."""

    def __init__(self, batch: int, clock: Callable[[], float]) -> None:
        self._batch = batch
        self._clock = clock
        self._shares: Shares | None = None
        self._own: Pace | None = None
        self._seconds = 0.0
        self._samples = 0
        self._since = 0.0

    def forget(self) -> None:
        """The ring has changed: nobody's share is agreed on."""
        self._shares = None

    def weights(self, size: int) -> tuple[int, ...]:
        """What the members' shares are in proportion to."""
        return self._shares.weights if self._shares else equal_weights(size)

    def is_due(self, step: int) -> bool:
        """Whether members tell each other before this step."""
        return self._shares is None or step % PACE_STEPS == 0

    def begin(self) -> None:
        """A computation begins."""
        self._since = self._clock()

    def end(self, samples: int) -> None:
        """It is over: so many samples were computed."""
        self._seconds += self._clock() - self._since
        self._samples += samples

    def speed(self) -> float:
        """Samples a second, as far as they were measured; 0 if not."""
        return 1.0 / self._own.per_sample if self._own else 0.0

    def gather(self, collective: Collective) -> str:
        """Measure, tell, hear and cut anew; why shares moved or stayed. Raises as `gather`."""
        if self._samples:
            seconds = self._seconds / self._samples
            self._own = Pace(min(max(seconds, LEAST_S), MOST_S))
        own = self._own.per_sample if self._own else 0.0
        payloads = collective.gather(Kind.PACE, SECONDS.pack(own))
        self._seconds, self._samples = 0.0, 0
        paces = [_pace(payload) for payload in payloads]
        if self._shares is None:
            self._shares = share(paces, self._batch)
            return f"a new ring's shares are {self._shares.weights}"
        self._shares, why = reshare(self._shares, paces, self._batch)
        return why


def _pace(payload: bytes) -> Pace | None:
    """What a member told; None for nothing, or what cannot be."""
    if len(payload) != SECONDS.size:
        return None
    (seconds,) = SECONDS.unpack(payload)
    return Pace(seconds) if math.isfinite(seconds) and LEAST_S <= seconds <= MOST_S else None


def watch(collective: Collective, holding: SliceHolding) -> dict[MachineKey, str]:
    """Compare what all members hold: machine -> how it differs. Raises as `gather`."""
    payloads = collective.gather(Kind.HASH, holding.digests().pack())
    wrong = judge(collective.plan, payloads)
    return {collective.plan.order[rank]: what for rank, what in sorted(wrong.items())}
