"""The hash watch: who holds something else than the others, told from digests that all exchanged.

After the same committed step all members compute with the same weights, and all holders of a slice
hold the same state. A digest that differs means that a machine's memory, disk or program is not to
be trusted: it is named, forgets its state and fetches it again. Every member judges alike, from the
same bytes:

- *Weights*: the digest that most members have is right; of equally many, the one whose first
  member comes first in the ring.
- *A slice's state*: among those whose weights are right, the same, its owner counting first. With
  two holders nobody can be outvoted, and the owner is believed: what it said was applied.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from meshd.core.ring.agreement import Plan

DIGEST_BYTES = 16
_SLICE = struct.Struct(f"<H{DIGEST_BYTES}s")


@dataclass(frozen=True)
class Digests:
    """What one member holds: of the whole network's weights, and of each slice's state."""

    weights: bytes
    slices: dict[int, bytes]

    def pack(self) -> bytes:
        """As a payload."""
        parts = [_SLICE.pack(index, digest) for index, digest in sorted(self.slices.items())]
        return self.weights + b"".join(parts)


def unpack(payload: bytes) -> Digests | None:
    """Read digests back; None for what are none."""
    head, rest = payload[:DIGEST_BYTES], payload[DIGEST_BYTES:]
    if len(head) < DIGEST_BYTES or len(rest) % _SLICE.size:
        return None
    return Digests(head, dict(_SLICE.iter_unpack(rest)))


def judge(plan: Plan, payloads: Sequence[bytes]) -> dict[int, str]:
    """Who differs: rank -> in what, as a clause. `payloads`: by rank."""
    held = [unpack(payload) for payload in payloads]
    wrong = {rank: "sent no digests" for rank, one in enumerate(held) if one is None}
    weights = {rank: one.weights for rank, one in enumerate(held) if one is not None}
    for rank in _minority(weights, list(weights)):
        wrong[rank] = "computes with other weights than the others"
    for index in range(len(plan.owners)):
        states = {
            rank: one.slices.get(index, b"")
            for rank in plan.holders(index)
            if rank not in wrong and (one := held[rank]) is not None
        }
        for rank in _minority(states, list(states)):
            wrong[rank] = f"holds another state of slice {index} than the others"
    return wrong


def _minority(digests: dict[int, bytes], order: list[int]) -> list[int]:
    """Ranks whose digest is not the one that most have, in `order` the first of equals."""
    if len(set(digests.values())) < 2:
        return []
    values = [digests[rank] for rank in order]
    right = max(values, key=lambda digest: (values.count(digest), -values.index(digest)))
    return [rank for rank in order if digests[rank] != right]
