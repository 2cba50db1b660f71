"""Kernels that pass over their arrays once, on arrays that no cache holds: bytes moved a second
beside what plain loops move: reading one, rewriting one, updating one by another.

A new kernel is one function and one line of STREAMS. Moved is every array that the kernel must
read, and every one that it must write, once each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from meshd.bench import exact
from meshd.bench.ceilings import Parts, plain_isas
from meshd.bench.contest import Contest, Entry
from meshd.bench.timing import Turn
from meshd.bits import ops
from meshd.bits.layout import WORD_BITS, Floats, Words, plane_count, words

READ, IN_PLACE, UPDATE = "memory_read", "memory_in_place", "memory_update"
LOOPS = (READ, IN_PLACE, UPDATE)
SEGMENT = 256  # elements that share a scale, beta and gamma
ROW = 4096  # elements of a row, where a kernel packs a matrix
LINE = 16  # float32 in a cache line
MEMBERS = 8  # of the ring whose votes are counted
# So many bits are as long as one float32 array: planes too must come from memory.
BITS_PER_FLOAT = 8
# An error is taken on a call of its own over this many elements: the code is the same.
SAMPLE = 16 * ROW


@dataclass(frozen=True)
class Stream:
    """A kernel over n elements: what is timed, the bytes moved, and the error of one more call."""

    turn: Turn
    elements: int
    bytes_moved: float
    error: Callable[[], float]


@dataclass(frozen=True)
class Arrays:
    """What the streams of a run share: standard normal x and y (n), a scale for each segment."""

    x: Floats
    y: Floats
    scale: Floats

    @classmethod
    def of(cls, n: int) -> Arrays:
        """Arrays of n elements, a multiple of ROW."""
        chance = torch.Generator().manual_seed(0)
        x, y = aligned(n), aligned(n)
        for array in (x, y):
            torch.randn(n, generator=chance, out=torch.from_numpy(array))
        return cls(x, y, np.full(n // SEGMENT, 0.8, np.float32))

    def copy_of_y(self) -> Floats:
        """Y again, to be written."""
        copy = aligned(len(self.y))
        copy[:] = self.y
        return copy

    def random_words(self, *shape: int) -> Words:
        """Words of random bits."""
        return np.random.default_rng(0).integers(0, 2**64, shape, np.uint64)


def aligned(n: int) -> Floats:
    """Room for n float32 from a cache line on, all in large pages where numpy gets them."""
    raw = np.empty(n + LINE, np.float32)
    start = -raw.ctypes.data // raw.itemsize % LINE
    return raw[start : start + n]


def signs(bits: Words) -> Floats:
    """+1 where a bit is 1, -1 where it is 0: words (..., W) to (..., 64 W)."""
    ones = np.unpackbits(bits.view(np.uint8), axis=-1, bitorder="little")
    return ones.astype(np.float32) * 2 - 1


def spread(scales: Floats) -> Floats:
    """Every element's scale."""
    return np.repeat(scales, SEGMENT, axis=-1)


def pack_signed(arrays: Arrays) -> Stream:
    """Binarize and pack: reads 4 bytes an element, writes a bit and the scales."""
    return packing(arrays, ops.pack_signed, "signed")


def pack_unipolar(arrays: Arrays) -> Stream:
    """The same for activations after a Ramp."""
    return packing(arrays, ops.pack_unipolar, "unipolar")


