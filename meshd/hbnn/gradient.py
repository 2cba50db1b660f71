"""The two gradients of a binarized product, from packed bits: three settings of one operation.

    dL/dx = dL/dY @ w_hat        dL/dw = (dL/dY)^T @ x_hat

The bits choose among the terms, so no dequantized matrix is needed:

    exact      float32, as if dense
    int8       each row of dL/dY, times a segment's scales, rounded to int8 up or down at random:
               unbiased
    planes(k)  the same rounded to 2, 3, 7, 15 levels, k = 1..4, one of them 0 from k = 2 on:
               unbiased, and the rounding errors of a row cancel

`meshd.bits.backward` says exactly what each computes. The seed of what is random is drawn from
torch's default generator, so `torch.manual_seed` repeats a run.

Layers of fewer than NARROWEST_ROUNDED outputs are always `exact`: dL/dx then sums so few terms that
their rounding does not average out, dL/dw has few rows, and neither product costs much. The last
layer of a classifier is one, and its gradient is the source of all others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from meshd.bits import ops
from meshd.hbnn.binarize import segment_count
from meshd.hbnn.memory import GRADIENTS

PLANES = re.compile(r"planes\(([1-4])\)")

# Cycles for five terms of one output row and one segment, by look-up: for each strip of 256 columns
# (the tables) and each panel of 64 (the look-ups); and for five columns in a dense product. Fitted
# to one core of a Zen 4, 1024^3: against torch.mm look-ups win from segments of 48 on, and do 2.7
# times as much at 256. Other instruction sets have no tables of floats that pay.
LOOK_UP_CYCLES = {"avx512": (8.1, 7.4), "avx512bw": (8.1, 7.4)}
DENSE_CYCLES = 5 / 12.4
STRIP, PANEL = 256, 64
NARROWEST_ROUNDED = 64  # outputs of a layer, in a group


@dataclass(frozen=True)
class Factor:
    """The packed matrix of a product: rows of `length` elements, segments of `beta`."""

    words: NDArray[np.uint64]
    scales: NDArray[np.float32]
    beta: int
    length: int
    unipolar: bool

    def part(self, rows: slice) -> Factor:
        """Return some of the rows."""
        return replace(self, words=self.words[rows], scales=self.scales[rows])

    def dense(self) -> Tensor:
        """Return the matrix (rows, length) float32 that the bits stand for."""
        unpack = ops.unpack_unipolar if self.unipolar else ops.unpack_signed
        result = torch.empty(self.words.shape[0], self.length)
        unpack(self.words, self.scales, self.beta, self.length, out=result.numpy())
        return result


def check_backward(setting: str) -> str:
    """Return `setting`, "exact", "int8" or "planes(1)" to "planes(4)"; ValueError otherwise."""
    if setting in ("exact", "int8") or (isinstance(setting, str) and PLANES.fullmatch(setting)):
        return setting
    raise ValueError(
        f'backward must be "exact", "int8" or "planes(k)" with k of 1 to 4, not {setting!r}'
    )


def planes_of(setting: str) -> int:
    """Return the k of "planes(k)"."""
    return int(setting[len("planes(") : -1])


def precision(setting: str, outputs: int) -> str:
    """Return the setting of a layer, or a group, of so many outputs: "exact" where they are few."""
    return setting if outputs >= NARROWEST_ROUNDED else "exact"


def look_up_is_faster(isa: str, beta: int) -> bool:
    """Whether `exact` looks sums up, or multiplies the dequantized matrix."""
    if isa not in LOOK_UP_CYCLES:
        return False
    per_strip, per_panel = LOOK_UP_CYCLES[isa]
    look_up = segment_count(beta, STRIP) * per_strip + segment_count(beta, PANEL) * per_panel
    return look_up < beta * DENSE_CYCLES


def kept_bits(x: Tensor, cut: float | None) -> NDArray[np.uint64] | None:
    """Return one packed bit for each element of x (M, K): whether |x| <= cut. None keeps all.

    Where x is NaN the bit is 0.
    """
    return None if cut is None else ops.within(x.detach().contiguous().numpy(), cut)


def product_with_bits(
    grad: Tensor,
    bits: Factor,
    setting: str,
    *,
    transposed: bool = False,
    keep: NDArray[np.uint64] | None = None,
) -> Tensor:
    """Return grad @ bits, or grad^T @ bits where `transposed`, +0 where a bit of `keep` is 0.

    grad (R, C), or (C, R), float32 on the CPU; bits (C, K); keep (R, ceil(K/64)); result (R, K).
    As dL/dY (M, N) lies in both cases, its columns are the layer's outputs: see `precision`.
    """
    g = grad.detach().contiguous()
    setting = precision(setting, g.shape[1])
    if setting == "exact" and not look_up_is_faster(ops.isa(), bits.beta):
        return masked((g.T if transposed else g) @ bits.dense(), keep)
    out = GRADIENTS.empty(g.shape[1] if transposed else g.shape[0], bits.length)
    operands = (g.numpy(), bits.words, bits.scales, bits.beta, bits.length)
    options: dict[str, Any] = {
        "transposed": transposed,
        "unipolar": bits.unipolar,
        "keep": keep,
        "threads": min(torch.get_num_threads(), ops.MOST_THREADS),
        "out": out.numpy(),
    }
    if setting == "exact":
        ops.backward_exact(*operands, **options)
    else:
        options["seed"] = int(torch.randint(2**62, ()))
        if setting == "int8":
            ops.backward_int8(*operands, **options)
        else:
            ops.backward_planes(*operands, planes=planes_of(setting), **options)
    return out


def masked(gradient: Tensor, keep: NDArray[np.uint64] | None) -> Tensor:
    """Make the elements (R, K) +0, in place, whose bit is 0, whatever they are; None keeps all."""
    if keep is None:
        return gradient
    length = gradient.shape[1]
    ones = torch.empty(gradient.shape)
    ops.unpack_unipolar(keep, np.ones((len(keep), 1), np.float32), length, length, out=ones.numpy())
    # As integers: a float product would make NaN of an infinity, and take seven times as long.
    gradient.view(torch.int32).bitwise_and_(ones.to(torch.int32).neg_())
    return gradient
