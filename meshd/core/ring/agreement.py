"""What captain and members say to each other when a ring changes: PROPOSE, ACK, COMMIT.

    captain                                        member
      PROPOSE(ring, members)        --->           stops its step where it is; from here on no frame
                                                   of an older ring counts
                                    <---  ACK      what it has: committed steps, slices, chunks
      COMMIT(plan)                  --->           undoes or completes its step, sends and receives
                                                   what the plan says, and goes on as the new ring

A step is committed only with every member's part in it, and a member takes part in one ring at a
time: so when all members of a new ring have answered, nothing can be committed in an older one that
they do not know of. The highest (generation, captain) wins.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import NamedTuple

from meshd.core.types import MachineKey

HISTORY_MAX = 64
"""Rings that a member remembers. One that committed steps fixes all before it, since its plan did:
so the last one tells states apart, and the others only how many steps two of them share."""


class RingMark(NamedTuple):
    """A ring as a frame's header names it; `tag`: 16 bits that tell captains apart."""

    generation: int
    tag: int


@dataclass(frozen=True, order=True)
class RingId:
    """What names one ring of a job; the higher one counts.

    salt: drawn anew by each process that is captain, so that one which was started again and knows
    nothing of its rings cannot name another one the same.
    """

    generation: int
    captain: MachineKey
    salt: int = 0

    @cached_property
    def mark(self) -> RingMark:
        """What frames bear of it."""
        name = b"%d " % self.salt + self.captain.encode()
        digest = hashlib.blake2b(name, digest_size=2, person=b"meshd ring tag")
        return RingMark(self.generation, int.from_bytes(digest.digest(), "big"))


NO_RING = RingId(0, MachineKey(""))
"""Before the first ring; the lineage of a state that came from the seed or a checkpoint."""


@dataclass(frozen=True)
class Proposal:
    """The captain asks these members to stop and to say what they have."""

    ring: RingId
    members: tuple[MachineKey, ...]


@dataclass(frozen=True)
class Ack:
    """What one member has.

    step: steps it has committed; -1: it has nothing.
    history: the last `HISTORY_MAX` rings that committed them, each with the first step number that
    it committed, in order; two members with the same step and history have the same state.
    running: the ring whose step number `step` it was computing, `NO_RING` if none.
    waits: it has done its part, and waited for others when it was stopped.
    past: the ring order of its last step, whose results it can hand on; empty if it cannot.
    held: slices whose state it holds; going: those of them that its running step does not move, and
    that are gone once it is committed.
    speed: samples a second, 0 where not measured. leaving: it will not be a member.
    """

    ring: RingId
    step: int
    history: tuple[tuple[RingId, int], ...] = ()
    running: RingId = NO_RING
    held: tuple[int, ...] = ()
    going: tuple[int, ...] = ()
    speed: float = 0.0
    leaving: bool = False
    waits: bool = False
    past: tuple[MachineKey, ...] = ()

    @property
    def lineage(self) -> RingId:
        """The ring that committed its last step."""
        return self.history[-1][0] if self.history else NO_RING


class Cargo(IntEnum):
    """What one transfer brings."""

    SLICE = 1
    """Latents and moments: of a slice that the receiver will hold."""
    WEIGHTS = 2
    """Binarized weights of a slice that it will not hold."""
    PAST = 3
    """The results of the last step, chunk by chunk, for one that was left behind by it."""
    CARRIED = 4
    """A leaver's carried error on one slice."""
    STATISTICS = 5
    """Running statistics of normalisation."""


@dataclass(frozen=True)
class Transfer:
    """One thing that one machine sends another before the ring goes on.

    index: the slice, of SLICE, WEIGHTS and CARRIED; else 0.
    """

    cargo: Cargo
    index: int
    donor: MachineKey
    receiver: MachineKey


@dataclass(frozen=True)
class Plan:
    """A new ring, complete: COMMIT's content.

    order: the members, by rank. step: committed steps from which it goes on. history: of that
    state. owners: rank of each slice's owner. copies: holders of each slice but the `shared` ones,
    which all members hold. weights: each rank's part of a batch. thrown_away: (machine,
    steps) that it has to forget, since the others' history is another one. barred: (machine,
    seconds) that lost its place for stopping rings, and for how long, for the next captain.
    """

    ring: RingId
    order: tuple[MachineKey, ...]
    step: int
    history: tuple[tuple[RingId, int], ...]
    owners: tuple[int, ...]
    copies: int
    shared: frozenset[int] = frozenset()
    weights: tuple[float, ...] = ()
    transfers: tuple[Transfer, ...] = ()
    thrown_away: tuple[tuple[MachineKey, int], ...] = ()
    barred: tuple[tuple[MachineKey, float], ...] = ()

    def fault(self) -> str:
        """What no plan can say, in one clause; empty if nothing."""
        members = set(self.order)
        if not self.order or len(members) != len(self.order):
            return "a ring has at least one member, and each of them once"
        if self.step < 0 or self.copies < 1:
            return "it is before the first step, or keeps no copy"
        if not self.owners or not all(0 <= rank < len(self.order) for rank in self.owners):
            return "a slice is nobody's"
        if any(t.receiver == t.donor for t in self.transfers):
            return "a machine is to send itself something"
        sent = {Cargo.SLICE, Cargo.WEIGHTS, Cargo.CARRIED}
        if any(t.cargo in sent and not 0 <= t.index < len(self.owners) for t in self.transfers):
            return "a transfer of no slice"
        return ""

    def holders(self, index: int) -> tuple[int, ...]:
        """Ranks that hold a slice: its owner and the next copies - 1 of the ring."""
        size = len(self.order)
        copies = size if index in self.shared else min(self.copies, size)
        return tuple((self.owners[index] + k) % size for k in range(copies))

    def held_by(self, rank: int) -> tuple[int, ...]:
        """Slices whose state a rank holds."""
        return tuple(i for i in range(len(self.owners)) if rank in self.holders(i))
