"""The product of binarized activations with binarized weights, by two routes that agree.

With x_hat = H_beta_a(x), w_hat = H_beta_w(w), and s running over the segments on which both
scales are constant:

    Y[m, n] = sum_i x_hat[m, i] * w_hat[n, i] = sum_s alpha_a[m, s] * alpha_w[n, s] * dot_s(m, n)

dot_s is a population count over packed words (design section 4). The *native* route packs x and
calls the kernels of `meshd.bits`. The *tensor* route multiplies dequantized matrices: it serves
every other device and dtype, segments that are short or do not nest, and the tests as an oracle.
The two differ only by the order in which float32 terms are added.

Backward, both routes, straight through:

    dL/dx = (dL/dY @ w_hat)    where |x| <= cut
    dL/dw = (dL/dY)^T @ x_hat  where |w| <= cut, if w are latents; uncut if w is already w_hat

The native route keeps two bits and the scales an activation for this, not a float: the packed
codes, and whether |x| <= cut. It computes both gradients from the bits, exactly or rounded, as the
rule's `backward` says (`meshd.hbnn.gradient`); the tensor route is always exact. Its outputs lie in
memory that torch allocated, which is aligned alike in every run: float products may round otherwise
at another alignment (oneMKL developer guide, "Obtaining Numerically Reproducible Results"), and a
run must be repeatable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from meshd.bits import ops
from meshd.hbnn.binarize import Coding, hadamard_binarize, segment_count
from meshd.hbnn.gradient import Factor, kept_bits, product_with_bits

# Each segment costs the kernels a conversion and a multiplication: short ones cost them most. One
# core with AVX-512, GOPS at 1024 x 1024 x 1024, where a float32 product has 95 to 105: beta 8 280,
# 16 540, 64 1400, 256 1900. Below 8 a segment is padded to 64 elements.
SHORTEST_NATIVE_SEGMENT = 8


@dataclass(frozen=True)
class ProductRule:
    """How a layer binarizes: segments, activations' coding, the estimator's cut and precision."""

    beta_w: int
    beta_a: int
    coding: Coding
    cut: float | None
    backward: str = "exact"  # or "int8", "planes(k)": see meshd.hbnn.gradient


@dataclass(frozen=True)
class PackedWeight:
    """Binarized weights (N, K): words (N, ceil(K/64)) uint64, scales (N, ceil(K/beta_w)) float32.

    Element i of a row is bit i % 64 of word i // 64, set for +; the bits past K are zero.
    """

    words: NDArray[np.uint64]
    scales: NDArray[np.float32]


def pack_weight(weight: Tensor, beta_w: int) -> PackedWeight:
    """Binarize and pack latent weights (N, K), with their exact float32 scales."""
    latents = weight.detach().to(device="cpu", dtype=torch.float32).contiguous()
    return PackedWeight(*ops.pack_signed(latents.numpy(), beta_w))


def unpack_weight(packed: PackedWeight, beta_w: int, length: int) -> Tensor:
    """Return w_hat (N, K) float32 on the CPU."""
    w_hat = torch.empty(packed.words.shape[0], length)
    ops.unpack_signed(packed.words, packed.scales, beta_w, length, out=w_hat.numpy())
    return w_hat


def native_route_takes(x: Tensor, weight: Tensor, rule: ProductRule) -> bool:
    """Whether the kernels do this product.

    They take float32 in the CPU's memory on both sides, and segments that nest (one of beta_a and
    beta_w divides the other or covers the row); below SHORTEST_NATIVE_SEGMENT they would be slower.
    """
    shorter, longer = sorted((rule.beta_a, rule.beta_w))
    nests = longer % shorter == 0 or longer >= weight.shape[1]
    on_cpu = all(t.device.type == "cpu" and t.dtype == torch.float32 for t in (x, weight))
    return on_cpu and nests and shorter >= SHORTEST_NATIVE_SEGMENT


def product_tensor(x: Tensor, weight: Tensor, latent: bool, rule: ProductRule) -> Tensor:
    """Return x_hat @ w_hat^T by dense matrix product: (M, K), (N, K) -> (M, N).

    `weight` holds latents if `latent`, else w_hat.
    """
    w_hat = hadamard_binarize(weight, rule.beta_w, "signed", rule.cut) if latent else weight
    return hadamard_binarize(x, rule.beta_a, rule.coding, rule.cut) @ w_hat.T


def product_native(
    x: Tensor, weight: Tensor, packed: PackedWeight | None, rule: ProductRule
) -> Tensor:
    """Return x_hat @ w_hat^T by the kernels: (M, K), (N, K) -> (M, N), all float32 on the CPU.

    With `packed` None, `weight` holds latents, packed here; otherwise `weight` is the dequantized
    `packed`, present for its gradient. Rows of `x` that are not contiguous are copied first.
    """
    result: Tensor = _NativeProduct.apply(x, weight, packed, rule)  # type: ignore[no-untyped-call]
    return result


class _NativeProduct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, packed: PackedWeight | None, rule: ProductRule
    ) -> Tensor:
        rows = x.detach().contiguous().numpy()
        unipolar, length = rule.coding == "unipolar", rows.shape[1]
        multiply = ops.binarized_product_unipolar if unipolar else ops.binarized_product_signed
        w = packed if packed is not None else pack_weight(weight, rule.beta_w)
        y = torch.empty(rows.shape[0], w.words.shape[0])
        cut = rule.cut if ctx.needs_input_grad[0] else None
        kept = None if cut is None else np.empty((len(rows), segment_count(length, 64)), np.uint64)
        words, scales, _ = multiply(
            rows,
            rule.beta_a,
            w.words,
            w.scales,
            rule.beta_w,
            threads=min(torch.get_num_threads(), ops.MOST_THREADS),
            cut=cut,
            out_kept=kept,
            out=y.numpy(),
        )
        ctx.rule, ctx.is_latent = rule, packed is None
        ctx.weights = Factor(w.words, w.scales, rule.beta_w, length, unipolar=False)
        ctx.activations = Factor(words, scales, rule.beta_a, length, unipolar)
        ctx.kept = kept
        ctx.save_for_backward(weight)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (weight,) = ctx.saved_tensors
        grad_x = grad_w = None
        setting = ctx.rule.backward
        if ctx.needs_input_grad[0]:
            grad_x = product_with_bits(grad, ctx.weights, setting, keep=ctx.kept)
        if ctx.needs_input_grad[1]:
            kept = kept_bits(weight, ctx.rule.cut) if ctx.is_latent else None
            grad_w = product_with_bits(grad, ctx.activations, setting, transposed=True, keep=kept)
        return grad_x, grad_w, None, None
