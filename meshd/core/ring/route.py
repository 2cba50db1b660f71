"""Where the frames of one step go: a pure function of (rank, size, copies) for every chunk.

A *bucket* is a group of slices whose gradients are ready together, the last layers' first. A
*chunk* is what one rank owns of one bucket: chunk = bucket * size + owner. Each chunk takes two
ways, independent of all other chunks, so that one's frames fill the line while another is added:

*Reduce*, N - 1 hops. By ring: chunk of owner c starts at rank c + 1, gathers one more voter at each
member and reaches c at the last hop. Direct: every member sends its own part straight to c.

    N = 3, ring    hop 0        hop 1
    owner 0        1 -> 2       2 -> 0      then rank 0 decides
    owner 1        2 -> 0       0 -> 1
    owner 2        0 -> 1       1 -> 2

*Gather*, N - 1 hops, always round the ring from the owner on. Its first `decision_hops` hops carry
the decision, from which a member computes the new state itself; the others what is finished.

    owner -> backup -> ... -> last backup -> member -> ... -> owner's predecessor
          decision                        finished

So whoever has what is finished got it through every backup, and each of them had the decision
before: if any member has finished a step, all living holders of each slice can. This is the
bandwidth-optimal ring all-reduce (Patarasuk and Yuan, J. Parallel Distrib. Comput. 69, 2009) with
different encodings on the wire.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum


class Phase(IntEnum):
    """What a ring frame carries; the numbers are on the wire (proto/README.md)."""

    REDUCE = 1
    DECISION = 2
    FINISHED = 3
    GATHER = 4
    SLICE = 5
    WEIGHTS = 6
    CARRIED = 7
    STATISTICS = 8
    PAST_DECISION = 9
    PAST_FINISHED = 10
    PULSE = 11


@dataclass(frozen=True)
class Route:
    """One member's place in the frames of a step.

    rank, size: of the ring. decision_hops: gather hops that carry the decision: copies - 1 where
    slices have owners, size - 1 where every member holds all. direct: how partial results travel.
    buckets: how many. empty: chunks without a slice, for which nothing is sent.
    """

    rank: int
    size: int
    buckets: int
    decision_hops: int
    direct: bool = False
    empty: frozenset[int] = frozenset()

    def chunk(self, bucket: int, owner: int) -> int:
        """The number of a chunk."""
        return bucket * self.size + owner

    def owner(self, chunk: int) -> int:
        """The rank that decides a chunk."""
        return chunk % self.size

    def bucket(self, chunk: int) -> int:
        """The bucket that a chunk is part of."""
        return chunk // self.size

    def chunks(self, bucket: int) -> Iterator[int]:
        """The chunks of a bucket in the order in which this member first sends of them.

        Own predecessor's first: its way round the ring begins here.
        """
        for back in range(1, self.size + 1):
            chunk = self.chunk(bucket, (self.rank - back) % self.size)
            if chunk not in self.empty:
                yield chunk

    def every_chunk(self) -> Iterator[int]:
        """All chunks that travel."""
        for bucket in range(self.buckets):
            yield from self.chunks(bucket)

    def successor(self) -> int:
        """The rank that frames of the ring go to."""
        return (self.rank + 1) % self.size

    def predecessor(self) -> int:
        """The rank that frames of the ring come from."""
        return (self.rank - 1) % self.size

    def reduce_hop(self, chunk: int) -> int:
        """The hop at which a partial result of this chunk comes here; -1: it starts here."""
        return (self.rank - self.owner(chunk) - 2) % self.size if not self.starts(chunk) else -1

    def starts(self, chunk: int) -> bool:
        """Whether this member's own part is the first of the chunk's way round the ring."""
        return (self.owner(chunk) + 1) % self.size == self.rank

    def gather_hop(self, chunk: int) -> int:
        """The hop at which the chunk's result comes here; -1: this member decides it."""
        return (self.rank - self.owner(chunk)) % self.size - 1

    def gather_phase(self, hop: int) -> Phase:
        """What the gather carries at this hop."""
        return Phase.DECISION if hop < self.decision_hops else Phase.FINISHED

    def holds(self, chunk: int, rank: int | None = None) -> bool:
        """Whether this member, or another rank, computes the chunk's new state itself."""
        rank = self.rank if rank is None else rank
        return (rank - self.owner(chunk)) % self.size - 1 < self.decision_hops

    def sends_on(self, hop: int) -> bool:
        """Whether what came at this gather hop (-1: decided here) goes further."""
        return hop + 1 < self.size - 1
