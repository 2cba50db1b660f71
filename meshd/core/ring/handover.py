"""What members send one another before a new ring goes on, as far as it needs no state of its own.

SLICE, WEIGHTS, CARRIED, STATISTICS: one frame for each transfer. PAST: the results of the last
step, a frame for each chunk, for a member of that ring that was left behind by it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from meshd.core.ring.agreement import Cargo, Plan, RingMark
from meshd.core.ring.effects import FrameHead
from meshd.core.ring.holding import Holding
from meshd.core.ring.replica import Payload
from meshd.core.ring.route import Phase, Route
from meshd.core.types import MachineKey

PHASES = {
    Cargo.SLICE: Phase.SLICE,
    Cargo.WEIGHTS: Phase.WEIGHTS,
    Cargo.CARRIED: Phase.CARRIED,
    Cargo.STATISTICS: Phase.STATISTICS,
}
CARGO = {phase: cargo for cargo, phase in PHASES.items()}


class Past(NamedTuple):
    """The last committed step: its number, and the route and order of the ring that committed it;
    a holding has its results."""

    number: int
    route: Route
    order: tuple[MachineKey, ...]


def past_frames(
    ring: RingMark, past: Past, receiver: MachineKey, holding: Holding
) -> Iterator[tuple[FrameHead, Payload]]:
    """The last step's results, as its ring brought them to the receiver.

    A holder that still lacks a chunk follows this member on the chunk's way, so this one holds it
    too; where this one does not, the result has come through the receiver, if it was asked before
    this one was brought here.
    """
    rank = past.order.index(receiver)
    for chunk in past.route.every_chunk():
        decided = past.route.holds(chunk, rank) and past.route.holds(chunk)
        phase = Phase.PAST_DECISION if decided else Phase.PAST_FINISHED
        yield FrameHead(ring, phase, past.number, chunk, 0), holding.past(chunk, decided)


def awaited(
    plan: Plan, me: MachineKey, wanted: Collection[tuple[Cargo, int, MachineKey]]
) -> MachineKey:
    """Who does not send what this member needs to go on; empty where it may wait itself.

    wanted: (cargo, index, donor) that have not come.
    """
    behind = {t.receiver: t.donor for t in plan.transfers if t.cargo is Cargo.PAST}
    donors = {behind[me]} if me in behind else {donor for _, _, donor in wanted}
    return min(donors - behind.keys(), default=MachineKey(""))
