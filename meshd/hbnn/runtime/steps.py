"""What a layer does to a batch, in numpy: everything but products (`meshd.hbnn.runtime.products`).

Images are (B, H, W, C) here, which is what the kernels take; vectors (B, F). A step reads `x` and
returns its output: in its own slot of the memory, or in `x` itself where `in_place`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from meshd.bits import ops
from meshd.bits.layout import Floats, Words, segments, words
from meshd.hbnn.runtime.memory import Memory, Slot


class Step(Protocol):
    """One layer, ready to run."""

    def run(self, x: Floats, memory: Memory, threads: int) -> Floats:
        """Return the layer's output for `x`."""


@dataclass(frozen=True)
class Elementwise:
    """`function(x, out)`."""

    function: Callable[..., Floats]
    in_place: bool
    slot: Slot

    def run(self, x: Floats, memory: Memory, threads: int) -> Floats:
        """Apply it."""
        out = x if self.in_place else memory.take(self.slot, x.shape)
        return self.function(x, out)


def ramp(x: Floats, out: Floats) -> Floats:
    """max(x, 0)."""
    return np.maximum(x, np.float32(0), out=out)


def hardtanh(x: Floats, out: Floats) -> Floats:
    """min(max(x, -1), 1)."""
    return np.clip(x, np.float32(-1), np.float32(1), out=out)


def sigmoid(x: Floats, out: Floats) -> Floats:
    """1 / (1 + exp(-x))."""
    with np.errstate(over="ignore"):  # exp overflows to infinity, whose reciprocal is the 0 wanted
        np.exp(np.negative(x, out=out), out=out)
    np.add(out, np.float32(1), out=out)
    return np.reciprocal(out, out=out)


@dataclass(frozen=True)
class Normalise:
    """Batch normalisation with running statistics: x * slope + shift, channel by channel.

    slope = weight / sqrt(variance + eps), shift = bias - mean * slope.
    """

    slope: Floats
    shift: Floats
    in_place: bool
    slot: Slot

    def run(self, x: Floats, memory: Memory, threads: int) -> Floats:
        """Normalise."""
        out = x if self.in_place else memory.take(self.slot, x.shape)
        np.multiply(x, self.slope, out=out)
        return np.add(out, self.shift, out=out)


@dataclass(frozen=True)
class Binarize:
    """H_beta along the last dimension, as floats."""

    beta: int
    unipolar: bool
    in_place: bool
    slot: Slot

    def run(self, x: Floats, memory: Memory, threads: int) -> Floats:
        """Pack, and unpack into the output."""
        out = x if self.in_place else memory.take(self.slot, x.shape)
        return binarized(x, self.beta, self.unipolar, memory, out)


def binarized(x: Floats, beta: int, unipolar: bool, memory: Memory, out: Floats) -> Floats:
    """H_beta(x) along the last dimension; `out` may be `x`."""
    length = x.shape[-1]
    rows = x.reshape(-1, length)
    beta = min(beta, length)
    packed = pack(rows, beta, unipolar, memory)
    unpack = ops.unpack_unipolar if unipolar else ops.unpack_signed
    unpack(*packed, beta, length, out=out.reshape(rows.shape))
    return out


def pack(rows: Floats, beta: int, unipolar: bool, memory: Memory) -> tuple[Words, Floats]:
    """Words and scales of rows (R, K), in the memory's slots for them."""
    out_words, out_scales = packed_slots(len(rows), rows.shape[1], beta, memory)
    packing = ops.pack_unipolar if unipolar else ops.pack_signed
    return packing(rows, beta, out_words=out_words, out_scales=out_scales)


def packed_slots(rows: int, length: int, beta: int, memory: Memory) -> tuple[Words, Floats]:
    """Where `rows` of `length` elements are packed to."""
    return (
        memory.take(("words", 0), (rows, words(length)), np.uint64),
        memory.take(("scales", 0), (rows, segments(length, beta))),
    )


@dataclass(frozen=True)
class Taps:
    """Over an image of height x width: the kernel, how it moves, how many zeros lie around."""

    kernel: int
    stride: int
    padding: int
    size: tuple[int, int]  # of the output

    def regions(self, height: int, width: int) -> Iterator[tuple[tuple[slice, ...], ...]]:
        """For each tap: the outputs that it reaches, and the inputs that it sees there."""
        for row in range(self.kernel):
            for column in range(self.kernel):
                rows = self._reached(row, height, self.size[0])
                columns = self._reached(column, width, self.size[1])
                yield (
                    (slice(None), rows[0], columns[0]),
                    (slice(None), rows[1], columns[1]),
                )

    def _reached(self, tap: int, length: int, outputs: int) -> tuple[slice, slice]:
        """Output o sees input o * stride + tap - padding, where there is one."""
        offset = tap - self.padding
        first = max(0, -(offset // self.stride))
        last = min(outputs - 1, (length - 1 - offset) // self.stride)
        if last < first:
            return slice(0, 0), slice(0, 0)
        begin = first * self.stride + offset
        end = last * self.stride + offset + 1
        return slice(first, last + 1), slice(begin, end, self.stride)


@dataclass(frozen=True)
class Pool:
    """Largest value or mean of each window; padding never is the largest, and counts as 0."""

    taps: Taps
    largest: bool
    slot: Slot

    def run(self, x: Floats, memory: Memory, threads: int) -> Floats:
        """Tap by tap, all windows at once."""
        batch, height, width, channels = x.shape
        out = memory.take(self.slot, (batch, *self.taps.size, channels))
        out.fill(-np.inf if self.largest else 0)
        combine = np.maximum if self.largest else np.add
        for to, source in self.taps.regions(height, width):
            combine(out[to], x[source], out=out[to])
        if not self.largest:
            np.divide(out, np.float32(self.taps.kernel**2), out=out)
        return out


@dataclass(frozen=True)
class Average:
    """(B, H, W, C) -> (B, C)."""

    slot: Slot

    def run(self, x: Floats, memory: Memory, threads: int) -> Floats:
        """The mean over all pixels."""
        out = memory.take(self.slot, (x.shape[0], x.shape[3]))
        np.mean(x, axis=(1, 2), out=out)
        return out


@dataclass(frozen=True)
class Flatten:
    """(B, H, W, C) -> (B, C * H * W), in this order."""

    slot: Slot

    def run(self, x: Floats, memory: Memory, threads: int) -> Floats:
        """Bring the channels to the front."""
        batch, height, width, channels = x.shape
        out = memory.take(self.slot, (batch, channels, height, width))
        np.copyto(out, x.transpose(0, 3, 1, 2))
        return out.reshape(batch, channels * height * width)


@dataclass(frozen=True)
class Add:
    """body(x) + shortcut(x). The body's output is its own memory or x, never the shortcut's."""

    body: tuple[Step, ...]
    shortcut: tuple[Step, ...]
    slot: Slot

    def run(self, x: Floats, memory: Memory, threads: int) -> Floats:
        """Run both on x."""
        parts = []
        for chain in (self.body, self.shortcut):
            y = x
            for step in chain:
                y = step.run(y, memory, threads)
            parts.append(y)
        out: Floats = memory.take(self.slot, parts[0].shape)
        return np.add(parts[0], parts[1], out=out)
