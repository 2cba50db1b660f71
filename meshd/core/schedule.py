"""The ring's schedule: a pure function of (rank, size, copies) -> what to send and to expect.

A chunk is what one rank owns; chunk c belongs to rank c. Members send to their successor (rank + 1)
and hear from their predecessor (rank - 1), all ranks modulo the size N.

*Votes* (reduce-scatter, N - 1 hops): chunk c starts at rank c + 1 and reaches its owner, rank c,
at the last hop, having gathered one more voter at each. At hop h a member sends the chunk that
h + 1 members have voted on, and adds its own vote to the one it receives.

    N = 3     hop 0        hop 1
    rank 0    sends 2      sends 1      then owns chunk 0
    rank 1    sends 0      sends 2      then owns chunk 1
    rank 2    sends 1      sends 0      then owns chunk 2

*Gather* (all-gather, N - 1 hops): chunk c starts at its owner and visits every other member. The
first copies - 1 hops carry the count itself, to the chunk's backups, who apply the same update and
therefore know the new weights; the others carry what is finished (binarized weights).
This is the bandwidth-optimal ring all-reduce (Patarasuk and Yuan, J. Parallel Distrib. Comput. 69,
2009) with two different encodings on the wire.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Phase(IntEnum):
    """What a ring frame carries; the numbers are on the wire (proto/README.md)."""

    VOTES = 1
    GATHER_VOTES = 2
    GATHER_FINISHED = 3
    REDUCE_FLOAT32 = 4
    GATHER_FLOAT32 = 5
    TALLY = 6
    STATISTICS = 7


@dataclass(frozen=True)
class Hop:
    """One exchange with both neighbours: send one chunk, receive another."""

    phase: Phase
    hop: int
    send_chunk: int
    receive_chunk: int


def reduce_hops(rank: int, size: int, phase: Phase) -> list[Hop]:
    """Reduce-scatter: before hop h, `send_chunk` holds h + 1 members' contributions."""
    return [
        Hop(phase, hop, (rank - 1 - hop) % size, (rank - 2 - hop) % size) for hop in range(size - 1)
    ]


def gather_hops(rank: int, size: int, phase: Phase) -> list[Hop]:
    """All-gather: what was received at one hop is sent on at the next."""
    return [
        Hop(phase, hop, (rank - hop) % size, (rank - 1 - hop) % size) for hop in range(size - 1)
    ]


def vote_gather_hops(rank: int, size: int, copies: int) -> list[Hop]:
    """All-gather whose first copies - 1 hops carry votes, and the rest what is finished."""
    return [
        Hop(
            Phase.GATHER_VOTES if hop.hop < copies - 1 else Phase.GATHER_FINISHED,
            hop.hop,
            hop.send_chunk,
            hop.receive_chunk,
        )
        for hop in gather_hops(rank, size, Phase.GATHER_FINISHED)
    ]


def held_chunks(rank: int, size: int, copies: int) -> list[int]:
    """Chunks whose state this rank holds: its own, then those that it backs up."""
    return [(rank - back) % size for back in range(min(copies, size))]


def planes_of(voters: int) -> int:
    """Bit planes that count up to `voters` votes: ceil(log2(voters + 1))."""
    return voters.bit_length()
