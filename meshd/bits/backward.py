"""Products of float32 rows with packed bits: the two gradients of a product, and the product of
activations that stay float. Rules that hold for all of it: `meshd.bits.ops`.

With G (R, C) float32 and a packed matrix b of C rows of k elements, segments of beta,

    out[r, i] = sum over c of v[r, c, s(i)] * code(b[c, i]),    v[r, c, s] = G[r, c] * alpha[c, s]

For Y = A W^T that is dL/dA with G = dL/dY (M, N) and b = W, and dL/dW with G = dL/dY transposed
and b = A. `transposed` says that g is stored as (C, R), so dL/dY serves both as it is. `unipolar`
says that b's codes are 0 and 1, else they are -1 and +1. `keep` (R, W(k)) are packed bits: where
one is 0, out is +0 - the straight-through estimator's cut. The result does not depend on `threads`.

The reduction C must be at most 2^22 for `backward_int8` and `backward_planes`.
"""

from __future__ import annotations

import numpy as np

from meshd.bits import _kernels
from meshd.bits.arguments import length, matrix, size
from meshd.bits.layout import Floats, Words


def backward_exact(
    g: Floats,
    words: Words,
    scales: Floats,
    beta: int,
    k: int,
    *,
    transposed: bool = False,
    unipolar: bool = False,
    keep: Words | None = None,
    threads: int = 1,
    out: Floats | None = None,
) -> Floats:
    """The product in float32: (R, k). Each v is rounded once, then float32 additions.

    c ascends in groups of five: a group's five terms are added in order, then the group to the sum.
    NaN and infinities give what a dense product of g with the unpacked matrix gives.
    """
    out = _output(g, k, transposed, out)
    _kernels.backward_exact(g, transposed, words, scales, beta, k, unipolar, keep, threads, out)
    return out


def backward_int8(
    g: Floats,
    words: Words,
    scales: Floats,
    beta: int,
    k: int,
    *,
    seed: int,
    transposed: bool = False,
    unipolar: bool = False,
    keep: Words | None = None,
    threads: int = 1,
    out: Floats | None = None,
) -> Floats:
    """The product with v rounded to int8, up or down at random: (R, k), unbiased.

    v = q * step with step = max over c of |v| / 127 for each (r, s); the expectation of q * step is
    v (but for at most 2^-16 steps towards 0). The random bits are a function of (seed, r, s, c)
    alone, 0 <= seed < 2^63. Beyond the rounding of v, out is exact and rounded twice.
    Where a v of (r, s) is NaN or infinite, out is NaN in that row and segment; where all
    |v| < 1e-30, they count as 0.
    """
    out = _output(g, k, transposed, out)
    _kernels.backward_int8(
        g, transposed, words, scales, beta, k, unipolar, keep, threads, out, seed
    )
    return out


def backward_planes(
    g: Floats,
    words: Words,
    scales: Floats,
    beta: int,
    k: int,
    *,
    planes: int,
    seed: int,
    transposed: bool = False,
    unipolar: bool = False,
    keep: Words | None = None,
    threads: int = 1,
    out: Floats | None = None,
) -> Floats:
    """The product with v rounded to 1..4 bit planes, up or down at random: (R, k), unbiased.

    v = q * step with step = max over c of |v| / (2^(planes - 1) - 1) for each (r, s) and q an
    integer of -(2^(planes - 1) - 1) to 2^(planes - 1) - 1: 3, 7 or 15 levels for 2, 3 or 4 planes;
    one plane has the two levels -max |v| and max |v|. The expectation of the level is v (but for at
    most 2^-17 of the distance of two levels), the largest |v| stays what it is, and so does v = 0,
    but for one plane. A level takes over what the one before it left of its v, in 16 chains of c:
    in a chain, the sum of the levels is within the distance of two of that of v. Where the chains
    start is a function of (seed, r, s) alone, 0 <= seed < 2^63. What is not finite or too small: as
    `backward_int8`.
    """
    out = _output(g, k, transposed, out)
    _kernels.backward_planes(
        g, transposed, words, scales, beta, k, unipolar, keep, threads, out, planes, seed
    )
    return out


def product_floats(
    x: Floats,
    w_words: Words,
    w_scales: Floats,
    beta_w: int,
    k: int,
    *,
    threads: int = 1,
    out: Floats | None = None,
) -> Floats:
    """Y (M, N) = x W^T of float activations x (M, k) and a signed packed W (N, k): beta_a = 1.

    Y[m, n] = sum over segments s, ascending, of alpha[n, s] * (sum over i in s of x[m, i] * sign),
    the inner sum in the order of `backward_exact`, from each segment's start. The result does not
    depend on `threads`.
    """
    out = matrix(out, length(x, 2, "x"), length(w_words, 2, "w_words"))
    _kernels.product_floats(x, w_words, w_scales, beta_w, k, threads, out)
    return out


def _output(g: Floats, k: int, transposed: bool, out: Floats | None) -> Floats:
    if out is not None:
        return out
    rows = length(g, 2, "g")
    return np.empty((int(g.shape[1]) if transposed else rows, size(k, "k")), np.float32)
