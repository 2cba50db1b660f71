"""One running step as a machine: gradients and frames come in, frames go out, chunks get settled.

    open(bucket)                 this member's gradient of a bucket is there
    receive(phase, chunk, hop, payload)
    drain()                      frames to send, in order
    settled, complete            chunks whose result is staged here; whether all are

It asks a `Replica` for the numbers and keeps none. Frames that come before this member's own part
of their bucket wait. Each chunk comes here at most twice, once in each direction, at hops that
follow from the ranks alone: anything else is a `BadPayloadError`, a repetition is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass

from meshd.core.ring.replica import BadPayloadError, Payload, Replica
from meshd.core.ring.route import Phase, Route


@dataclass(frozen=True)
class StepFrame:
    """One payload to the member of rank `to`."""

    to: int
    phase: Phase
    chunk: int
    hop: int
    payload: Payload


class RingStep:
    """One step of one member; made anew for each attempt."""

    def __init__(self, route: Route, replica: Replica) -> None:
        self.route = route
        self.settled: set[int] = set()
        """Chunks whose result is staged."""
        self.repeated = 0
        """Frames that came twice."""
        self._replica = replica
        self._wanted = set(route.every_chunk())
        self._opened: set[int] = set()
        self._reduced: set[int] = set()
        """Chunks whose partial result came here, or began here."""
        self._early: dict[int, list[tuple[int, int, Payload]]] = {}
        """Bucket -> (chunk, hop, payload) that came before the bucket was opened."""
        self._parts: dict[int, dict[int, Payload]] = {}
        """Direct: chunk -> sender's rank -> its part."""
        self._out: list[StepFrame] = []

    @property
    def complete(self) -> bool:
        """Whether every chunk is settled: the step may be committed."""
        return len(self.settled) == len(self._wanted)

    @property
    def opened(self) -> bool:
        """Whether all of this member's own parts are in."""
        return len(self._opened) == self.route.buckets

    def drain(self) -> list[StepFrame]:
        """Frames to send since the last call."""
        frames, self._out = self._out, []
        return frames

    # --- reduce ----------------------------------------------------------------------------------

    def open(self, bucket: int) -> None:
        """The bucket's gradient is there: vote, then take in what waited for it."""
        if bucket in self._opened or not 0 <= bucket < self.route.buckets:
            raise ValueError(f"bucket {bucket} is opened already, or there is none")
        self._opened.add(bucket)
        self._replica.open(bucket)
        for chunk in self.route.chunks(bucket):
            if self.route.size == 1:
                self._decide(chunk, self._replica.own(chunk))
            elif self.route.direct:
                self._send_directly(chunk)
            elif self.route.starts(chunk):
                self._reduced.add(chunk)
                self._send_on(Phase.REDUCE, chunk, 0, self._replica.own(chunk))
        for chunk, hop, payload in self._early.pop(bucket, []):
            self._add(chunk, hop, payload)

    def _send_directly(self, chunk: int) -> None:
        owner = self.route.owner(chunk)
        if owner == self.route.rank:
            self._decide_if_all(chunk)
        else:
            payload = self._replica.own(chunk)
            self._out.append(StepFrame(owner, Phase.REDUCE, chunk, self.route.rank, payload))

    def receive(self, sender: int, phase: Phase, chunk: int, hop: int, payload: Payload) -> None:
        """A frame of this step, from the member of rank `sender`.

        Raises:
            BadPayloadError: no sound member sends this here.
        """
        if chunk not in self._wanted:
            raise BadPayloadError(f"chunk {chunk} is none of this step")
        if phase is Phase.REDUCE:
            self._on_reduce(sender, chunk, hop, payload)
        elif phase in (Phase.DECISION, Phase.FINISHED):
            self._on_gather(sender, phase, chunk, hop, payload)
        else:
            raise BadPayloadError(f"a {phase.name.lower()} frame is no part of a step")

    def _on_reduce(self, sender: int, chunk: int, hop: int, payload: Payload) -> None:
        route = self.route
        if route.direct:
            sound = route.owner(chunk) == route.rank and hop == sender != route.rank
            known = hop in self._parts.get(chunk, {}) or chunk in self.settled
        else:
            sound = sender == route.predecessor() and hop == route.reduce_hop(chunk)
            known = chunk in self._reduced
        if not sound:
            raise BadPayloadError(f"a part of chunk {chunk} at hop {hop} does not come here")
        if known:
            self.repeated += 1
            return
        if route.direct:
            self._parts.setdefault(chunk, {})[sender] = payload
            self._decide_if_all(chunk)
            return
        self._reduced.add(chunk)
        if route.bucket(chunk) in self._opened:
            self._add(chunk, hop, payload)
        else:
            self._early.setdefault(route.bucket(chunk), []).append((chunk, hop, payload))

    def _add(self, chunk: int, hop: int, payload: Payload) -> None:
        total = self._replica.add(chunk, payload, hop + 1)
        if self.route.owner(chunk) == self.route.rank:
            self._decide(chunk, total)
        else:
            self._send_on(Phase.REDUCE, chunk, hop + 1, total)

    def _decide_if_all(self, chunk: int) -> None:
        """Direct: all parts are here, also the own one; they are added in ring order."""
        parts = self._parts.get(chunk, {})
        if self.route.bucket(chunk) not in self._opened or len(parts) < self.route.size - 1:
            return
        del self._parts[chunk]
        total = self._replica.own(chunk)
        for voters in range(1, self.route.size):
            sender = (self.route.rank + voters) % self.route.size
            try:
                total = self._replica.merge(chunk, total, voters, parts[sender])
            except BadPayloadError as error:
                raise BadPayloadError(str(error), sender) from None
        self._decide(chunk, total)

    # --- gather ----------------------------------------------------------------------------------

    def _decide(self, chunk: int, total: Payload) -> None:
        decision = self._replica.decide(chunk, total)
        self.settled.add(chunk)
        if self.route.size > 1:
            self._pass(chunk, -1, decision)

    def _pass(self, chunk: int, hop: int, decision: Payload) -> None:
        """Send a result on that was taken here as a decision (hop -1: made here)."""
        if not self.route.sends_on(hop):
            return
        phase = self.route.gather_phase(hop + 1)
        payload = decision if phase is Phase.DECISION else self._replica.finished(chunk)
        self._send_on(phase, chunk, hop + 1, payload)

    def _on_gather(self, sender: int, phase: Phase, chunk: int, hop: int, payload: Payload) -> None:
        route = self.route
        if sender != route.predecessor() or hop != route.gather_hop(chunk):
            raise BadPayloadError(f"chunk {chunk} does not come here at hop {hop}")
        if phase is not route.gather_phase(hop):
            raise BadPayloadError(f"chunk {chunk} comes as {phase.name.lower()} at hop {hop}")
        if self.settle(phase, chunk, payload):
            if phase is Phase.DECISION:
                self._pass(chunk, hop, payload)
            elif route.sends_on(hop):
                self._send_on(phase, chunk, hop + 1, payload)

    def settle(self, phase: Phase, chunk: int, payload: Payload) -> bool:
        """Take in a chunk's result; False if it is known already.

        Also what brings a member up to date that was left behind: then nothing is sent on.
        """
        if chunk in self.settled:
            self.repeated += 1
            return False
        if not self.opened_for(chunk):
            raise BadPayloadError(f"chunk {chunk} is decided without this member's part")
        if phase is Phase.DECISION:
            self._replica.take_decision(chunk, payload)
        else:
            self._replica.take_finished(chunk, payload)
        self.settled.add(chunk)
        return True

    def can_settle(self, phase: Phase, chunk: int) -> bool:
        """Whether such a result is enough here: who holds a chunk has to have its decision.

        Raises:
            BadPayloadError: there is no such chunk, or a decision of it is not for this member.
        """
        if chunk not in self._wanted:
            raise BadPayloadError(f"chunk {chunk} is none of this step")
        if phase is Phase.DECISION and not self.route.holds(chunk):
            raise BadPayloadError(f"chunk {chunk} is not held here, and comes as a decision")
        return chunk in self.settled or phase is Phase.DECISION or not self.route.holds(chunk)

    def opened_for(self, chunk: int) -> bool:
        """Whether this member's own part of the chunk's bucket is in."""
        return self.route.bucket(chunk) in self._opened

    def _send_on(self, phase: Phase, chunk: int, hop: int, payload: Payload) -> None:
        self._out.append(StepFrame(self.route.successor(), phase, chunk, hop, payload))
