"""The native kernels with numpy arrays: allocates outputs that are not given, computes nothing.

Every array must be dense (C order), of exactly the dtype named, in native byte order; nothing is
converted. A wrong kind of object or dtype raises TypeError, a wrong shape, order, bound or a
read-only output ValueError, each with the argument's name. Outputs must not overlap inputs. The GIL
is released while a kernel runs. The result has the same bits on every machine (NaN payloads
excepted). Layout and shapes: `meshd.bits.layout`; here W(n) is words(n) and S(n, beta) segments.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from meshd.bits import _kernels
from meshd.bits._kernels import isa, list_isas, use_isa
from meshd.bits.layout import Floats, Words, segments, words

__all__ = [
    "apply_votes",
    "carry_binarize",
    "carry_settle",
    "isa",
    "list_isas",
    "pack_signed",
    "pack_unipolar",
    "planes_add",
    "product_signed",
    "product_unipolar",
    "segments",
    "unpack_signed",
    "unpack_unipolar",
    "use_isa",
    "words",
]


def pack_signed(
    x: Floats, beta: int, *, out_words: Words | None = None, out_scales: Floats | None = None
) -> tuple[Words, Floats]:
    """Binarize x (R, K) to {-1, +1}: bit = x >= 0, scale = mean |x| of its segment of beta.

    -0.0 gives 1, NaN gives 0. Returns words (R, W(K)), scales (R, S(K, beta)).
    """
    out_words, out_scales = _pack_outputs(x, beta, out_words, out_scales)
    _kernels.pack_signed(x, beta, out_words, out_scales)
    return out_words, out_scales


def pack_unipolar(
    x: Floats, beta: int, *, out_words: Words | None = None, out_scales: Floats | None = None
) -> tuple[Words, Floats]:
    """Binarize x (R, K) to {0, 1}: bit = x > 0, scale = mean |x| of its segment of beta.

    For activations after a Ramp, where sign(0) = 0 matters. Returns as `pack_signed`.
    """
    out_words, out_scales = _pack_outputs(x, beta, out_words, out_scales)
    _kernels.pack_unipolar(x, beta, out_words, out_scales)
    return out_words, out_scales


def unpack_signed(
    words: Words, scales: Floats, beta: int, k: int, *, out: Floats | None = None
) -> Floats:
    """The float32 matrix (R, k) of signed bits: +scale where the bit is 1, -scale where it is 0."""
    out = _matrix(out, _length(words, 2, "words"), k)
    _kernels.unpack_signed(words, scales, beta, k, out)
    return out


def unpack_unipolar(
    words: Words, scales: Floats, beta: int, k: int, *, out: Floats | None = None
) -> Floats:
    """The float32 matrix (R, k) of unipolar bits: scale where the bit is 1, 0 where it is 0."""
    out = _matrix(out, _length(words, 2, "words"), k)
    _kernels.unpack_unipolar(words, scales, beta, k, out)
    return out


def product_signed(
    a_words: Words,
    a_scales: Floats,
    beta_a: int,
    w_words: Words,
    w_scales: Floats,
    beta_w: int,
    k: int,
    *,
    out: Floats | None = None,
) -> Floats:
    """Y (M, N) = A W^T of signed packed matrices A (M, k) and W (N, k).

    Y[m, n] = sum over segments s of alpha_a[m, s] * alpha_w[n, s] * dot_s(a[m], w[n]), where s runs
    over the finer of the two cuts. One of beta_a, beta_w must divide the other or be at least k;
    ValueError otherwise. k < 2^31. MemoryError when there is no room for the kernel's scratch.
    """
    out = _matrix(out, _length(a_words, 2, "a_words"), _length(w_words, 2, "w_words"))
    _kernels.product_signed(a_words, a_scales, beta_a, w_words, w_scales, beta_w, k, out)
    return out


def product_unipolar(
    a_words: Words,
    a_scales: Floats,
    beta_a: int,
    w_words: Words,
    w_scales: Floats,
    beta_w: int,
    k: int,
    *,
    out: Floats | None = None,
) -> Floats:
    """Y (M, N) = A W^T of a unipolar A (M, k) and a signed W (N, k). Else as `product_signed`."""
    out = _matrix(out, _length(a_words, 2, "a_words"), _length(w_words, 2, "w_words"))
    _kernels.product_unipolar(a_words, a_scales, beta_a, w_words, w_scales, beta_w, k, out)
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
    n = _length(grad, 1, "grad")
    out_bits = np.empty(words(n), np.uint64) if out_bits is None else out_bits
    out_means = (
        np.empty(_segments(n, gamma, "gamma"), np.float32) if out_means is None else out_means
    )
    _kernels.carry_binarize(grad, carried, weight, gamma, out_bits, out_means)
    return out_bits, out_means


def carry_settle(carried: Floats, bits: Words, scale: Floats, gamma: int) -> None:
    """Keep what the bits did not say: carried (n), in place, -= scale where 1, += where 0.

    bits (W(n)) are those that `carry_binarize` returned, scale (S(n, gamma)) the ring's shared one.
    """
    _kernels.carry_settle(carried, bits, scale, gamma)


def planes_add(planes: Words, bits: Words) -> None:
    """Count one voter: planes (P, W), in place, holds element i's count as bit i of each plane.

    Plane p weighs 2^p; bits (W). ValueError when a counter overflows: planes are then void.
    """
    _kernels.planes_add(planes, bits)


def apply_votes(
    planes: Words, members: int, scale: Floats, gamma: int, n: int, *, out: Floats | None = None
) -> Floats:
    """The ring's aggregate (n): scale * (2 V - members) / members, V the counts of n elements.

    planes (bit_length(members), W(n)), scale (S(n, gamma)), 1 <= members <= 65535. The quotient is
    rounded to float32, then the product. ValueError when a count is larger than members.
    """
    out = np.empty(_size(n, "n"), np.float32) if out is None else out
    _kernels.apply_votes(planes, members, scale, gamma, n, out)
    return out


def _length(a: npt.NDArray[np.generic], ndim: int, name: str) -> int:
    """First dimension of an array from which an output's shape is taken."""
    if not isinstance(a, np.ndarray):
        raise TypeError(f"{name}: expected a numpy array, got {type(a).__name__}")
    if a.ndim != ndim:
        raise ValueError(f"{name}: expected {ndim} dimension(s), got {a.ndim}")
    return int(a.shape[0])


def _size(n: int, name: str) -> int:
    if n < 0:
        raise ValueError(f"{name}: must be at least 0, got {n}")
    return n


def _segments(n: int, length: int, name: str) -> int:
    if length < 1:
        raise ValueError(f"{name}: must be at least 1, got {length}")
    return segments(n, length)


def _matrix(out: Floats | None, rows: int, columns: int) -> Floats:
    return np.empty((rows, _size(columns, "k")), np.float32) if out is None else out


def _pack_outputs(
    x: Floats, beta: int, out_words: Words | None, out_scales: Floats | None
) -> tuple[Words, Floats]:
    rows = _length(x, 2, "x")
    k = int(x.shape[1])
    if out_words is None:
        out_words = np.empty((rows, words(k)), np.uint64)
    if out_scales is None:
        out_scales = np.empty((rows, _segments(k, beta, "beta")), np.float32)
    return out_words, out_scales
