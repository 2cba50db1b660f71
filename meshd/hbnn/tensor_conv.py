"""Convolutions of binarized images by torch alone; `meshd.hbnn.conv_product` says what they are.

Between forward and backward an image is bits and scales here as well. `exact` gradients are dense
convolutions; rounded ones are the products of `meshd.hbnn.tensor_gradient` over windows, as the
kernels have them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from meshd.hbnn import dense_conv
from meshd.hbnn.binarize import hadamard, kept_derivative, times_kept
from meshd.hbnn.conv_rule import ConvRule
from meshd.hbnn.gradient import precision
from meshd.hbnn.rows import filter_rows, filters_of
from meshd.hbnn.straight_through import weight_gradients
from meshd.hbnn.tensor_gradient import TensorFactor, product_with_factor, rounded_product


def conv_tensor(
    x: Tensor, weight: Tensor, latent: bool, rule: ConvRule, gain: Tensor | None = None
) -> Tensor:
    """Return the convolution by dense ones: (B, C, H, W), (O, C / groups, kh, kw) to Y.

    Y (B, O, Ho, Wo). `weight` holds latents if `latent`, else w_hat; `gain` (O).
    """
    result: Tensor = _TensorConv.apply(x, weight, gain, latent, rule)  # type: ignore[no-untyped-call]
    return result


class _TensorConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        gain: Tensor | None,
        latent: bool,
        rule: ConvRule,
    ) -> Tensor:
        tap = weight.shape[1]
        pixels = _pixels(x, tap)
        kept = None
        if rule.cut_a is not None and ctx.needs_input_grad[0]:
            kept = kept_derivative(pixels, rule.cut_a, rule.estimator)
        image = TensorFactor.of(pixels, min(rule.beta_a, tap), rule.coding)
        w_hat = _dense_rows(weight, latent, rule)
        if gain is not None:
            w_hat = w_hat * gain[:, None]
        ctx.rule, ctx.latent, ctx.image_shape = rule, latent, x.shape
        ctx.save_for_backward(weight, gain, kept, image.bits, image.scales)
        filters = filters_of(w_hat, weight.shape)
        if not rule.scales_windows(tap):
            return dense_conv.convolve(_image(image.dense()), filters, rule)
        y = dense_conv.convolve(_image(image.codes()), filters, rule)
        return dense_conv.scale_windows(y, _window_scales(image, rule))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, gain, kept, bits, scales = ctx.saved_tensors
        rule: ConvRule = ctx.rule
        tap = weight.shape[1]
        grad_x = grad_w = grad_gain = None
        if ctx.needs_input_grad[0]:
            factor = TensorFactor.of(filter_rows(weight.detach()), rule.beta_w, "signed")
            grad_x = _image_gradient(grad, factor.times(gain), ctx.image_shape, weight.shape, rule)
            if kept is not None:
                grad_x = _image(times_kept(_pixels(grad_x, tap), kept, rule.estimator))
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            image = TensorFactor(bits, scales, min(rule.beta_a, tap), tap, rule.coding)
            product = _filter_gradient(grad, image, weight.shape, rule)
            latents = filter_rows(weight) if ctx.latent else None
            w_hat = None if gain is None else _dense_rows(weight, ctx.latent, rule)
            product, grad_gain = weight_gradients(product, latents, w_hat, gain, rule)
            grad_w = filters_of(product, weight.shape)
        return grad_x, grad_w, grad_gain, None, None


def _pixels(x: Tensor, tap: int) -> Tensor:
    """(B, C, H, W) to (B, H, W, G, C / G)."""
    image = x.permute(0, 2, 3, 1)
    return image.reshape(*image.shape[:3], image.shape[3] // tap, tap)


def _image(pixels: Tensor) -> Tensor:
    """(B, H, W, G, C / G) to (B, C, H, W)."""
    return pixels.flatten(3).permute(0, 3, 1, 2)


def _dense_rows(weight: Tensor, latent: bool, rule: ConvRule) -> Tensor:
    rows = filter_rows(weight.detach())
    return hadamard(rows, rule.beta_w, "signed") if latent else rows


def _window_scales(image: TensorFactor, rule: ConvRule) -> Tensor:
    """(B, G, Ho, Wo), from scales (B, H, W, G, 1)."""
    return dense_conv.window_scales(image.scales[..., 0].permute(0, 3, 1, 2), rule)


def _image_gradient(
    grad: Tensor, filters: TensorFactor, image: torch.Size, weight: torch.Size, rule: ConvRule
) -> Tensor:
    """Return dL/dx_hat (B, C, H, W) from grad (B, O, Ho, Wo) and rows (O, k)."""
    setting = precision(rule.backward, weight[0] // rule.groups)
    if setting == "exact" or filters.is_float:
        dense = filters_of(filters.dense(), weight)
        return dense_conv.image_gradient(grad, image, dense, rule)
    batch, channels, height, width = image
    tap, size = weight[1], (grad.shape[2], grad.shape[3])
    padded = rule.pad(grad.new_zeros(batch, height, width, channels))
    for group, mine in enumerate(_groups(grad, filters, rule)):
        windows = product_with_factor(*mine, setting)
        pixels = padded[..., group * tap : (group + 1) * tap]
        rule.add_windows(windows.view(batch, *size, -1), pixels)
    return rule.crop(padded).permute(0, 3, 1, 2)


def _groups(
    grad: Tensor, filters: TensorFactor, rule: ConvRule
) -> list[tuple[Tensor, TensorFactor]]:
    """Return each group's grad (B Ho Wo, O / G) and its rows of filters."""
    count = grad.shape[1] // rule.groups
    found = []
    for first in range(0, grad.shape[1], count):
        mine = slice(first, first + count)
        rows = grad[:, mine].permute(0, 2, 3, 1).reshape(-1, count)
        found.append((rows, filters.part(mine)))
    return found


def _filter_gradient(
    grad: Tensor, image: TensorFactor, weight: torch.Size, rule: ConvRule
) -> Tensor:
    """Return D (O, k) from grad (B, O, Ho, Wo) and the image (B, H, W, G, C / G)."""
    tap = weight[1]
    windows = rule.scales_windows(tap)
    outputs = weight[0] // rule.groups
    setting = precision(rule.backward, outputs)
    if setting == "exact" or image.is_float:
        if windows:
            grad = dense_conv.scale_windows(grad, _window_scales(image, rule))
        dense = _image(image.codes() if windows else image.dense())
        return filter_rows(dense_conv.filter_gradient(grad, dense, weight, rule))
    size = (grad.shape[2], grad.shape[3])
    # A padded tap has code 0: it adds nothing, whatever its v is rounded to.
    codes, scales = rule.pad(image.codes()), rule.pad(image.scales)
    if windows:
        alphas = _window_scales(image, rule).permute(0, 2, 3, 1)[..., None]
        scales = rule.pad(torch.ones_like(image.scales))
    rows = []
    for group in range(rule.groups):
        g = grad[:, group * outputs : (group + 1) * outputs].transpose(0, 1).flatten(1)
        pieces = []
        for place in rule.taps:
            code = rule.seen_by(place, codes, size)[:, :, :, group].flatten(0, 2)
            scale = rule.seen_by(place, scales, size)[:, :, :, group]
            scale = (scale * alphas[:, :, :, group] if windows else scale).flatten(0, 2)
            pieces.append(rounded_product(g, code, scale, image.beta, setting))
        rows.append(torch.cat(pieces, -1))
    return torch.cat(rows)
