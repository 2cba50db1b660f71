"""Binarize, pack, and what is carried over. Rules for all of it: `meshd.bits.ops`."""

from __future__ import annotations

import numpy as np

from meshd.bits import _kernels
from meshd.bits.arguments import length, matrix, pack_outputs, segment_count
from meshd.bits.layout import Floats, Words, words


def pack_signed(
    x: Floats, beta: int, *, out_words: Words | None = None, out_scales: Floats | None = None
) -> tuple[Words, Floats]:
    """Binarize x (R, K) to {-1, +1}: bit = x >= 0, scale = mean |x| of its segment of beta.

    -0.0 gives 1. NaN gives 0, and its segment's scale is NaN, so no product with that segment is a
    number; an infinity's segment has scale +infinity. Returns words (R, W(K)), scales
    (R, S(K, beta)).
    """
    out_words, out_scales = pack_outputs(x, beta, out_words, out_scales)
    _kernels.pack_signed(x, beta, out_words, out_scales)
    return out_words, out_scales


def pack_unipolar(
    x: Floats, beta: int, *, out_words: Words | None = None, out_scales: Floats | None = None
) -> tuple[Words, Floats]:
    """Binarize x (R, K) to {0, 1}: bit = x > 0, scale = mean |x| of its segment of beta.

    For activations after a Ramp, where sign(0) = 0 matters. Returns as `pack_signed`.
    """
    out_words, out_scales = pack_outputs(x, beta, out_words, out_scales)
    _kernels.pack_unipolar(x, beta, out_words, out_scales)
    return out_words, out_scales


def within(x: Floats, cut: float, *, out: Words | None = None) -> Words:
    """Packed bits (R, W(K)) of x (R, K): |x| <= cut, cut rounded to float32; 0 where x is NaN.

    What the straight-through estimator lets pass.
    """
    rows = length(x, 2, "x")
    out = np.empty((rows, words(int(x.shape[1]))), np.uint64) if out is None else out
    _kernels.within(x, cut, out)
    return out


def unpack_signed(
    words: Words, scales: Floats, beta: int, k: int, *, out: Floats | None = None
) -> Floats:
    """The float32 matrix (R, k) of signed bits: +scale where the bit is 1, -scale where it is 0."""
    out = matrix(out, length(words, 2, "words"), k)
    _kernels.unpack_signed(words, scales, beta, k, out)
    return out


def unpack_unipolar(
    words: Words, scales: Floats, beta: int, k: int, *, out: Floats | None = None
) -> Floats:
    """The float32 matrix (R, k) of unipolar bits: scale where the bit is 1, 0 where it is 0."""
    out = matrix(out, length(words, 2, "words"), k)
    _kernels.unpack_unipolar(words, scales, beta, k, out)
    return out


def carry_binarize(
    grad: Floats,
    carried: Floats,
    weight: float,
    gamma: int,
    *,
    out_bits: Words | None = None,
    out_means: Floats | None = None,
) -> tuple[Words, Floats]:
    """Add a gradient to what earlier steps carried over, and binarize the sum.

    carried (n), in place: carried = grad * weight + carried, weight rounded to float32, two
    roundings. Returns bits (W(n)) = carried >= 0 and means (S(n, gamma)) = mean |carried| of each
    segment: this member's share of the scale. `carry_settle` completes the step.
    """
    out_bits, out_means = _carry_outputs(grad, gamma, out_bits, out_means)
    _kernels.carry_binarize(grad, carried, weight, gamma, out_bits, out_means)
    return out_bits, out_means


def carry_settle(carried: Floats, bits: Words, scale: Floats, gamma: int) -> None:
    """Keep what the bits did not say: carried (n), in place, -= scale where 1, += where 0.

    bits (W(n)) are those that `carry_binarize` returned, scale (S(n, gamma)) the ring's shared one.
    """
    _kernels.carry_settle(carried, bits, scale, gamma)


def feedback_binarize(
    grad: Floats,
    carried: Floats,
    weight: float,
    scale: Floats,
    gamma: int,
    *,
    out_bits: Words | None = None,
    out_means: Floats | None = None,
) -> tuple[Words, Floats]:
    """Binarize with a scale that is known beforehand, and carry the error, in one pass.

    v = grad * weight + carried, weight rounded to float32, two roundings; bit = v >= 0; carried
    (n), in place, = v - scale where the bit is 1, v + scale where it is 0. Returns bits (W(n)) and
    means (S(n, gamma)) = mean |v| of each segment, of which the next step's scale is made; they
    are all finite unless some v is not (or magnitudes add up beyond float32). scale (S(n, gamma)).
    """
    out_bits, out_means = _carry_outputs(grad, gamma, out_bits, out_means)
    _kernels.feedback_binarize(grad, carried, weight, scale, gamma, out_bits, out_means)
    return out_bits, out_means


def segment_means(x: Floats, beta: int, *, out: Floats | None = None) -> Floats:
    """Mean |x| of each segment of beta in the rows of x (R, K): (R, S(K, beta)). NaN stays NaN."""
    if out is None:
        rows = length(x, 2, "x")
        out = np.empty((rows, segment_count(int(x.shape[1]), beta, "beta")), np.float32)
    _kernels.segment_means(x, beta, out)
    return out


def _carry_outputs(
    grad: Floats, gamma: int, out_bits: Words | None, out_means: Floats | None
) -> tuple[Words, Floats]:
    n = length(grad, 1, "grad")
    if out_bits is None:
        out_bits = np.empty(words(n), np.uint64)
    if out_means is None:
        out_means = np.empty(segment_count(n, gamma, "gamma"), np.float32)
    return out_bits, out_means
