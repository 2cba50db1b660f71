"""Convolutions of dequantized images, and their gradients: what both routes do with floats.

Tensors are NCHW, as torch has them. Padded taps contribute 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from meshd.hbnn.conv_rule import ConvRule


def convolve(image: Tensor, filters: Tensor, rule: ConvRule) -> Tensor:
    """Return the float convolution of (B, C, H, W) with (O, C / groups, kh, kw)."""
    return torch.nn.functional.conv2d(
        image, filters, None, rule.stride, rule.padding, rule.dilation, rule.groups
    )


def image_gradient(grad: Tensor, image: torch.Size, filters: Tensor, rule: ConvRule) -> Tensor:
    """Return dL/d(image), of shape `image`, from `grad` (B, O, Ho, Wo) and the filters."""
    like = grad.new_empty(()).expand(image)
    result: Tensor = _gradients(grad, like, filters, rule, (True, False, False))[0]
    return result


def filter_gradient(grad: Tensor, image: Tensor, filters: torch.Size, rule: ConvRule) -> Tensor:
    """Return dL/d(filters), of shape `filters`, from `grad` (B, O, Ho, Wo) and the image."""
    like = grad.new_empty(()).expand(filters)
    result: Tensor = _gradients(grad, image, like, rule, (False, True, False))[1]
    return result


def _gradients(
    grad: Tensor, image: Tensor, filters: Tensor, rule: ConvRule, mask: tuple[bool, bool, bool]
) -> tuple[Tensor, Tensor, Tensor]:
    geometry = (rule.stride, rule.padding, rule.dilation, False, (0, 0), rule.groups)
    result: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
        grad, image, filters, None, *geometry, mask
    )
    return result


def window_scales(scales: Tensor, rule: ConvRule) -> Tensor:
    """Return each window's scale (B, G, Ho, Wo) from its pixels' means |x| (B, G, H, W).

    The mean over the taps inside the image, 0 where there are none.
    """
    groups = scales.shape[1]
    kernel = scales.new_ones(groups, 1, *rule.kernel)
    places = (rule.stride, rule.padding, rule.dilation)
    convolution = torch.nn.functional.conv2d
    total = convolution(scales, kernel, None, *places, groups)
    inside = torch.ones_like(scales[:1, :1])
    count = convolution(inside, kernel[:1], None, *places)
    return total / count.clamp(min=1)


def scale_windows(y: Tensor, alphas: Tensor) -> Tensor:
    """Return y (B, O, Ho, Wo) with the channels of each group times its alphas (B, G, Ho, Wo)."""
    return y * alphas.repeat_interleave(y.shape[1] // alphas.shape[1], 1)
