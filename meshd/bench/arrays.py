"""What the streaming kernels run on: long arrays, all alike in memory, and short samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from meshd.bench.timing import Turn
from meshd.bits.layout import Floats, Words

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

    def copy_of_y(self, n: int | None = None) -> Floats:
        """Y again, all or the first n, to be written."""
        copy = aligned(len(self.y) if n is None else n)
        copy[:] = self.y[: len(copy)]
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


def counted(planes: Words) -> Floats:
    """Planes (P, W) to the counts (64 W)."""
    weights = 2.0 ** np.arange(len(planes))
    return (weights @ ((signs(planes) + 1) / 2)).astype(np.float32)
