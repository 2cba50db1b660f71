"""What a running step asks of the numbers: one member's copy of a job's state, behind a protocol.

The ring decides which payload goes where; a replica knows what the bytes mean. The real ones lie in
`meshd/train` (votes, onebit, float32, ...); the simulation has one of small integers. Nothing of a
step touches the committed state before `commit`: until then `abort` forgets all of it.
"""

from __future__ import annotations

from typing import Protocol

Payload = bytes | memoryview


class BadPayloadError(Exception):
    """A payload that no sound member sends: what is wrong, in one clause.

    `sender`: the rank that it came from, where that is not the predecessor. `own`: it may as well
    be sound, and what it was held against here is not.
    """

    def __init__(self, what: str, sender: int | None = None, own: bool = False) -> None:
        super().__init__(what)
        self.sender = sender
        self.own = own


class Replica(Protocol):
    """The numbers of one member. Chunks are those of `meshd.core.ring.route`."""

    def open(self, bucket: int) -> None:
        """The bucket's gradient is there: take it in."""
        ...

    def own(self, chunk: int) -> Payload:
        """This member's part of a chunk, as a partial result of one voter."""
        ...

    def add(self, chunk: int, payload: Payload, voters: int) -> Payload:
        """Add this member's part to a partial result of `voters`. BadPayloadError."""
        ...

    def merge(self, chunk: int, total: Payload, voters: int, part: Payload) -> Payload:
        """Add another member's own part to a partial result of `voters`. BadPayloadError."""
        ...

    def decide(self, chunk: int, payload: Payload) -> Payload:
        """As owner: turn the partial result of all into the decision, and stage its effect."""
        ...

    def take_decision(self, chunk: int, payload: Payload) -> None:
        """Stage a decision's effect. BadPayloadError."""
        ...

    def finished(self, chunk: int) -> Payload:
        """A chunk of which a decision was taken (or made) here, for who holds none of its state."""
        ...

    def take_finished(self, chunk: int, payload: Payload) -> None:
        """Stage what is finished. BadPayloadError."""
        ...

    def commit(self) -> None:
        """Every chunk is staged: make it the state. The step's results stay for `past`."""
        ...

    def abort(self) -> None:
        """Forget the running step; the state is what the last commit left."""
        ...