def packing(arrays: Arrays, kernel: Callable[..., tuple[Words, Floats]], coding: str) -> Stream:
    """Either way of packing; the error is that of the scales, or 1 where a bit is wrong."""
    x = arrays.x.reshape(-1, ROW)
    bits = np.empty((len(x), words(ROW)), np.uint64)
    scales = np.empty((len(x), ROW // SEGMENT), np.float32)

    def call() -> object:
        return kernel(x, SEGMENT, out_words=bits, out_scales=scales)

    def error() -> float:
        some = x[:16]
        got_bits, got_scales = kernel(some, SEGMENT)
        got = np.where(signs(got_bits) > 0, 1, -1 if coding == "signed" else 0) * spread(got_scales)
        return exact.largest_error(got, exact.binarized(some, SEGMENT, coding))

    return Stream(Turn(call), x.size, x.nbytes + bits.nbytes + scales.nbytes, error)


def carry_binarize(arrays: Arrays) -> Stream:
    """Add the gradient to what is carried, binarize: reads 8 bytes, writes 4 and a bit."""
    grad, carried = arrays.x, arrays.copy_of_y()
    bits = np.empty(words(len(grad)), np.uint64)
    means = np.empty_like(arrays.scale)

    def call() -> object:
        return ops.carry_binarize(grad, carried, 0.5, SEGMENT, out_bits=bits, out_means=means)

    def error() -> float:
        some, kept = grad[:SAMPLE], arrays.y[:SAMPLE].copy()
        true = some.astype(np.float64) * 0.5 + kept
        got_bits, got_means = ops.carry_binarize(some, kept, 0.5, SEGMENT)
        got = signs(got_bits) * spread(got_means)
        binarized = exact.binarized(true[None], SEGMENT, "signed")[0]
        return max(exact.largest_error(kept, true), exact.largest_error(got, binarized))

    return Stream(Turn(call), grad.size, 3 * grad.nbytes + bits.nbytes + means.nbytes, error)


def carry_settle(arrays: Arrays) -> Stream:
    """Keep what the bits did not say: reads 4 bytes and a bit, writes 4."""
    carried = arrays.copy_of_y()
    bits = arrays.random_words(words(len(carried)))

    def call() -> None:
        ops.carry_settle(carried, bits, arrays.scale, SEGMENT)

    def error() -> float:
        kept = arrays.y[:SAMPLE].copy()
        some_bits, scale = bits[: words(len(kept))], arrays.scale[: len(kept) // SEGMENT]
        true = kept.astype(np.float64) - signs(some_bits) * spread(scale)
        ops.carry_settle(kept, some_bits, scale, SEGMENT)
        return exact.largest_error(kept, true)

    return Stream(
        Turn(call), carried.size, 2 * carried.nbytes + bits.nbytes + arrays.scale.nbytes, error
    )


def planes_add(arrays: Arrays) -> Stream:
    """Count one more voter: reads the planes and a bit, writes the planes."""
    size = words(BITS_PER_FLOAT * len(arrays.x))
    planes = np.zeros((plane_count(MEMBERS), size), np.uint64)
    bits = arrays.random_words(size)

    def call() -> None:
        ops.planes_add(planes, bits)

    def error() -> float:
        some = np.zeros((len(planes), 64), np.uint64)
        voters = arrays.random_words(MEMBERS, 64)
        for voter in voters:
            ops.planes_add(some, voter)
        return exact.largest_error(counted(some), (signs(voters).sum(axis=0) + MEMBERS) / 2)

    turn = Turn(call, lambda: planes.fill(0), once=True)
    return Stream(turn, WORD_BITS * size, 2 * planes.nbytes + bits.nbytes, error)


def counted(planes: Words) -> Floats:
    """Planes (P, W) to the counts (64 W)."""
    weights = 2.0 ** np.arange(len(planes))
    return (weights @ ((signs(planes) + 1) / 2)).astype(np.float32)


def apply_votes(arrays: Arrays) -> Stream:
    """Counts to the ring's aggregate: reads the planes, writes 4 bytes."""
    n = len(arrays.x)
    planes = np.zeros((plane_count(MEMBERS), words(n)), np.uint64)
    planes[:-1] = arrays.random_words(len(planes) - 1, words(n))  # counts below 8
    out = aligned(n)

    def call() -> object:
        return ops.apply_votes(planes, MEMBERS, arrays.scale, SEGMENT, n, out=out)

    def error() -> float:
        call()
        some = out[:SAMPLE]
        counts = counted(np.ascontiguousarray(planes[:, : words(len(some))]))[: len(some)]
        scale = spread(arrays.scale[: len(some) // SEGMENT]).astype(np.float64)
        return exact.largest_error(some, scale * (2 * counts - MEMBERS) / MEMBERS)

    return Stream(Turn(call), n, planes.nbytes + arrays.scale.nbytes + out.nbytes, error)


# What is measured, and the plain loop that bounds it.
STREAMS: tuple[tuple[Callable[[Arrays], Stream], str], ...] = (
    (pack_signed, READ),
    (pack_unipolar, READ),
    (carry_binarize, UPDATE),
    (carry_settle, IN_PLACE),
    (planes_add, IN_PLACE),
    (apply_votes, UPDATE),
)


def contests(elements: int, isa: str) -> Iterator[Contest]:
    """One contest for each kernel, on one thread, beside both plain loops."""
    arrays = Arrays.of(elements)
    loops = plain_loops(arrays.x, arrays.copy_of_y())
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
        yield Contest(1, stream.elements, 1, [entry], loops, operations=None)


def plain_loops(x: Floats, y: Floats) -> list[Entry]:
    """Reading x, rewriting y, and updating y by x, with vectors of every width."""
    loops = []
    for isa in plain_isas():
        parts = Parts(isa, 1)
        for name, call, moved in (
            (READ, partial(parts.read, x), x.nbytes),
            (IN_PLACE, partial(parts.rescale, y), 2 * y.nbytes),
            (UPDATE, partial(parts.update, x, y), 3 * x.nbytes),
        ):
            loops.append(Entry(name, Turn(call), "float32", isa, threads=1, bytes_moved=moved))
    return loops
