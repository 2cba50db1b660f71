"""Products of packed matrices. Rules that hold for all of it: `meshd.bits.ops`."""

from __future__ import annotations

from meshd.bits import _kernels
from meshd.bits.arguments import length, matrix
from meshd.bits.layout import Floats, Words


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
    out = matrix(out, length(a_words, 2, "a_words"), length(w_words, 2, "w_words"))
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
    out = matrix(out, length(a_words, 2, "a_words"), length(w_words, 2, "w_words"))
    _kernels.product_unipolar(a_words, a_scales, beta_a, w_words, w_scales, beta_w, k, out)
    return out
