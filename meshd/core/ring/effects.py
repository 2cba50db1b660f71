"""What a ring member asks for, and what it tells the thread that computes."""

from __future__ import annotations

from dataclasses import dataclass

from meshd.core.ring.agreement import Ack, Plan, RingId, RingMark
from meshd.core.ring.replica import Payload
from meshd.core.ring.route import Phase
from meshd.core.types import MachineKey


@dataclass(frozen=True)
class FrameHead:
    """What names a frame. index: a chunk, a slice, or the kind of a gathering."""

    ring: RingMark
    phase: Phase
    step: int
    index: int
    hop: int


@dataclass(frozen=True)
class SendFrame:
    """Hand a frame to the link to this machine."""

    to: MachineKey
    head: FrameHead
    payload: Payload


@dataclass(frozen=True)
class Answer:
    """Send this ACK to the captain that asked; where an older ring was asked for than has been
    promised already, the ACK names that one."""

    to: MachineKey
    ack: Ack


@dataclass(frozen=True)
class Complaint:
    """This ring cannot go on, as far as this member sees. `about`: a member that is silent or sends
    what cannot be; empty where none is known."""

    ring: RingId
    about: MachineKey
    why: str


@dataclass(frozen=True)
class Committed:
    """The step with this number is committed: the state is that after `step` + 1 steps."""

    step: int


@dataclass(frozen=True)
class Gathered:
    """All members' payloads of one gathering, by rank."""

    kind: int
    step: int
    payloads: tuple[bytes, ...]


@dataclass(frozen=True)
class Reformed:
    """A new ring is complete here: go on from its step; what was asked before is void."""

    plan: Plan
    rank: int


@dataclass(frozen=True)
class Dismissed:
    """The new ring does not have this member, and it has handed over what was asked of it."""

    plan: Plan


MemberEffect = SendFrame | Answer | Complaint | Committed | Gathered | Reformed | Dismissed
