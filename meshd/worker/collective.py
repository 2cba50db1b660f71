"""A ring of ZeroMQ links as a `Collective`: one frame to the successor, one from the predecessor.

A frame of an older generation is dropped and counted: it was on its way when its ring ended.
Anything else that the schedule does not expect breaks the ring, and names the predecessor.
"""

from __future__ import annotations

from meshd.core.errors import MeshdError
from meshd.core.messages import RingMember
from meshd.core.schedule import Hop
from meshd.core.types import Generation
from meshd.net.bulk import BulkLink
from meshd.train.collective import Payload
from meshd.train.errors import RingBrokenError
from meshd.wire.bulk import BulkHeader

LISTEN_S = 1.0  # how long one wait lasts, before the next one
PATIENCE_S = 86_400.0  # the daemon, not a deadline here, decides that a neighbour is lost


class ZmqRing:
    """This member's place in a committed ring."""

    def __init__(
        self, link: BulkLink, generation: Generation, members: tuple[RingMember, ...], rank: int
    ) -> None:
        self.rank = rank
        self.size = len(members)
        self.stale = 0
        """Frames of older generations that were dropped."""
        self._link = link
        self._generation = generation
        self._predecessor = members[(rank - 1) % self.size]
        self._successor = members[(rank + 1) % self.size]
        if self.size > 1:
            link.expect(self._predecessor.key)
            link.connect(self._successor)

    def swap(self, step: int, hop: Hop, payload: Payload, expected_bytes: int) -> memoryview:
        """As `meshd.train.collective.Collective.swap`."""
        header = BulkHeader(
            int(hop.phase), self._generation, step, hop.send_chunk, hop.hop, len(payload)
        )
        wanted = BulkHeader(
            int(hop.phase), self._generation, step, hop.receive_chunk, hop.hop, expected_bytes
        )
        try:
            self._link.send(header, payload, PATIENCE_S)
        except MeshdError as error:
            raise RingBrokenError(str(error), self._successor.key) from None
        return self._receive(wanted)

    def _receive(self, wanted: BulkHeader) -> memoryview:
        while True:
            received = self._link.receive(LISTEN_S)
            if received is None:
                continue
            header, payload = received
            if header.generation < self._generation:
                self.stale += 1
                continue
            if header != wanted or len(payload) != wanted.payload_bytes:
                raise RingBrokenError(
                    f"{self._predecessor.name} sent {_words(header)} where {_words(wanted)} is due",
                    self._predecessor.key,
                )
            return payload


def _words(header: BulkHeader) -> str:
    return (
        f"phase {header.phase} step {header.step} hop {header.hop} chunk {header.chunk}"
        f" ({header.payload_bytes} bytes)"
    )
