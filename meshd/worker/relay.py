"""What the ring thread tells its daemon, as the messages that go to captains."""

from __future__ import annotations

from meshd.core.messages import RingAck, RingComplaint
from meshd.core.ring.effects import Answer, Complaint
from meshd.core.ring.wire_forms import ack_message, complaint_message
from meshd.core.types import Generation, JobId
from meshd.worker.lifeline import Lifeline


class Relay:
    """Of one attempt of one job."""

    def __init__(self, lifeline: Lifeline, job: JobId, generation: Generation) -> None:
        self._lifeline = lifeline
        self._job = job
        self._generation = generation

    def tell(self, effect: Answer | Complaint) -> None:
        """Send it; the daemon knows whom."""
        self._lifeline.send(self._message(effect))

    def _message(self, effect: Answer | Complaint) -> RingAck | RingComplaint:
        if isinstance(effect, Answer):
            return ack_message(self._job, self._generation, effect.ack, effect.to)
        return complaint_message(self._job, self._generation, effect)
