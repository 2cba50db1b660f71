"""Small payloads of all members, brought to all: N - 1 hops round the ring.

What an evaluation counts, running statistics, hashes, measured speeds: every member contributes one
payload and ends with all of them in the order of ranks, so that each computes the same from them.
"""

from __future__ import annotations


class Gathering:
    """One gathering of one member. Hop h brings the payload of the member h + 1 places before."""

    def __init__(self, kind: int, rank: int, size: int, own: bytes) -> None:
        self.kind = kind
        self._rank = rank
        self._size = size
        self._by_rank: dict[int, bytes] = {rank: own}
        self._out: list[tuple[int, bytes]] = [(0, own)] if size > 1 else []

    @property
    def complete(self) -> bool:
        """Whether every member's payload is here."""
        return len(self._by_rank) == self._size

    def payloads(self) -> tuple[bytes, ...]:
        """All payloads, by rank."""
        return tuple(self._by_rank[rank] for rank in range(self._size))

    def drain(self) -> list[tuple[int, bytes]]:
        """(hop, payload) to send to the successor."""
        out, self._out = self._out, []
        return out

    def receive(self, hop: int, payload: bytes) -> None:
        """What the predecessor sends at a hop; repetitions and impossible hops are nothing."""
        if not 0 <= hop < self._size - 1:
            return
        origin = (self._rank - 1 - hop) % self._size
        if origin in self._by_rank:
            return
        self._by_rank[origin] = payload
        if hop + 1 < self._size - 1:
            self._out.append((hop + 1, payload))
