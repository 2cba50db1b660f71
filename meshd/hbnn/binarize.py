"""Hadamard binarization of tensors, and its straight-through estimator.

A vector is cut along the reduction (last) dimension into segments of beta elements; the last one
may be shorter and is averaged over its real length n_s. With s(i) the segment of element i:

    alpha[s]     = (1 / n_s) * sum over i in s of |x[i]|
    H_beta(x)[i] = alpha[s(i)] * c(x[i])

where c is the coding, one bit an element:

    signed    c(x) = +1 where x >= 0, else -1      weights, and activations of both signs
    unipolar  c(x) =  1 where x > 0,  else  0      activations after a Ramp: Sign[0] = 0

alpha is the scale that makes alpha * sign(x) nearest to x over the segment in the Euclidean norm
(XNOR-Net, arXiv 1603.05279, section 3.1). beta = 1 gives x back (unipolar: the ramp of x).

H twice. A signed vector is a fixed point: every |H(x)[i]| of a segment is alpha, so their mean is
alpha again. A unipolar one is not: with p the share of ones in the segment, the mean of H(x) is
p * alpha, so H(H(x)) = p * H(x), segment by segment.

H is flat almost everywhere, so its gradient is estimated, as if H were the identity, and cut where
|x| is large: `meshd.hbnn.estimator`.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor

from meshd.bits import ops
from meshd.hbnn.estimator import (
    Estimator,
    check_cut,
    check_estimator,
    derivative_bytes,
    times_bytes,
)
from meshd.hbnn.tensor_bits import bytes_of, on_kernels, pack_bits, times_bits

Coding = Literal["signed", "unipolar"]


def check_beta(beta: int, name: str = "beta") -> int:
    """Return `beta`, a segment length of at least 1; ValueError otherwise."""
    if isinstance(beta, bool) or not isinstance(beta, int) or beta < 1:
        raise ValueError(f"{name} must be an integer of at least 1, not {beta!r}")
    return beta


def check_coding(coding: str) -> Coding:
    """Return `coding`, "signed" or "unipolar"; ValueError otherwise."""
    if coding not in get_args(Coding):
        raise ValueError(f'coding must be "signed" or "unipolar", not {coding!r}')
    return coding  # type: ignore[return-value]


def segment_count(length: int, beta: int) -> int:
    """Return how many segments of `beta` elements cover `length` elements: ceil(length / beta)."""
    return -(-length // beta)


def segment_scales(x: Tensor, beta: int) -> Tensor:
    """Return the mean of |x| over each segment of the last dimension.

    `x` (..., K) floating, K >= 1; result (..., ceil(K / beta)), same dtype and device.
    """
    length = x.shape[-1]
    beta = min(beta, length)
    count = segment_count(length, beta)
    padded = torch.nn.functional.pad(x.abs(), (0, count * beta - length))
    sums = padded.reshape(*x.shape[:-1], count, beta).sum(-1)
    sizes = torch.full((count,), float(beta), dtype=x.dtype, device=x.device)
    sizes[-1] = length - (count - 1) * beta
    means: Tensor = sums / sizes
    return means


def expand_scales(scales: Tensor, beta: int, length: int) -> Tensor:
    """Repeat each segment's scale over its elements: (..., ceil(K / beta)) -> (..., K)."""
    return scales.repeat_interleave(min(beta, length), -1)[..., :length]


def codes(x: Tensor, coding: Coding) -> Tensor:
    """Return c(x) in the dtype of `x`: signed {-1, +1} with c(0) = +1, unipolar {0, 1}."""
    positive = (x > 0 if coding == "unipolar" else x >= 0).to(x.dtype)
    return positive if coding == "unipolar" else 2 * positive - 1


def hadamard(x: Tensor, beta: int, coding: Coding) -> Tensor:
    """Return H_beta(x) along the last dimension, without a gradient rule of its own."""
    return expand_scales(segment_scales(x, beta), beta, x.shape[-1]) * codes(x, coding)


