"""The product of binarized activations with binarized weights, by two routes that agree.

With x_hat = H_beta_a(x), w_hat = H_beta_w(w), s running over the segments on which both scales are
constant, and a gain g[n] for each output where there is one, else 1:

    Y[m, n] = g[n] sum_i x_hat[m, i] w_hat[n, i]
            = sum_s alpha_a[m, s] (g[n] alpha_w[n, s]) dot_s(m, n)

dot_s is a population count over packed words (design section 4). The *native* route packs x and
calls the kernels of `meshd.bits`. The *tensor* route multiplies dequantized matrices: it serves
every other device and dtype, segments that are short or do not nest, and the tests as an oracle.
The two differ only by the order in which float32 terms are added.

Backward, both routes, straight through: `meshd.hbnn.straight_through`, at the precision that the
rule's `backward` names (`meshd.hbnn.gradient`).

Both routes keep bits and scales of an activation for this, not a float: the packed codes, and what
its derivative needs. The native route's outputs lie in memory that torch allocated, which is
aligned alike in every run: float products may round otherwise at another alignment (oneMKL
developer guide, "Obtaining Numerically Reproducible Results"), and a run must be repeatable.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from meshd.bits import ops
from meshd.bits.layout import Floats, Words
from meshd.hbnn.binarize import hadamard, kept_derivative, segment_count, times_kept
from meshd.hbnn.gradient import Factor, kept_bits, precision, product_with_bits
from meshd.hbnn.packed import PackedWeight, ProductRule, pack_weight, unpack_weight
from meshd.hbnn.straight_through import KeptDerivative, weight_gradients
from meshd.hbnn.tensor_bits import int64_of, words_of
from meshd.hbnn.tensor_gradient import TensorFactor, product_with_factor

# Each segment costs the kernels a conversion and a multiplication: short ones cost them most. One
# core with AVX-512, GOPS at 1024 x 1024 x 1024, where a float32 product has 95 to 105: beta 8 280,
# 16 540, 64 1400, 256 1900. Below 8 a segment is padded to 64 elements.
SHORTEST_NATIVE_SEGMENT = 8


def native_route_takes(x: Tensor, weight: Tensor, rule: ProductRule) -> bool:
    """Whether the kernels do this product.

    They take float32 in the CPU's memory on both sides, and segments that nest (one of beta_a and
    beta_w divides the other or covers the row); below SHORTEST_NATIVE_SEGMENT they would be slower.
    """
    shorter, longer = sorted((rule.beta_a, rule.beta_w))
    nests = longer % shorter == 0 or longer >= weight.shape[1]
    on_cpu = all(t.device.type == "cpu" and t.dtype == torch.float32 for t in (x, weight))
    return on_cpu and nests and shorter >= SHORTEST_NATIVE_SEGMENT


def product_tensor(
    x: Tensor, weight: Tensor, latent: bool, rule: ProductRule, gain: Tensor | None = None
) -> Tensor:
    """Return x_hat @ (g w_hat)^T by dense matrix product: (M, K), (N, K) -> (M, N).

    `weight` holds latents if `latent`, else w_hat; `gain` (N).
    """
    result: Tensor = _TensorProduct.apply(x, weight, gain, latent, rule)  # type: ignore[no-untyped-call]
    return result


def product_native(
    x: Tensor,
    weight: Tensor,
    packed: PackedWeight | None,
    rule: ProductRule,
    gain: Tensor | None = None,
) -> Tensor:
    """Return x_hat @ (g w_hat)^T by the kernels: (M, K), (N, K) -> (M, N), all float32 on the CPU.

    With `packed` None, `weight` holds latents, packed here; otherwise `weight` is the dequantized
    `packed`, present for its gradient. Rows of `x` that are not contiguous are copied first.
    `gain` (N). Where no gradient is wanted, weights that are `packed` are laid out once.
    """
    if packed is not None and gain is None and not torch.is_grad_enabled():
        return _product_with_panels(x, packed, rule)
    result: Tensor = _NativeProduct.apply(x, weight, gain, packed, rule)  # type: ignore[no-untyped-call]
    return result


def multiply_packed(
    x: Tensor, w: PackedWeight, rule: ProductRule, keep: bool
) -> tuple[Tensor, Words, Floats, KeptDerivative]:
    """Return Y, the packed activations x (M, K), dense float32 on the CPU, and, if asked, d(x)."""
    length = x.shape[1]
    multiply = ops.binarized_product_unipolar if rule.is_unipolar else ops.binarized_product_signed
    y = torch.empty(len(x), len(w.words))
    kept = KeptDerivative()
    if keep and rule.cut_a is not None and rule.estimator == "cut":
        # The product marks what is kept in its own pass.
        kept = KeptDerivative(bits=np.empty((len(x), segment_count(length, 64)), np.uint64))
    elif keep:
        kept = KeptDerivative.of(x, rule)
    words, scales, _ = multiply(
        x.numpy(),
        rule.beta_a,
        w.words,
        w.scales,
        rule.beta_w,
        threads=min(torch.get_num_threads(), ops.MOST_THREADS),
        cut=None if kept.bits is None else rule.cut_a,
        out_kept=kept.bits,
        out=y.numpy(),
    )
    return y, words, scales, kept


def _product_with_panels(x: Tensor, packed: PackedWeight, rule: ProductRule) -> Tensor:
    rows = x.contiguous()
    multiply = ops.binarized_product_unipolar if rule.is_unipolar else ops.binarized_product_signed
    y = torch.empty(len(rows), len(packed.words))
    multiply(
        rows.numpy(),
        rule.beta_a,
        packed.words,
        packed.scales,
        rule.beta_w,
        panels=packed.panels(rule, rows.shape[1]),
        threads=min(torch.get_num_threads(), ops.MOST_THREADS),
        out=y.numpy(),
    )
    return y


class _NativeProduct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        gain: Tensor | None,
        packed: PackedWeight | None,
        rule: ProductRule,
    ) -> Tensor:
        plain = packed if packed is not None else pack_weight(weight, rule.beta_w)
        wants_x, wants_w = ctx.needs_input_grad[0], any(ctx.needs_input_grad[1:3])
        y, words, scales, kept = multiply_packed(
            x.detach().contiguous(), plain.times(gain), rule, wants_x
        )
        ctx.rule, ctx.is_latent, ctx.length = rule, packed is None, x.shape[1]
        activations = (int64_of(words), torch.from_numpy(scales)) if wants_w else (None, None)
        weights = (int64_of(plain.words), torch.from_numpy(plain.scales))
        # As saved tensors they are gone when they were used, and hooks can see them.
        ctx.save_for_backward(weight, gain, *activations, *weights, kept.saved())
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, gain, words, scales, w_words, w_scales, saved = ctx.saved_tensors
        rule: ProductRule = ctx.rule
        plain = PackedWeight(words_of(w_words), w_scales.numpy())
        grad_x = grad_w = grad_gain = None
        if ctx.needs_input_grad[0]:
            w, kept = plain.times(gain), KeptDerivative.restored(saved)
            bits = Factor(w.words, w.scales, rule.beta_w, ctx.length, unipolar=False)
            grad_x = product_with_bits(grad, bits, rule.backward, keep=kept.bits)
            if kept.codes is not None:
                grad_x = kept.times(grad_x)
        if any(ctx.needs_input_grad[1:3]):
            bits = Factor(
                words_of(words), scales.numpy(), rule.beta_a, ctx.length, rule.is_unipolar
            )
            only_cut = gain is None and rule.estimator == "cut"
            keep = kept_bits(weight, rule.cut) if ctx.is_latent and only_cut else None
            grad_w = product_with_bits(grad, bits, rule.backward, transposed=True, keep=keep)
            if not only_cut:
                w_hat = None if gain is None else unpack_weight(plain, rule.beta_w, ctx.length)
                latents = weight if ctx.is_latent else None
                grad_w, grad_gain = weight_gradients(grad_w, latents, w_hat, gain, rule)
        return grad_x, grad_w, grad_gain, None, None


class _TensorProduct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        gain: Tensor | None,
        latent: bool,
        rule: ProductRule,
    ) -> Tensor:
        kept = None
        if rule.cut_a is not None and ctx.needs_input_grad[0]:
            kept = kept_derivative(x, rule.cut_a, rule.estimator)
        activations = TensorFactor.of(x, rule.beta_a, rule.coding)
        ctx.rule, ctx.latent, ctx.length = rule, latent, x.shape[1]
        ctx.save_for_backward(weight, gain, kept, activations.bits, activations.scales)
        w_hat = dense_weight(weight, latent, rule)
        if gain is not None:
            w_hat = w_hat * gain[:, None]
        return activations.dense() @ w_hat.T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, gain, kept, bits, scales = ctx.saved_tensors
        rule: ProductRule = ctx.rule
        setting = precision(rule.backward, grad.shape[1])
        grad_x = grad_w = grad_gain = None
        if ctx.needs_input_grad[0]:
            factor = TensorFactor.of(weight.detach(), rule.beta_w, "signed")
            grad_x = product_with_factor(grad, factor.times(gain), setting)
            if kept is not None:
                grad_x = times_kept(grad_x, kept, rule.estimator)
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            factor = TensorFactor(bits, scales, rule.beta_a, ctx.length, rule.coding)
            product = product_with_factor(grad.T, factor, setting)
            w_hat = None if gain is None else dense_weight(weight, ctx.latent, rule)
            latents = weight if ctx.latent else None
            grad_w, grad_gain = weight_gradients(product, latents, w_hat, gain, rule)
        return grad_x, grad_w, grad_gain, None, None


def dense_weight(weight: Tensor, latent: bool, rule: ProductRule) -> Tensor:
    """Return w_hat (N, K) of latents, or of what is w_hat already."""
    weight = weight.detach()
    return hadamard(weight, rule.beta_w, "signed") if latent else weight
