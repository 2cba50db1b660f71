"""When a member speaks up: its pulse, and its patience with others. No fixed timeout anywhere.

*Silence.* Every member sends its successor a pulse each `PULSE_S`, also while it computes. Who has
not heard its predecessor, by pulse or by frame, for longer than the pauses so far make plausible,
says so: the machine is gone, frozen, or cut off. Slowness alone is no silence.

*Standstill.* All pulses come, but the step does not end: a frame was lost with a broken link. The
patience follows the steps so far and doubles each time that it was in vain, so that a ring whose
steps have become slow is not stopped for ever.
"""

from __future__ import annotations

from meshd.core.ring.deadline import Deadline

PULSE_S = 0.2
"""A few bytes five times a second; three of them missed are a second within which a person notices
nothing."""

SILENCE_FIRST_S, SILENCE_FLOOR_S, SILENCE_CEILING_S = 3.0, 0.5, 8.0
"""Beyond the usual pause at least 0.5 s: one lost packet and its retransmission take 0.2 to 0.4 s
(RFC 6298, with Linux's floor of 0.2 s). At most what a swapping machine needs to come back."""

STALL_FLOOR_S, STALL_CEILING_S = 2.0, 120.0
"""Lost frames are rare, and a new ring costs a step: better late. The first step of a network can
take a minute, since torch compiles and pages come in."""

ANSWER_S = 1.0
"""How long an ACK may be unanswered before it is repeated: COMMIT waits for the slowest ACK."""


class Vigil:
    """The times of one member; all in seconds of `now`."""

    def __init__(self) -> None:
        self._silence = Deadline(SILENCE_FIRST_S, SILENCE_FLOOR_S, SILENCE_CEILING_S)
        self._stall = Deadline(STALL_CEILING_S, STALL_FLOOR_S, STALL_CEILING_S)
        self._stopped_at = 0.0
        self._answered_at = 0.0
        self._pulse_at = 0.0
        self._heard_at = 0.0
        self._moved_at = 0.0
        self._committed_at: float | None = None
        self._patience = 1.0
        """Factor on the deadlines: doubled by each complaint that brought no step."""

    # --- what happened ---------------------------------------------------------------------------

    def stopped(self, now: float) -> None:
        """A proposal came."""
        self._stopped_at = now

    def answered(self, now: float) -> None:
        """An ACK was sent."""
        self._answered_at = now

    def reformed(self, now: float) -> None:
        """A plan came: silence and standstill are counted from here."""
        self._heard_at = self._moved_at = now
        self._stall.relax()
        self._pulse_at = now
        self._committed_at = None

    def heard(self, now: float) -> None:
        """The predecessor sent something."""
        self._silence.observe(max(0.0, now - self._heard_at))
        self._heard_at = now

    def moved(self, now: float) -> None:
        """Something of the step, gathering or filling happened."""
        self._moved_at = now

    def committed(self, now: float) -> None:
        """A step is committed."""
        if self._committed_at is not None:
            self._stall.observe(max(0.0, now - self._committed_at))
        self._committed_at = now
        self._patience = 1.0

    # --- what is due -----------------------------------------------------------------------------

    def answer_due(self, now: float) -> bool:
        """Whether to repeat the ACK."""
        return now - self._answered_at >= ANSWER_S

    def unanswered(self, now: float) -> bool:
        """Whether a repeated ACK brought nothing either: its captain may be no captain any more."""
        return now - self._stopped_at >= 2 * ANSWER_S

    def pulse_due(self, now: float) -> bool:
        """Whether to send a pulse; the next one is due after `PULSE_S`."""
        if now < self._pulse_at:
            return False
        self._pulse_at = now + PULSE_S
        return True

    def silent(self, now: float) -> bool:
        """Whether the predecessor has been silent too long; asked again only after as long."""
        if now - self._heard_at < self._silence.limit() * self._patience:
            return False
        self._heard_at = now
        return True

    def stalled(self, now: float) -> bool:
        """Whether nothing has moved for too long; asked again only after twice as long."""
        if now - self._moved_at < self._stall.limit() * self._patience:
            return False
        self._moved_at = now
        self._patience *= 2
        return True

    def answer_at(self) -> float:
        """When the ACK is to be repeated."""
        return self._answered_at + ANSWER_S

    def pulse_at(self) -> float:
        """When a pulse may be due, or the predecessor's silence."""
        return min(self._pulse_at, self._heard_at + self._silence.limit() * self._patience)

    def stall_at(self) -> float:
        """When patience with others ends."""
        return self._moved_at + self._stall.limit() * self._patience
