"""What a trainer asks of a ring: exchange a step's gradient, and gather small payloads.

Two kinds exist: the worker's ring, whose members come and go, and the members of one process joined
by queues (`LocalRing`), on which a whole ring is trained or tested without a socket.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Protocol

from meshd.core.ring.agreement import NO_RING, Plan, RingId
from meshd.core.ring.gathering import Gathering
from meshd.core.ring.ownership import own
from meshd.core.ring.replica import BadPayloadError, Payload
from meshd.core.ring.route import Phase
from meshd.core.ring.step import RingStep
from meshd.core.types import MachineKey
from meshd.train.errors import RingBrokenError
from meshd.train.holding import SliceHolding

LOCAL_PATIENCE_S = 60.0  # a neighbour thread that is silent so long has died or is deadlocked

Frame = tuple[int, int, Phase, int, int, bytes]
"""Sender's rank, step, phase, index, hop, payload."""


class Collective(Protocol):
    """A member's place in a ring. `plan` is the present one, and may change when a call fails."""

    plan: Plan
    rank: int
    elastic: bool
    """Whether members differ in speed and memory, come and go."""

    @property
    def size(self) -> int:
        """Members of the present ring."""
        ...

    def join(self, holding: SliceHolding) -> None:
        """Take part with this state; `plan` and `rank` are set from here on."""
        ...

    def begin(self) -> None:
        """The step `holding.step` begins."""
        ...

    def opened(self, bucket: int) -> None:
        """The gradient of a bucket is there: it may be sent."""
        ...

    def finish(self) -> None:
        """Wait until the step is committed.

        Raises:
            RingBrokenError: the ring cannot go on.
            ReformedError: another ring goes on from the state that `holding` has now.
        """
        ...

    def gather(self, kind: int, payload: bytes) -> tuple[bytes, ...]:
        """Every member's payload of this kind, by rank. Raises as `finish`."""
        ...

    def measured(self, speed: float) -> None:
        """This member computes so many samples a second; 0: not known."""
        ...

    def discard(self, why: str) -> None:
        """The state here is not the others': forget it and join again. Raises ReformedError."""
        ...


def first_plan(
    members: tuple[MachineKey, ...], holding: SliceHolding, ring: RingId = NO_RING
) -> Plan:
    """The ring of a job's start: everybody has everything, and owns as much as the others."""
    shape = holding.shape()
    speeds = dict.fromkeys(members, 1.0)
    ownership, _ = own(members, shape.copies, shape.sizes, shape.buckets, speeds)
    return Plan(ring, members, holding.step, (), ownership.owners, shape.copies, shape.shared)


class LocalMember:
    """One member of a `local_ring`; each runs in a thread of its own."""

    elastic = False

    def __init__(self, rank: int, links: list[queue.Queue[Frame | None]]) -> None:
        self.rank = rank
        self.bytes_sent = 0
        self.plan: Plan
        self._links = links
        self._early: list[Frame] = []
        self._holding: SliceHolding
        self._step: RingStep
        self.left = False

    @property
    def size(self) -> int:
        """As `Collective.size`."""
        return len(self._links)

    def join(self, holding: SliceHolding) -> None:
        """As `Collective.join`."""
        members = tuple(MachineKey(f"{rank:06}") for rank in range(self.size))
        self.plan = first_plan(members, holding)
        self._holding = holding
        holding.adopt(self.plan.held_by(self.rank))

    def begin(self) -> None:
        """As `Collective.begin`."""
        self._step = RingStep(self._holding.lay_out(self.plan, self.rank), self._holding)

    def opened(self, bucket: int) -> None:
        """As `Collective.opened`."""
        self._guarded(lambda: self._step.open(bucket))

    def finish(self) -> None:
        """As `Collective.finish`."""
        self._serve(lambda: self._step.complete, self._on_step)
        self._holding.commit()

    def gather(self, kind: int, payload: bytes) -> tuple[bytes, ...]:
        """As `Collective.gather`."""
        gathering = Gathering(kind, self.rank, self.size, payload)
        successor = (self.rank + 1) % self.size

        def pump() -> None:
            for hop, part in gathering.drain():
                self._send(successor, Phase.GATHER, kind, hop, part)

        def take(frame: Frame) -> bool:
            _, step, phase, index, hop, part = frame
            if (step, phase, index) != (self._holding.step, Phase.GATHER, kind):
                return False
            gathering.receive(hop, part)
            pump()
            return True

        pump()
        self._serve(lambda: gathering.complete, take)
        return gathering.payloads()

    def measured(self, speed: float) -> None:
        """As `Collective.measured`: here all are alike."""

    def discard(self, why: str) -> None:
        """As `Collective.discard`: here nobody else has what it would need."""
        raise RingBrokenError(why)

    def leave(self) -> None:
        """Tell the others that nothing more will come."""
        for rank, link in enumerate(self._links):
            if rank != self.rank and not self.left:
                link.put(None)
        self.left = True

    def _on_step(self, frame: Frame) -> bool:
        sender, step, phase, index, hop, payload = frame
        if step != self._holding.step or phase is Phase.GATHER:
            return False
        self._guarded(lambda: self._step.receive(sender, phase, index, hop, memoryview(payload)))
        return True

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except BadPayloadError as error:
            raise RingBrokenError(f"a member sent what cannot be: {error}") from None
        for frame in self._step.drain():
            self._send(frame.to, frame.phase, frame.chunk, frame.hop, frame.payload)

    def _send(self, to: int, phase: Phase, index: int, hop: int, payload: Payload) -> None:
        data = bytes(payload)
        self.bytes_sent += len(data)
        self._links[to].put((self.rank, self._holding.step, phase, index, hop, data))

    def _serve(self, done: Callable[[], bool], take: Callable[[Frame], bool]) -> None:
        """Take frames until it is done; what is for later waits."""
        early, self._early = self._early, []
        for frame in early:
            if not take(frame):
                self._early.append(frame)
        while not done():
            try:
                came = self._links[self.rank].get(timeout=LOCAL_PATIENCE_S)
            except queue.Empty:
                raise RingBrokenError("the other members send nothing") from None
            if came is None:
                self.leave()
                raise RingBrokenError("another member has left the ring")
            if not take(came):
                self._early.append(came)


def local_ring(size: int) -> list[LocalMember]:
    """Return `size` members joined by queues, each with one for all that comes to it."""
    links: list[queue.Queue[Frame | None]] = [queue.Queue() for _ in range(size)]
    return [LocalMember(rank, links) for rank in range(size)]
