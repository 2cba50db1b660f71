"""The native route as operators that torch.compile can see: no graph breaks, forward or backward.

An operator is opaque to the compiler, which knows its shapes alone; about 16 us a call, so an eager
layer does without. A rule travels as text, since operators take no objects. Packed words are int64
here, of the same bits as `meshd.bits`' uint64. What is kept of d(x) is uint8, as
`binarize.kept_derivative` has it, or (0,). The packed state of a layer shows in `latent` alone: its
weights are packed again, which gives the same bits.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from meshd.hbnn.binarize import hadamard, segment_count, times_kept
from meshd.hbnn.conv_product import convolve_packed, filter_gradient, image_gradient
from meshd.hbnn.conv_rule import ConvRule
from meshd.hbnn.gradient import Factor, product_with_bits
from meshd.hbnn.packed import ProductRule, pack_weight
from meshd.hbnn.product import multiply_packed
from meshd.hbnn.rows import filter_rows
from meshd.hbnn.straight_through import KeptDerivative, weight_gradients
from meshd.hbnn.tensor_bits import bytes_of, int64_of, words_of

WORD_BITS = 64
Packed = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def compiled_linear(
    x: Tensor, weight: Tensor, latent: bool, rule: str, gain: Tensor | None
) -> Tensor:
    """Return what `product.product_native` does, in a graph: x (M, K), weight (N, K)."""
    result: Tensor = linear(x.contiguous(), weight, gain, latent, rule)[0]
    return result


def compiled_conv(
    x: Tensor, weight: Tensor, latent: bool, rule: str, gain: Tensor | None
) -> Tensor:
    """Return what `conv_product.conv_native` does, in a graph: x (B, C, H, W)."""
    image = x.permute(0, 2, 3, 1).contiguous()
    y: Tensor = conv2d(image, filter_rows(weight), gain, latent, rule)[0]
    return y.permute(0, 3, 1, 2)


def rule_text(rule: ProductRule) -> str:
    """Return `rule` as the operators take it."""
    return json.dumps(dataclasses.asdict(rule))


@functools.lru_cache(maxsize=1024)
def rule_of(text: str) -> Any:
    """Return the ProductRule or ConvRule of `rule_text`."""
    fields: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in json.loads(text).items()
    }
    return ConvRule(**fields) if "kernel" in fields else ProductRule(**fields)


@torch.library.custom_op("meshd::linear", mutates_args=())
def linear(x: Tensor, weight: Tensor, gain: Tensor | None, latent: bool, rule: str) -> Packed:
    """Y, words and scales of x (M, K), words and scales of w (N, K) times gain, d(x)."""
    how: ProductRule = rule_of(rule)
    w = pack_weight(weight, how.beta_w).times(gain)
    y, words, scales, kept = multiply_packed(x.detach(), w, how, True)
    return y, *_tensors(words, scales), *_tensors(w.words, w.scales), _kept_tensor(kept, x.shape)


@linear.register_fake
def _(x: Tensor, weight: Tensor, gain: Tensor | None, latent: bool, rule: str) -> Packed:
    how: ProductRule = rule_of(rule)
    y = x.new_empty(x.shape[0], weight.shape[0])
    return y, *_like(x, how.beta_a), *_like(weight, how.beta_w), _like_kept(x, how)


@torch.library.custom_op("meshd::conv2d", mutates_args=())
def conv2d(image: Tensor, rows: Tensor, gain: Tensor | None, latent: bool, rule: str) -> Packed:
    """Y (B, Ho, Wo, O), of an image (B, H, W, C) and filters (O, k); else as `linear`."""
    how: ConvRule = rule_of(rule)
    w = pack_weight(rows, how.beta_w).times(gain)
    shape = how.shape(tuple(image.shape))  # type: ignore[arg-type]
    y, words, scales, kept = convolve_packed(image.detach(), w, shape, how, True)
    pixels = torch.Size((shape.rows, shape.tap_channels))
    return y, *_tensors(words, scales), *_tensors(w.words, w.scales), _kept_tensor(kept, pixels)


@conv2d.register_fake
def _(image: Tensor, rows: Tensor, gain: Tensor | None, latent: bool, rule: str) -> Packed:
    how: ConvRule = rule_of(rule)
    batch, height, width, channels = image.shape
    tap = channels // how.groups
    size = how.out_size(height, width)
    y = image.new_empty(batch, *size, rows.shape[0])
    pixels = image.new_empty(batch * height * width * how.groups, tap)
    of_pixels = _like(pixels, min(how.beta_a, tap))
    return y, *of_pixels, *_like(rows, how.beta_w), _like_kept(pixels, how)


@torch.library.custom_op(
    "meshd::product_with_bits", mutates_args=(), tags=(torch.Tag.nondeterministic_seeded,)
)
def times_packed(
    grad: Tensor, words: Tensor, scales: Tensor, length: int, rule: str, of_weights: bool
) -> Tensor:
    """`gradient.product_with_bits`: with weights, dL/dx_hat, else with activations, D."""
    how: ProductRule = rule_of(rule)
    beta = how.beta_w if of_weights else how.beta_a
    unipolar = how.is_unipolar and not of_weights
    bits = Factor(*_arrays(words, scales), beta, length, unipolar)
    return product_with_bits(grad, bits, how.backward, transposed=not of_weights)


@times_packed.register_fake
def _(
    grad: Tensor, words: Tensor, scales: Tensor, length: int, rule: str, of_weights: bool
) -> Tensor:
    return grad.new_empty(grad.shape[0] if of_weights else grad.shape[1], length)


@torch.library.custom_op(
    "meshd::conv2d_gradient", mutates_args=(), tags=(torch.Tag.nondeterministic_seeded,)
)
def conv_times_packed(
    grad: Tensor, words: Tensor, scales: Tensor, image: list[int], rule: str, of_filters: bool
) -> Tensor:
    """dL/dx_hat (B, H, W, C) with filters, D (O, k) with the image of that shape."""
    how: ConvRule = rule_of(rule)
    shape = how.shape(tuple(image))  # type: ignore[arg-type]
    g, arrays = grad.contiguous(), _arrays(words, scales)
    if of_filters:
        bits = Factor(*arrays, how.beta_w, shape.k, unipolar=False)
        return image_gradient(g, bits, shape, how).contiguous()
    return filter_gradient(g, *arrays, shape, how).contiguous()


@conv_times_packed.register_fake
def _(
    grad: Tensor, words: Tensor, scales: Tensor, image: list[int], rule: str, of_filters: bool
) -> Tensor:
    how: ConvRule = rule_of(rule)
    if of_filters:
        return grad.new_empty(image)
    return grad.new_empty(grad.shape[3], prod(how.kernel) * (image[3] // how.groups))


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Packed) -> None:
    x, weight, gain, ctx.latent, ctx.rule = inputs
    ctx.x_shape = x.shape
    ctx.save_for_backward(weight, gain, *output[1:])


def _linear_backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    weight, gain, words, scales, w_words, w_scales, kept = ctx.saved_tensors
    how: ProductRule = rule_of(ctx.rule)
    length = weight.shape[1]
    grad_x = times_packed(grad, w_words, w_scales, length, ctx.rule, True)
    product = times_packed(grad, words, scales, length, ctx.rule, False)
    if how.cut_a is not None:
        grad_x = times_kept(grad_x, kept, how.estimator)
    return grad_x, *_of_weight(product, weight, gain, ctx.latent, how), None, None


def _conv_backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    rows, gain, words, scales, w_words, w_scales, kept = ctx.saved_tensors
    how: ConvRule = rule_of(ctx.rule)
    image = list(ctx.x_shape)
    grad_x = conv_times_packed(grad, w_words, w_scales, image, ctx.rule, True)
    product = conv_times_packed(grad, words, scales, image, ctx.rule, False)
    if how.cut_a is not None:
        pixels = grad_x.view(-1, image[3] // how.groups)
        grad_x = times_kept(pixels, kept, how.estimator).view(image)
    return grad_x, *_of_weight(product, rows, gain, ctx.latent, how), None, None


def _of_weight(
    product: Tensor, rows: Tensor, gain: Tensor | None, latent: bool, how: ProductRule
) -> tuple[Tensor, Tensor | None]:
    w_hat = None if gain is None else hadamard(rows, how.beta_w, "signed") if latent else rows
    return weight_gradients(product, rows if latent else None, w_hat, gain, how)


linear.register_autograd(_linear_backward, setup_context=_setup)
conv2d.register_autograd(_conv_backward, setup_context=_setup)


def _tensors(words: NDArray[np.uint64], scales: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
    return int64_of(words), torch.from_numpy(scales)


def _arrays(words: Tensor, scales: Tensor) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
    return words_of(words.contiguous()), scales.contiguous().numpy()


def _like(rows: Tensor, beta: int) -> tuple[Tensor, Tensor]:
    count, length = rows.shape
    words = rows.new_empty(count, segment_count(length, WORD_BITS), dtype=torch.int64)
    return words, rows.new_empty(count, segment_count(length, beta))


def _kept_tensor(kept: KeptDerivative, shape: torch.Size) -> Tensor:
    if kept.bits is not None:
        return bytes_of(kept.bits, shape)
    return torch.empty(0, dtype=torch.uint8) if kept.codes is None else kept.codes


def _like_kept(x: Tensor, rule: ProductRule) -> Tensor:
    if rule.cut_a is None:
        return x.new_empty(0, dtype=torch.uint8)
    if rule.estimator == "polynomial":
        return x.new_empty(x.shape, dtype=torch.uint8)
    return x.new_empty(x.shape[0], 8 * segment_count(x.shape[1], WORD_BITS), dtype=torch.uint8)
