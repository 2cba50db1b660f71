"""The worker's ring as a `Collective`: what the compute thread asks of the ring thread."""

from __future__ import annotations

from meshd.core.messages import RingMember as RingAddress
from meshd.core.ring.agreement import Plan, RingId
from meshd.core.ring.effects import Committed, Dismissed, Gathered, Reformed
from meshd.core.ring.member import RingMember
from meshd.train.errors import ReformedError
from meshd.train.holding import SliceHolding
from meshd.worker.ring_thread import Ask, RingThread


class DismissedError(Exception):
    """The ring goes on without this member, which has handed over what it had."""


class ElasticRing:
    """This worker's place in a ring whose members come and go. `attach` comes before its use."""

    elastic = True

    def __init__(self) -> None:
        self.plan: Plan
        self.rank = 0
        self._thread: RingThread
        self._holding: SliceHolding

    @property
    def size(self) -> int:
        """As `Collective.size`."""
        return len(self.plan.order)

    @property
    def addresses(self) -> tuple[RingAddress, ...]:
        """The present ring's members."""
        return self._thread.addresses

    def attach(self, thread: RingThread) -> None:
        """From here on this is the thread that is asked."""
        self._thread = thread

    def join(self, holding: SliceHolding) -> None:
        """As `Collective.join`: wait for the first ring."""
        self._holding = holding
        event = self._thread.next_event()
        while not isinstance(event, Reformed):
            event = self._next(event)
        self._take(event)

    def begin(self) -> None:
        """As `Collective.begin`."""
        ring = self.plan.ring
        self._thread.ask(lambda member, now: member.begin(ring, now))

    def opened(self, bucket: int) -> None:
        """As `Collective.opened`."""
        ring = self.plan.ring
        self._thread.ask(lambda member, now: member.opened(ring, bucket, now))

    def finish(self) -> None:
        """As `Collective.finish`."""
        self._await(Committed)

    def gather(self, kind: int, payload: bytes) -> tuple[bytes, ...]:
        """As `Collective.gather`."""
        ring = self.plan.ring
        self._thread.ask(_gather(ring, kind, payload))
        event = self._await(Gathered)
        assert isinstance(event, Gathered)  # noqa: S101 - `_await` was asked for it
        return event.payloads

    def measured(self, speed: float) -> None:
        """As `Collective.measured`: the captain hears it with the next ACK."""

        def act(member: RingMember, now: float) -> None:
            member.speed = speed

        self._thread.ask(act)

    def discard(self, why: str) -> None:
        """As `Collective.discard`."""
        ring = self.plan.ring
        self._thread.ask(lambda member, now: member.discard(ring, why))
        self._await(Committed)  # nothing is committed before the ring is another one

    def _await(self, kind: type) -> Committed | Gathered:
        """Wait for this kind of event.

        Raises:
            ReformedError: the ring changed; `plan`, `rank` and the holding's step are the new ones.
            DismissedError: the new ring does not have this member.
        """
        event = self._thread.next_event()
        while not isinstance(event, kind):
            if isinstance(event, Reformed):
                self._take(event)
                raise ReformedError
            event = self._next(event)
        assert isinstance(event, Committed | Gathered)  # noqa: S101 - the kinds there are
        return event

    def _next(self, event: object) -> Committed | Gathered | Reformed | Dismissed:
        """What comes after an event that nobody waits for."""
        if isinstance(event, Dismissed):
            raise DismissedError
        return self._thread.next_event()

    def _take(self, event: Reformed) -> None:
        self.plan, self.rank = event.plan, event.rank
        self._holding.step = event.plan.step


def _gather(ring: RingId, kind: int, payload: bytes) -> Ask:
    def act(member: RingMember, now: float) -> None:
        member.gather(ring, kind, payload, now)

    return act
