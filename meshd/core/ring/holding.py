"""What a member holds of a job's state, as `RingMember` asks for it; the numbers are elsewhere."""

from __future__ import annotations

from typing import Protocol

from meshd.core.ring.agreement import Cargo
from meshd.core.ring.replica import Payload, Replica


class Holding(Replica, Protocol):
    """A member's share of the state, and the last step's results."""

    def held(self) -> tuple[int, ...]:
        """Slices whose state is here, after the committed steps."""
        ...

    def going(self) -> tuple[int, ...]:
        """Slices that are held, but not moved by this ring's steps: gone with the next commit."""
        ...

    def forget(self) -> None:
        """The state here is not the ring's: all that is needed will come."""
        ...

    def adopt(self, held: tuple[int, ...]) -> None:
        """From the next commit on only these slices' states are kept here."""
        ...

    def past(self, chunk: int, decided: bool) -> Payload:
        """A chunk's result in the last committed step: the decision, or what was finished.

        Chunks are those of the ring that committed it.
        """
        ...

    def load(self, cargo: Cargo, index: int) -> Payload:
        """Something of the committed state, for another member. CARRIED is gone from here then:
        it may get lost on the way, but never count twice."""
        ...

    def store(self, cargo: Cargo, index: int, payload: Payload) -> None:
        """Something of the committed state, from another member. BadPayloadError."""
        ...
