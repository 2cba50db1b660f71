"""Streaming kernels over floats: binarizing and packing, and the error that is carried.

Each function takes the run's arrays and returns what is timed, what it moves and its error.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from meshd.bench import exact
from meshd.bench.arrays import ROW, SAMPLE, SEGMENT, Arrays, Stream, signs, spread
from meshd.bench.timing import Turn
from meshd.bits import ops
from meshd.bits.layout import Floats, Words, words


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


def feedback_binarize(arrays: Arrays) -> Stream:
    """Add the gradient, binarize with a known scale, carry the error: reads 8, writes 4."""
    grad, carried = arrays.x, arrays.copy_of_y()
    bits = np.empty(words(len(grad)), np.uint64)
    means = np.empty_like(arrays.scale)

    def call() -> object:
        return ops.feedback_binarize(
            grad, carried, 0.5, arrays.scale, SEGMENT, out_bits=bits, out_means=means
        )

    def error() -> float:
        some, kept = grad[:SAMPLE], arrays.y[:SAMPLE].copy()
        scale = arrays.scale[: len(some) // SEGMENT]
        value = some.astype(np.float64) * 0.5 + kept
        got_bits, got_means = ops.feedback_binarize(some, kept, 0.5, scale, SEGMENT)
        got = signs(got_bits) * spread(got_means)
        binarized = exact.binarized(value[None], SEGMENT, "signed")[0]
        carried_on = value - np.where(value >= 0, 1, -1) * spread(scale)
        return max(exact.largest_error(kept, carried_on), exact.largest_error(got, binarized))

    moved = 3 * grad.nbytes + bits.nbytes + means.nbytes + arrays.scale.nbytes
    return Stream(Turn(call), grad.size, moved, error)
