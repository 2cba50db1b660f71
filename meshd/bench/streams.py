"""Kernels that pass over their arrays once, on arrays that no cache holds: bytes moved a second
beside what plain loops move: reading one, rewriting one, updating one by another.

A new kernel is one function (`gradients`, `votes`) and one line of STREAMS. Moved is every array
that the kernel must read, and every one that it must write, once each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from meshd.bench import gradients, votes
from meshd.bench.arrays import SEGMENT, Arrays, Stream
from meshd.bench.ceilings import Parts, plain_isas
from meshd.bench.contest import Contest, Entry
from meshd.bench.timing import Turn
from meshd.bits.layout import Floats

READ, IN_PLACE, UPDATE = "memory_read", "memory_in_place", "memory_update"
LOOPS = (READ, IN_PLACE, UPDATE)

# What is measured, and the plain loop that bounds it.
STREAMS: tuple[tuple[Callable[[Arrays], Stream], str], ...] = (
    (gradients.pack_signed, READ),
    (gradients.pack_unipolar, READ),
    (gradients.carry_binarize, UPDATE),
    (gradients.carry_settle, IN_PLACE),
    (gradients.feedback_binarize, UPDATE),
    (votes.planes_add, IN_PLACE),
    (votes.planes_add_many, IN_PLACE),
    (votes.apply_votes, UPDATE),
    (votes.votes_sgd, IN_PLACE),
    (votes.votes_adam, IN_PLACE),
)


def contests(elements: int, isa: str) -> Iterator[Contest]:
    """One contest for each kernel, on one thread, beside the plain loop that bounds it."""
    arrays = Arrays.of(elements)
    x, y = arrays.x, arrays.copy_of_y()
    for prepare, bound in STREAMS:
        stream = prepare(arrays)
        entry = Entry(
            prepare.__name__,
            stream.turn,
            "unipolar" if "unipolar" in prepare.__name__ else "signed",
            isa,
            threads=1,
            beta=SEGMENT,
            ceiling=bound,
            bytes_moved=stream.bytes_moved,
            error=stream.error,
        )
        loops = plain_loops(bound, x, y)
        yield Contest("stream", 1, stream.elements, 1, [entry], loops, operations=None)


def plain_loops(name: str, x: Floats, y: Floats) -> list[Entry]:
    """A loop with vectors of every width: which of them is best is not obvious."""
    loops = []
    for isa in plain_isas():
        parts = Parts(isa, 1)
        calls: dict[str, tuple[Callable[[], None], int]] = {
            READ: (partial(parts.read, x), x.nbytes),
            IN_PLACE: (partial(parts.rescale, y), 2 * y.nbytes),
            UPDATE: (partial(parts.update, x, y), 3 * x.nbytes),
        }
        call, moved = calls[name]
        loops.append(Entry(name, Turn(call), "float32", isa, threads=1, bytes_moved=moved))
    return loops
