"""Convolutions of binarized images with binarized filters by the kernels.

The definition is `meshd.hbnn.product`'s with windows for rows: Y[p, o] = g[o] sum over the taps t
of window p that lie in the image, of sum_c x_hat[p + t, c] w_hat[o, t, c]. A padded tap is 0 in
both codings. Where beta_a is a whole window, x_hat has one scale a window: the mean of |x| over its
taps in the image; the estimator takes that H too for the identity.

Gradients, with D[o, t, c] = sum_p dL/dY[p, o] x_hat[p + t, c]:

    dL/dx_hat[q, c] = sum over t of (dL/dY @ g w_hat)[q - t, t, c]    products with bits, each tap
                                                                      added where it belongs
    D               = (dL/dY)^T @ im2col(x_hat)                       one product with bits

The windows of D are never floats, those of dL/dx_hat only a block at a time. Where a dense
convolution is faster, it is what `exact` does.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from meshd.bits import ops
from meshd.bits.ops import ConvShape
from meshd.hbnn import dense_conv
from meshd.hbnn.conv_rule import ConvRule
from meshd.hbnn.gradient import Factor, look_up_is_faster, precision, product_with_bits
from meshd.hbnn.packed import PackedWeight, pack_weight, unpack_weight
from meshd.hbnn.product import SHORTEST_NATIVE_SEGMENT
from meshd.hbnn.rows import filter_rows, filters_of
from meshd.hbnn.straight_through import KeptDerivative, weight_gradients
from meshd.hbnn.tensor_bits import int64_of, words_of

# dL/dx_hat's windows at a time: they are to stay in the second-level cache until they are added.
BLOCK_BYTES = 1 << 20
# dL/dx_hat, one core of a Zen 4, 256 x 8 x 8 and 128 x 14 x 14, kernel 3: looked up, then added, as
# fast as oneDNN's convolution at beta = 128, 1.3 times at 256, 0.7 times at 64.
SHORTEST_LOOKED_UP = 128


def native_conv_takes(x: Tensor, weight: Tensor, rule: ConvRule) -> bool:
    """Whether the kernels do this convolution: as `product.native_route_takes`.

    Segments within a tap must divide it.
    """
    tap, k = weight.shape[1], weight[0].numel()
    shorter, longer = sorted((rule.beta_a, rule.beta_w))
    nests = longer % shorter == 0 or longer == k
    divide = all(beta == k or tap % beta == 0 for beta in (rule.beta_a, rule.beta_w))
    on_cpu = all(t.device.type == "cpu" and t.dtype == torch.float32 for t in (x, weight))
    return on_cpu and nests and divide and shorter >= SHORTEST_NATIVE_SEGMENT


def conv_native(
    x: Tensor,
    weight: Tensor,
    packed: PackedWeight | None,
    rule: ConvRule,
    gain: Tensor | None = None,
) -> Tensor:
    """Return the convolution by the kernels: (B, C, H, W), (O, C / groups, kh, kw) float32 to Y.

    Y (B, O, Ho, Wo) lies channels last. `packed` and `weight` as in `product.product_native`.
    An image that does not lie channels last is copied first.
    """
    result: Tensor = _NativeConv.apply(x, weight, gain, packed, rule)  # type: ignore[no-untyped-call]
    return result


def convolve_packed(
    image: Tensor, w: PackedWeight, shape: ConvShape, rule: ConvRule, keep: bool
) -> tuple[Tensor, NDArray[np.uint64], NDArray[np.float32], KeptDerivative]:
    """Return Y (B, Ho, Wo, O), the packed image (B, H, W, C), dense, and, if asked, its d(x)."""
    pixels = image.view(shape.rows, shape.tap_channels)
    pack = ops.pack_unipolar if rule.is_unipolar else ops.pack_signed
    words, scales = pack(pixels.numpy(), min(rule.beta_a, shape.tap_channels))
    y = torch.empty(shape.batch, *shape.out_size, len(w.words))
    convolve = ops.conv2d_unipolar if rule.is_unipolar else ops.conv2d_signed
    of_image, of_filters = (words, scales, rule.beta_a), (w.words, w.scales, rule.beta_w)
    convolve(*of_image, shape, *of_filters, threads=threads(), out=y.numpy())
    return y, words, scales, KeptDerivative.of(pixels, rule) if keep else KeptDerivative()


class _NativeConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        gain: Tensor | None,
        packed: PackedWeight | None,
        rule: ConvRule,
    ) -> Tensor:
        image = x.detach().permute(0, 2, 3, 1).contiguous()
        shape = rule.shape(tuple(image.shape))  # type: ignore[arg-type]
        plain = packed if packed is not None else pack_weight(filter_rows(weight), rule.beta_w)
        wants_x, wants_w = ctx.needs_input_grad[0], any(ctx.needs_input_grad[1:3])
        y, words, scales, kept = convolve_packed(image, plain.times(gain), shape, rule, wants_x)
        ctx.rule, ctx.conv_shape, ctx.is_latent = rule, shape, packed is None
        pixels = (int64_of(words), torch.from_numpy(scales)) if wants_w else (None, None)
        filters = (int64_of(plain.words), torch.from_numpy(plain.scales))
        ctx.save_for_backward(weight, gain, *pixels, *filters, kept.saved())
        return y.permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, gain, words, scales, w_words, w_scales, saved = ctx.saved_tensors
        shape: ConvShape = ctx.conv_shape
        rule: ConvRule = ctx.rule
        plain = PackedWeight(words_of(w_words), w_scales.numpy())
        g = grad.detach().permute(0, 2, 3, 1).contiguous()  # (B, Ho, Wo, O)
        grad_x = grad_w = grad_gain = None
        if ctx.needs_input_grad[0]:
            w = plain.times(gain)
            bits = Factor(w.words, w.scales, rule.beta_w, shape.k, unipolar=False)
            image = image_gradient(g, bits, shape, rule)
            pixels = image.reshape(shape.rows, shape.tap_channels)
            pixels = KeptDerivative.restored(saved).times(pixels)
            grad_x = pixels.view(image.shape).permute(0, 3, 1, 2)
        if any(ctx.needs_input_grad[1:3]):
            product = filter_gradient(g, words_of(words), scales.numpy(), shape, rule)
            latents = filter_rows(weight) if ctx.is_latent else None
            w_hat = None if gain is None else unpack_weight(plain, rule.beta_w, shape.k)
            product, grad_gain = weight_gradients(product, latents, w_hat, gain, rule)
            grad_w = filters_of(product, weight.shape)
        return grad_x, grad_w, grad_gain, None, None


def threads() -> int:
    """Return how many threads a call may use."""
    return min(torch.get_num_threads(), ops.MOST_THREADS)


def image_gradient(g: Tensor, weights: Factor, shape: ConvShape, rule: ConvRule) -> Tensor:
    """Return dL/dx_hat (B, H, W, C) from g = dL/dY (B, Ho, Wo, O) and packed filters."""
    tap, outputs = shape.tap_channels, len(weights.words) // shape.groups
    setting = precision(rule.backward, outputs)
    if setting == "exact" and not bits_are_faster(ops.isa(), weights.beta):
        image = torch.Size((shape.batch, shape.channels, shape.height, shape.width))
        filters = filters_of(weights.dense(), torch.Size((len(weights.words), tap, *rule.kernel)))
        dense = dense_conv.image_gradient(g.permute(0, 3, 1, 2), image, filters, rule)
        return dense.permute(0, 2, 3, 1).contiguous()
    padded = rule.pad(g.new_zeros(shape.batch, shape.height, shape.width, shape.channels))
    images = max(1, BLOCK_BYTES // (4 * shape.k * math.prod(shape.out_size)))
    for group in range(shape.groups):
        filters_of_group = slice(group * outputs, (group + 1) * outputs)
        bits = weights.part(filters_of_group)
        for first in range(0, shape.batch, images):
            block = g[first : first + images, ..., filters_of_group]
            windows = product_with_bits(block.reshape(-1, outputs), bits, setting)
            mine = padded[first : first + images, ..., group * tap : (group + 1) * tap]
            rule.add_windows(windows.view(*block.shape[:3], shape.k), mine)
    return rule.crop(padded)


def bits_are_faster(isa: str, beta: int) -> bool:
    """Whether `exact` looks sums of filters up, or has a dense convolution."""
    return beta >= SHORTEST_LOOKED_UP and look_up_is_faster(isa, beta)


def filter_gradient(
    g: Tensor,
    words: NDArray[np.uint64],
    scales: NDArray[np.float32],
    shape: ConvShape,
    rule: ConvRule,
) -> Tensor:
    """Return D (O, k) from g = dL/dY (B, Ho, Wo, O) and the packed image."""
    beta = min(rule.beta_a, shape.tap_channels)
    outputs = g.shape[-1] // shape.groups
    setting = precision(rule.backward, outputs)
    if setting == "exact" and not look_up_is_faster(ops.isa(), beta):
        return _dense_filter_gradient(g, words, scales, shape, rule)
    columns, column_scales = ops.im2col(words, scales, rule.beta_a, shape, threads=threads())
    pieces = []
    for group in range(shape.groups):
        rows = g[..., group * outputs : (group + 1) * outputs].reshape(-1, outputs)
        mine = slice(group, None, shape.groups)
        bits = Factor(
            np.ascontiguousarray(columns[mine]),
            np.ascontiguousarray(column_scales[mine]),
            beta,
            shape.k,
            rule.is_unipolar,
        )
        pieces.append(product_with_bits(rows, bits, setting, transposed=True))
    return torch.cat(pieces)


def _dense_filter_gradient(
    g: Tensor,
    words: NDArray[np.uint64],
    scales: NDArray[np.float32],
    shape: ConvShape,
    rule: ConvRule,
) -> Tensor:
    """Return D by a dense convolution: where windows have scales, these are g's to bear."""
    tap = shape.tap_channels
    beta = min(rule.beta_a, tap)
    grad = g.permute(0, 3, 1, 2)
    if rule.scales_windows(tap):
        means = torch.from_numpy(scales).view(shape.batch, shape.height, shape.width, -1)
        alphas = dense_conv.window_scales(means.permute(0, 3, 1, 2), rule)
        grad = dense_conv.scale_windows(grad, alphas)
        scales = np.ones_like(scales)
    pixels = Factor(words, scales, beta, tap, rule.is_unipolar).dense()
    image = pixels.view(shape.batch, shape.height, shape.width, shape.channels)
    filters = torch.Size((g.shape[-1], tap, *rule.kernel))
    return filter_rows(dense_conv.filter_gradient(grad, image.permute(0, 3, 1, 2), filters, rule))