class _Binarize(torch.autograd.Function):
    """H_beta forward, straight-through backward; keeps what `meshd.hbnn.estimator` says."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, beta: int, coding: Coding, cut: float | None, estimator: Estimator
    ) -> Tensor:
        ctx.estimator = None if cut is None else estimator
        if cut is not None:
            ctx.save_for_backward(kept_derivative(x, cut, estimator))
        return _binarized(x, beta, coding)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        if ctx.estimator is not None:
            (kept,) = ctx.saved_tensors
            grad = times_kept(grad, kept, ctx.estimator)
        return grad, None, None, None, None


def _binarized(x: Tensor, beta: int, coding: Coding) -> Tensor:
    """Return H_beta(x), by the kernels where they can."""
    if not on_kernels(x) or x.numel() == 0:
        return hadamard(x, beta, coding)
    rows = x.detach().reshape(-1, x.shape[-1]).contiguous()
    unipolar, length = coding == "unipolar", x.shape[-1]
    packed = (ops.pack_unipolar if unipolar else ops.pack_signed)(rows.numpy(), beta)
    unpack = ops.unpack_unipolar if unipolar else ops.unpack_signed
    result = torch.empty_like(rows)
    unpack(*packed, beta, length, out=result.numpy())
    return result.view(x.shape)


def kept_derivative(x: Tensor, cut: float, estimator: Estimator) -> Tensor:
    """Return dH/dx of x (..., K) as it is kept, uint8: bits (..., 8 ceil(K/64)), codes (..., K)."""
    if estimator == "polynomial":
        return derivative_bytes(x, cut)
    if not on_kernels(x) or x.numel() == 0:
        return pack_bits(x.abs() <= cut)
    words = ops.within(x.detach().reshape(-1, x.shape[-1]).contiguous().numpy(), cut)
    return bytes_of(words, x.shape)


def times_kept(grad: Tensor, kept: Tensor, estimator: Estimator) -> Tensor:
    """Return grad (..., K) * dH/dx, as `kept_derivative` kept it."""
    if estimator == "cut":
        return times_bits(grad.contiguous(), kept)
    return times_bytes(grad, kept)


def hadamard_binarize(
    x: Tensor,
    beta: int,
    coding: str = "signed",
    cut: float | None = 1.0,
    estimator: str = "cut",
) -> Tensor:
    """Binarize `x` along its last dimension: H_beta of this file's first lines.

    `x` is (..., K), floating, K >= 1; any `beta` >= 1 will do: one that does not divide K leaves a
    shorter last segment, one above K makes the whole row one segment. The result has the shape,
    dtype and device of `x`. Backward hands the gradient on as `cut` and `estimator` say (see
    `meshd.hbnn.estimator`; everywhere if `cut` is None), in both codings and for every beta, 1
    included. Where x is NaN, its whole segment is NaN. ValueError for anything else.
    """
    if not x.is_floating_point():
        raise ValueError(f"only floating tensors can be binarized, not {x.dtype}")
    if x.dim() == 0 or x.shape[-1] == 0:
        raise ValueError(f"nothing to binarize along the last dimension of shape {tuple(x.shape)}")
    rule = (check_beta(beta), check_coding(coding), check_cut(cut), check_estimator(estimator))
    result: Tensor = _Binarize.apply(x, *rule)  # type: ignore[no-untyped-call]
    return result


def quantize_scales(scales: Tensor) -> Tensor:
    """Round float32 scales to the nearest float16 value, ties to even; the result is float32.

    On the ring and in model files a scale is 16 bits. A packed layer holds such values, so that
    what is trained, hashed and exported is the same network. ValueError where a scale is negative,
    not finite, or above 65504, the largest float16: the latents have diverged.
    """
    rounded = scales.to(torch.float16).to(torch.float32)
    if not bool(torch.isfinite(rounded).all()) or bool((rounded < 0).any()):
        raise ValueError(
            "a scale is negative, not finite or above 65504 and has no 16-bit form; "
            "the weights have diverged: lower the learning rate"
        )
    return rounded
