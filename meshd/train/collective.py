"""The one thing that the exchanges ask of a network: swap a payload with both ring neighbours.

Two kinds exist: the worker's ZeroMQ ring, and the members of one process joined by queues
(`LocalRing`), on which a whole ring is trained or tested without a socket.
"""

from __future__ import annotations

import queue
from typing import Protocol

from meshd.core.schedule import Hop
from meshd.train.errors import RingBrokenError

Payload = bytes | memoryview
Frame = tuple[int, Hop, bytes]

LOCAL_PATIENCE_S = 60.0  # a neighbour thread that is silent so long has died or is deadlocked


class Collective(Protocol):
    """A member's place in a ring."""

    rank: int
    size: int

    def swap(self, step: int, hop: Hop, payload: Payload, expected_bytes: int) -> memoryview:
        """Send `payload` to the successor and return what the predecessor sent for this hop.

        Raises:
            RingBrokenError: another frame, or another length, than the schedule says.
        """
        ...


class LocalMember:
    """One member of a `LocalRing`; each runs in a thread of its own."""

    def __init__(
        self,
        rank: int,
        size: int,
        incoming: queue.Queue[Frame | None],
        outgoing: queue.Queue[Frame | None],
    ) -> None:
        self.rank = rank
        self.size = size
        self.bytes_sent = 0
        self._incoming = incoming
        self._outgoing = outgoing

    def swap(self, step: int, hop: Hop, payload: Payload, expected_bytes: int) -> memoryview:
        """As `Collective.swap`; the frame carries the hop as its sender sees it."""
        self._outgoing.put((step, hop, bytes(payload)))
        self.bytes_sent += len(payload)
        try:
            frame = self._incoming.get(timeout=LOCAL_PATIENCE_S)
        except queue.Empty:
            raise RingBrokenError("the predecessor sends nothing") from None
        if frame is None:
            self.leave()
            raise RingBrokenError("the predecessor has left the ring")
        got_step, got, data = frame
        wanted = (step, hop.phase, hop.hop, hop.receive_chunk, expected_bytes)
        if (got_step, got.phase, got.hop, got.send_chunk, len(data)) != wanted:
            raise RingBrokenError(f"expected {wanted}, heard {got_step} {got} {len(data)} bytes")
        return memoryview(data)

    def leave(self) -> None:
        """Tell the successor that nothing more will come; one after the other, all leave."""
        self._outgoing.put(None)


def local_ring(size: int) -> list[LocalMember]:
    """Return `size` members joined in a ring of queues."""
    links: list[queue.Queue[Frame | None]] = [queue.Queue() for _ in range(size)]
    return [LocalMember(rank, size, links[rank], links[(rank + 1) % size]) for rank in range(size)]
