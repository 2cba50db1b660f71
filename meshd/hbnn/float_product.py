"""The product of float activations with binarized weights by the kernels: beta_a = 1, HBWN.

    Y = x @ (g w_hat)^T        x, or its ramp where the coding is unipolar

Sums of five activations are looked up by five bits of a weight's row. dL/dx is looked up alike;
D = (dL/dY)^T @ x has no bits in it and is a dense product, whatever the rule's `backward`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from meshd.bits import ops
from meshd.hbnn.binarize import kept_derivative, times_kept
from meshd.hbnn.gradient import LOOK_UP_CYCLES, Factor, product_with_bits
from meshd.hbnn.packed import PackedWeight, ProductRule, pack_weight, unpack_weight
from meshd.hbnn.straight_through import weight_gradients
from meshd.hbnn.tensor_bits import int64_of, on_kernels, words_of
from meshd.hbnn.tensor_gradient import floats

# One core of a Zen 4, 16 x 1024 x 1024, against dequantizing and torch's product: beta_w 16 as
# fast, 32 1.5 times, 64 2.2, 256 3.1. Other instruction sets have no tables of floats that pay.
SHORTEST_FLOAT_SEGMENT = 32


def float_route_takes(x: Tensor, weight: Tensor, rule: ProductRule) -> bool:
    """Whether the kernels do this product, and faster than a dense one."""
    fast = rule.beta_w >= SHORTEST_FLOAT_SEGMENT and ops.isa() in LOOK_UP_CYCLES
    return rule.beta_a == 1 and on_kernels(x) and on_kernels(weight) and fast


def product_floats(
    x: Tensor,
    weight: Tensor,
    packed: PackedWeight | None,
    rule: ProductRule,
    gain: Tensor | None = None,
) -> Tensor:
    """Return x @ (g w_hat)^T: arguments and result as of `product.product_native`."""
    result: Tensor = _FloatProduct.apply(x, weight, gain, packed, rule)  # type: ignore[no-untyped-call]
    return result


class _FloatProduct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        gain: Tensor | None,
        packed: PackedWeight | None,
        rule: ProductRule,
    ) -> Tensor:
        rows, length = x.detach().contiguous(), x.shape[1]
        plain = packed if packed is not None else pack_weight(weight, rule.beta_w)
        w = plain.times(gain)
        values = floats(rows, rule.coding)
        y = torch.empty(len(rows), len(w.words))
        threads = min(torch.get_num_threads(), ops.MOST_THREADS)
        ops.product_floats(
            *(values.numpy(), w.words, w.scales, rule.beta_w, length),
            threads=threads,
            out=y.numpy(),
        )
        kept = None
        if rule.cut_a is not None and ctx.needs_input_grad[0]:
            kept = kept_derivative(rows, rule.cut_a, rule.estimator)
        ctx.rule, ctx.is_latent = rule, packed is None
        weights = (int64_of(plain.words), torch.from_numpy(plain.scales))
        ctx.save_for_backward(weight, gain, values, *weights, kept)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, gain, values, w_words, w_scales, kept = ctx.saved_tensors
        rule: ProductRule = ctx.rule
        plain = PackedWeight(words_of(w_words), w_scales.numpy())
        grad_x = grad_w = grad_gain = None
        if ctx.needs_input_grad[0]:
            w = plain.times(gain)
            bits = Factor(w.words, w.scales, rule.beta_w, weight.shape[1], unipolar=False)
            grad_x = product_with_bits(grad, bits, rule.backward)
            if kept is not None:
                grad_x = times_kept(grad_x, kept, rule.estimator)
        if any(ctx.needs_input_grad[1:3]):
            latents = weight if ctx.is_latent else None
            w_hat = None if gain is None else unpack_weight(plain, rule.beta_w, weight.shape[1])
            product = grad.T @ values
            grad_w, grad_gain = weight_gradients(product, latents, w_hat, gain, rule)
        return grad_x, grad_w, grad_gain, None, None
