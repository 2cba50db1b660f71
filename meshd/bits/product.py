"""Products of packed matrices. Rules that hold for all of it: `meshd.bits.ops`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from meshd.bits import _kernels
from meshd.bits.arguments import length, matrix, pack_outputs
from meshd.bits.layout import Floats, Words

Units = npt.NDArray[np.uint32]
PANEL_ALIGNMENT_BYTES = 64


@dataclass(frozen=True)
class Panels:
    """Weights laid out for the kernels of one instruction set, to serve many products.

    Valid for the same W and activations of the same coding and beta, while `isa` is in use. All
    of that is checked but W. A beta that is at least k stands as k.
    """

    units: Units
    isa: str
    coding: str
    beta_w: int
    beta_a: int
    k: int


def prepare_signed(
    w_words: Words, w_scales: Floats, beta_w: int, beta_a: int, k: int, *, threads: int = 1
) -> Panels:
    """Lay out signed weights W (N, k) once for products with signed activations cut by beta_a."""
    rows = length(w_words, 2, "w_words")
    units = aligned(_kernels.panel_units_signed(rows, beta_w, beta_a, k))
    isa = _kernels.prepare_signed(w_words, w_scales, beta_w, beta_a, k, threads, units)
    return Panels(units, isa, "signed", min(beta_w, k), min(beta_a, k), k)


def prepare_unipolar(
    w_words: Words, w_scales: Floats, beta_w: int, beta_a: int, k: int, *, threads: int = 1
) -> Panels:
    """Lay out signed weights W (N, k) once for products with unipolar activations."""
    rows = length(w_words, 2, "w_words")
    units = aligned(_kernels.panel_units_unipolar(rows, beta_w, beta_a, k))
    isa = _kernels.prepare_unipolar(w_words, w_scales, beta_w, beta_a, k, threads, units)
    return Panels(units, isa, "unipolar", min(beta_w, k), min(beta_a, k), k)


def product_signed(
    a_words: Words,
    a_scales: Floats,
    beta_a: int,
    w_words: Words,
    w_scales: Floats,
    beta_w: int,
    k: int,
    *,
    bias: Floats | None = None,
    panels: Panels | None = None,
    threads: int = 1,
    out: Floats | None = None,
) -> Floats:
    """Y (M, N) = A W^T (+ bias (N)) of signed packed matrices A (M, k) and W (N, k).

    Y[m, n] = bias[n] + sum over segments s of alpha_a[m, s] * alpha_w[n, s] * dot_s(a[m], w[n]),
    where s runs over the finer of the two cuts, each term a product rounded and a fused
    multiply-add. One of beta_a, beta_w must divide the other or be at least k; ValueError
    otherwise. k < 2^31. `panels` are W's, of `prepare_signed`; None lays them out on the way. At
    most `threads` threads work; their number does not change a bit. MemoryError when there is no
    room for the kernel's scratch. Fast for beta 8, 16, 32, 64, 128, 256, for any multiple of 64
    above, and for whole rows; other betas are correct, and cost about as much as beta 32.
    """
    out = matrix(out, length(a_words, 2, "a_words"), length(w_words, 2, "w_words"))
    units, isa = units_of(panels, "signed", beta_w, beta_a, k)
    _kernels.product_signed(
        a_words, a_scales, beta_a, w_words, w_scales, beta_w, k, bias, units, isa, threads, out
    )
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
    bias: Floats | None = None,
    panels: Panels | None = None,
    threads: int = 1,
    out: Floats | None = None,
) -> Floats:
    """Y (M, N) = A W^T of a unipolar A (M, k) and a signed W (N, k). Else as `product_signed`."""
    out = matrix(out, length(a_words, 2, "a_words"), length(w_words, 2, "w_words"))
    units, isa = units_of(panels, "unipolar", beta_w, beta_a, k)
    _kernels.product_unipolar(
        a_words, a_scales, beta_a, w_words, w_scales, beta_w, k, bias, units, isa, threads, out
    )
    return out


def binarized_product_signed(
    x: Floats,
    beta_a: int,
    w_words: Words,
    w_scales: Floats,
    beta_w: int,
    *,
    bias: Floats | None = None,
    panels: Panels | None = None,
    threads: int = 1,
    cut: float | None = None,
    out_kept: Words | None = None,
    out_words: Words | None = None,
    out_scales: Floats | None = None,
    out: Floats | None = None,
) -> tuple[Words, Floats, Floats]:
    """Binarize x (M, K) as `pack_signed` does, and multiply it with W (N, K) as `product_signed`.

    The same bits as the two calls, and faster: a block of rows is binarized while it is in the
    cache, and the next one fetched meanwhile. Returns words (M, W(K)), scales (M, S(K, beta_a)) and
    Y (M, N). Where `out_kept` (M, W(K)) is given, the same pass writes `within(x, cut)` to it.
    """
    out_words, out_scales = pack_outputs(x, beta_a, out_words, out_scales)
    out = matrix(out, length(x, 2, "x"), length(w_words, 2, "w_words"))
    k = int(x.shape[1])
    units, isa = units_of(panels, "signed", beta_w, beta_a, k)
    _kernels.binarized_product_signed(
        x,
        beta_a,
        w_words,
        w_scales,
        beta_w,
        bias,
        units,
        isa,
        threads,
        cut,
        out_kept,
        out_words,
        out_scales,
        out,
    )
    return out_words, out_scales, out


def binarized_product_unipolar(
    x: Floats,
    beta_a: int,
    w_words: Words,
    w_scales: Floats,
    beta_w: int,
    *,
    bias: Floats | None = None,
    panels: Panels | None = None,
    threads: int = 1,
    cut: float | None = None,
    out_kept: Words | None = None,
    out_words: Words | None = None,
    out_scales: Floats | None = None,
    out: Floats | None = None,
) -> tuple[Words, Floats, Floats]:
    """Binarize x (M, K) to {0, 1} and multiply it with W. Else as `binarized_product_signed`."""
    out_words, out_scales = pack_outputs(x, beta_a, out_words, out_scales)
    out = matrix(out, length(x, 2, "x"), length(w_words, 2, "w_words"))
    k = int(x.shape[1])
    units, isa = units_of(panels, "unipolar", beta_w, beta_a, k)
    _kernels.binarized_product_unipolar(
        x,
        beta_a,
        w_words,
        w_scales,
        beta_w,
        bias,
        units,
        isa,
        threads,
        cut,
        out_kept,
        out_words,
        out_scales,
        out,
    )
    return out_words, out_scales, out


def units_of(
    panels: Panels | None, coding: str, beta_w: int, beta_a: int, k: int
) -> tuple[Units | None, str | None]:
    """Return the units of panels and their instruction set, None for none.

    ValueError unless they were prepared for this: whether the set is in use, the kernel asks.
    """
    if panels is None:
        return None, None
    if not isinstance(panels, Panels):
        raise TypeError(f"panels: expected Panels, got {type(panels).__name__}")
    here = (coding, min(beta_w, k), min(beta_a, k), k)
    there = (panels.coding, panels.beta_w, panels.beta_a, panels.k)
    for name, wanted, got in zip(("coding", "beta_w", "beta_a", "k"), here, there, strict=True):
        if wanted != got:
            raise ValueError(f"panels: were prepared for {name} = {got}, not {wanted}")
    return panels.units, panels.isa


def aligned(count: int) -> Units:
    """New memory for so many units, where the kernels may read it."""
    spare = PANEL_ALIGNMENT_BYTES // 4
    memory = np.empty(count + spare, np.uint32)
    first = -memory.ctypes.data % PANEL_ALIGNMENT_BYTES // 4
    return memory[first : first + count]
