"""The gradients of a binarized product by torch alone, at the precisions of `meshd.hbnn.gradient`.

    out[r, i] = sum over c of v[r, c, s(i)] * code[c, i],    v[r, c, s] = G[r, c] * alpha[c, s]

    exact      v as it is: one dense product
    int8       v = q * step, step = max over c of |v| / 127, q rounded up or down at random:
               unbiased. The random bits are those of torch's generator of the device: other draws
               than the kernels', of the same distribution
    planes(k)  v becomes the nearest of step * (2 d - 2^k + 1), d = 0..2^k - 1, step = mean |v|
               times 1, 0.6241, 0.3672 or 0.2099 (Max 1960): the kernels' numbers, but for the last
               bits of step, and with it a value that lies exactly between two levels

Rounded, each segment has a product of its own, of small integers, which float32 adds exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from meshd.hbnn.binarize import Coding, expand_scales, segment_scales
from meshd.hbnn.tensor_bits import pack_bits, unpack_bits

STEP_OF_MEAN = (1.0, 0.6241, 0.3672, 0.2099)  # of 1..4 planes
COUNTS_AS_ZERO = 1e-30  # smaller magnitudes of v, of a whole row and segment, are 0


@dataclass(frozen=True)
class TensorFactor:
    """Binarized rows (C, K), any leading dimensions: bits uint8 (C, 8 ceil(K/64)), scales (C, S).

    With beta = 1 rows stay float: `bits` are their values (C, K), and there are no scales: (0,).
    """

    bits: Tensor
    scales: Tensor
    beta: int
    length: int
    coding: Coding

    @staticmethod
    def of(x: Tensor, beta: int, coding: Coding) -> TensorFactor:
        """Binarize `x` (C, K) and pack it."""
        if beta == 1:
            return TensorFactor(floats(x, coding), x.new_empty(0), 1, x.shape[-1], coding)
        positive = x > 0 if coding == "unipolar" else x >= 0
        return TensorFactor(pack_bits(positive), segment_scales(x, beta), beta, x.shape[-1], coding)

    def part(self, rows: slice) -> TensorFactor:
        """Return some of the rows."""
        scales = self.scales if self.is_float else self.scales[rows]
        return replace(self, bits=self.bits[rows], scales=scales)

    @property
    def is_float(self) -> bool:
        """Whether the rows stay float."""
        return self.beta == 1

    def times(self, gain: Tensor | None) -> TensorFactor:
        """Return the rows multiplied by `gain` (C), None for 1."""
        if gain is None:
            return self
        if self.is_float:
            return replace(self, bits=self.bits * gain[:, None])
        return replace(self, scales=self.scales * gain[:, None])

    def codes(self) -> Tensor:
        """Return c(x) (C, K), in the scales' dtype."""
        ones = unpack_bits(self.bits, self.length).to(self.scales.dtype)
        return ones if self.coding == "unipolar" else 2 * ones - 1

    def dense(self) -> Tensor:
        """Return H_beta(x) (C, K)."""
        if self.is_float:
            return self.bits
        return expand_scales(self.scales, self.beta, self.length) * self.codes()


def floats(x: Tensor, coding: Coding) -> Tensor:
    """Return H_1(x): x itself, or its ramp."""
    return torch.relu(x) if coding == "unipolar" else x


def product_with_factor(g: Tensor, factor: TensorFactor, setting: str) -> Tensor:
    """Return g @ factor, (R, C) and (C, K) to (R, K), at the precision `setting`.

    Rows that stayed float have no scales to round with: their product is exact.
    """
    if setting == "exact" or factor.is_float:
        return g @ factor.dense()
    return rounded_product(g, factor.codes(), factor.scales, factor.beta, setting)


def rounded_product(g: Tensor, codes: Tensor, scales: Tensor, beta: int, setting: str) -> Tensor:
    """Return g @ (scales * codes), (R, C) and (C, K) to (R, K), rounded: `setting` is not "exact".

    Codes are -1, 0 or 1; scales (C, ceil(K / beta)).
    """
    pieces = []
    for s, columns in enumerate(torch.split(codes, beta, -1)):
        step, values = rounded(g * scales[:, s], setting)
        pieces.append(step * (values @ columns))
    return torch.cat(pieces, -1)


def rounded(v: Tensor, setting: str) -> tuple[Tensor, Tensor]:
    """Return (step (R, 1), integers (R, C)) of v (R, C): v is about step * integer.

    Where a v of a row is not finite step is NaN, where all are below COUNTS_AS_ZERO it is 0.
    """
    magnitude = v.abs()
    if setting == "int8":
        largest = magnitude.amax(1, keepdim=True) if v.shape[1] else v.new_zeros(len(v), 1)
        step, usable = _usable(largest, 1 / 127)
        scaled = torch.where(usable, v, 0.0) / torch.where(usable, step, 1.0)
        return step, torch.floor(scaled + torch.rand_like(v)).clamp(-127, 127)
    planes = int(setting[len("planes(") : -1])
    mean = magnitude.sum(1, keepdim=True) / max(v.shape[1], 1)
    step, usable = _usable(mean, STEP_OF_MEAN[planes - 1])
    half, most = 2.0 ** (planes - 1), 2.0**planes - 1
    place = torch.where(usable, v, 0.0) * (0.5 / torch.where(usable, step, 1.0)) + half
    digit = torch.floor(place.clamp(0, most))
    return step, torch.where(usable, 2 * digit - most, 0.0)


def _usable(size: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """Return the step, size * factor, and where it is a positive number."""
    step = torch.where(size < COUNTS_AS_ZERO, 0.0, size * factor)
    step = torch.where(torch.isfinite(size), step, torch.nan)
    return step, step > 0
