"""The thread of a worker that is the ring: frames, proposals and plans come in, frames go out.

The compute thread asks (`ask`) and waits (`next_event`); everything that the ring decides is
decided here, by one `RingMember`, so nothing of it is ever locked. While the compute thread is
inside a product, which holds no interpreter lock, frames travel.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from meshd.core.messages import RingMember as RingAddress
from meshd.core.ring.agreement import Plan, Proposal, RingMark
from meshd.core.ring.effects import (
    Answer,
    Committed,
    Complaint,
    Dismissed,
    FrameHead,
    Gathered,
    MemberEffect,
    Reformed,
    SendFrame,
)
from meshd.core.ring.member import RingMember
from meshd.core.ring.route import Phase
from meshd.core.types import MachineKey
from meshd.net.bulk import BulkLinks, LinkLost, Received
from meshd.wire.bulk import BulkHeader

Ask = Callable[[RingMember, float], None]
Event = Committed | Gathered | Reformed | Dismissed | BaseException

LONGEST_WAIT_S = 0.5  # a wait ends at the member's next timer, or when woken; this only bounds it


class RingThread:
    """Drives one member. `tell` hands an ACK or a complaint to the daemon."""

    def __init__(
        self,
        member: RingMember,
        links: BulkLinks,
        tell: Callable[[Answer | Complaint], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.member = member
        self.unknown = 0
        """Frames with a phase that this version does not know."""
        self.addresses: tuple[RingAddress, ...] = ()
        """The present ring's members, and where they listen."""
        self._links = links
        self._tell = tell
        self._clock = clock
        self._asked: queue.SimpleQueue[Ask] = queue.SimpleQueue()
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="ring", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; the links stay open for their owner to close."""
        self._stopping = True
        self._links.wake()
        self._thread.join()

    # --- from other threads ----------------------------------------------------------------------

    def ask(self, act: Ask) -> None:
        """Let the ring thread do this with the member, soon."""
        self._asked.put(act)
        self._links.wake()

    def propose(self, proposal: Proposal) -> None:
        """A captain asks for a new ring; its members may send from now on."""

        def act(member: RingMember, now: float) -> None:
            known = member.plan.order if member.plan else ()
            self._links.expect({*proposal.members, *known} - {member.me})
            member.propose(proposal, now)

        self.ask(act)

    def commit(self, plan: Plan, members: tuple[RingAddress, ...]) -> None:
        """A captain decided; `members` are where the plan's machines listen."""

        def act(member: RingMember, now: float) -> None:
            if plan.ring == member.promised:
                self.addresses = members
                self._links.reach([one for one in members if one.key != member.me])
            member.commit(plan, now)

        self.ask(act)

    def leave(self) -> None:
        """This member is to leave: its next ACK says so."""

        def act(member: RingMember, now: float) -> None:
            member.leaving = True

        self.ask(act)

    def next_event(self) -> Committed | Gathered | Reformed | Dismissed:
        """Wait for what the ring tells the compute thread; raises what went wrong in the ring."""
        event = self._events.get()
        if isinstance(event, BaseException):
            raise event
        return event

    # --- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._turn()
        except BaseException as error:  # whatever it is, the compute thread must not wait for ever
            self._events.put(error)

    def _turn(self) -> None:
        member = self.member
        left = min(member.next_timer() - self._clock(), LONGEST_WAIT_S)
        came = self._links.wait(max(0.0, left) if self._asked.empty() else 0.0)
        while not self._asked.empty():
            self._asked.get()(member, self._clock())
            self._perform(member.drain())
        for event in came:
            now = self._clock()
            if isinstance(event, LinkLost):
                member.link_lost(event.key, event.why)
            else:
                self._receive(event, now)
            self._perform(member.drain())
        member.handle_timer(self._clock())
        self._perform(member.drain())

    def _receive(self, event: Received, now: float) -> None:
        header = event.header
        try:
            phase = Phase(header.phase)
        except ValueError:
            self.unknown += 1
            return
        mark = RingMark(header.generation, header.tag)
        head = FrameHead(mark, phase, header.step, header.chunk, header.hop)
        self.member.receive(MachineKey(event.sender), head, event.payload, now)

    def _perform(self, effects: list[MemberEffect]) -> None:
        for effect in effects:
            if isinstance(effect, SendFrame):
                self._links.send(effect.to, _header(effect), effect.payload)
            elif isinstance(effect, Answer | Complaint):
                self._tell(effect)
            else:
                self._events.put(effect)


def _header(effect: SendFrame) -> BulkHeader:
    head = effect.head
    size = memoryview(effect.payload).nbytes
    return BulkHeader(
        int(head.phase), head.ring.generation, head.step, head.index, head.hop, size, head.ring.tag
    )
