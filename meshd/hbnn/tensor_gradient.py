"""The gradients of a binarized product by torch alone, at the precisions of `meshd.hbnn.gradient`.

    out[r, i] = sum over c of v[r, c, s(i)] * code[c, i],    v[r, c, s] = G[r, c] * alpha[c, s]

    exact      v as it is: one dense product
    int8       v = q * step, step = max over c of |v| / 127, q rounded up or down at random:
               unbiased
    planes(k)  v = q * step, step = max |v| / L, q one of -L, -L + 2, .., L with L = 1, 2, 6, 14 for
               k = 1, 2, 3, 4: the floor of a running sum that starts at random, so unbiased, and
               the rounding errors of a row cancel

The random bits are those of torch's generator of the device: other draws than the kernels', of the
same distribution; of `planes` a row is one chain, where the kernels make sixteen of it.
Layers of few outputs are `exact`, as there: that is for the caller to see to, with `precision`.
Rounded, each segment has a product of its own, of small integers, which float32 adds exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from meshd.hbnn.binarize import Coding, expand_scales, segment_scales
from meshd.hbnn.tensor_bits import pack_bits, unpack_bits

LARGEST_INTEGER = {"int8": 127, "planes(1)": 1, "planes(2)": 2, "planes(3)": 6, "planes(4)": 14}
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
    largest = v.abs().amax(1, keepdim=True) if v.shape[1] else v.new_zeros(len(v), 1)
    most = LARGEST_INTEGER[setting]
    step = torch.where(largest < COUNTS_AS_ZERO, 0.0, largest / most)
    step = torch.where(torch.isfinite(largest), step, torch.nan)
    usable = step > 0
    scaled = torch.where(usable, v, 0.0) / torch.where(usable, step, 1.0)
    if setting == "int8":
        return step, torch.floor(scaled + torch.rand_like(v)).clamp(-most, most)
    # Digits 0..most, 16 bits after the point; integers, so that the running sum is exact.
    fixed = (scaled.float() * 32768).round().long().clamp(-32768 * most, 32768 * most)
    fixed += 32768 * most
    start = torch.randint(65536, (len(v), 1), device=v.device)
    sums = fixed.cumsum(1) + start
    digits = (sums >> 16) - ((sums - fixed) >> 16)
    return step, torch.where(usable, (2 * digits - most).to(v.dtype), 0.0)
