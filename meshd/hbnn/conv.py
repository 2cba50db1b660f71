"""A two-dimensional convolution that sees filters and images through Hadamard binarization."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from meshd.hbnn.binarize import check_beta
from meshd.hbnn.binary_layer import AS_CUT, BinaryLayer, CutA, check_size, settings
from meshd.hbnn.conv_product import conv_native, native_conv_takes
from meshd.hbnn.conv_rule import ConvRule, Pair, effective_beta
from meshd.hbnn.initial import normal_latents
from meshd.hbnn.operators import compiled_conv, rule_text
from meshd.hbnn.rows import filter_rows, filters_of
from meshd.hbnn.tensor_conv import conv_tensor


class HadamardConv2d(BinaryLayer):
    """y = gain * conv2d(H_beta_a(x), H_beta_w(W)) (+ bias): nn.Conv2d's numbers, binarized.

    x (B, in_channels, H, W) to (B, out_channels, Ho, Wo); W (out_channels, in_channels / groups,
    kh, kw), lying channels last, so that a filter is a row of k = kh * kw * in_channels / groups
    elements in the order kernel row, column, channel: that row is binarized, packed and cut. An
    image that lies channels last is read as it is, another is copied first. `kernel_size`,
    `stride`, `padding` and `dilation` are integers or pairs (vertical, horizontal); a padded tap
    contributes 0.

    A segment lies within one tap of a filter, or one pixel of an image: a beta of up to
    in_channels / groups, best one that divides it. A beta of at least k is one scale for a whole
    filter, or a whole window (the mean of |x| over its taps in the image). What is between counts
    as in_channels / groups (`conv_rule.effective_beta`); `beta_w` and `beta_a` then say what holds.

    The other settings are those of `HadamardLinear`, but `coding` None is "signed"; weights start
    with variance 1 / k.
    """

    rule: ConvRule

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        beta_w: int,
        beta_a: int | None = None,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        coding: str | None = None,
        cut: float | None = 1.0,
        bias: bool = False,
        *,
        cut_a: CutA = AS_CUT,
        estimator: str = "cut",
        gain: bool = False,
        backward: str = "exact",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_size(in_channels=in_channels, out_channels=out_channels, groups=groups)
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"groups must divide in_channels and out_channels: {groups} does not divide "
                f"{in_channels} and {out_channels}"
            )
        kernel = check_pair(kernel_size, "kernel_size", 1)
        tap = in_channels // groups
        k = kernel[0] * kernel[1] * tap
        beta_w = check_beta(beta_w, "beta_w")
        beta_a = beta_w if beta_a is None else check_beta(beta_a, "beta_a")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.beta_w = effective_beta(beta_w, tap, k)
        self.beta_a = effective_beta(beta_a, tap, k)
        self.rule = ConvRule(
            self.beta_w,
            self.beta_a,
            **settings(self.beta_a, coding, "signed", cut, cut_a, estimator, backward),  # type: ignore[arg-type]
            kernel=kernel,
            stride=check_pair(stride, "stride", 1),
            padding=check_pair(padding, "padding", 0),
            dilation=check_pair(dilation, "dilation", 1),
            groups=groups,
        )
        rows = normal_latents(out_channels, k, 1 / k, generator)
        self.rule_text = rule_text(self.rule)
        self.weight = nn.Parameter(filters_of(rows, torch.Size((out_channels, tap, *kernel))))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.gain = nn.Parameter(torch.ones(out_channels)) if gain else None

    def as_rows(self, tensor: Tensor) -> Tensor:
        """Return filters as rows (out_channels, k); a view where they lie channels last."""
        return filter_rows(tensor)

    def of_rows(self, rows: Tensor) -> Tensor:
        """Return rows (out_channels, k) as filters of the weight's shape, a view."""
        return filters_of(rows, self.weight.shape)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W); ValueError for another shape, or an image below the kernel.

        TypeError for another dtype than the weight's, unless autocast is on.
        `conv_product.native_conv_takes` says when the kernels do it; the result then lies channels
        last.
        """
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"the layer takes images (B, {self.in_channels}, H, W), "
                f"the input has shape {tuple(x.shape)}"
            )
        if min(self.rule.out_size(x.shape[2], x.shape[3])) < 1:
            raise ValueError(f"the kernel is larger than the padded image {tuple(x.shape[2:])}")
        return self.without_autocast(x)

    def compute(self, x: Tensor) -> Tensor:
        """Map images of a shape that fits."""
        latent, rule = not self.is_packed, self.rule
        if not native_conv_takes(x, self.weight, rule):
            y = conv_tensor(x, self.floats(), latent, rule, self.gain)
        elif torch.compiler.is_compiling():
            y = compiled_conv(x, self.floats(), latent, self.rule_text, self.gain)
        else:
            y = conv_native(x, self.weight, self._packed, rule, self.gain)
        return y if self.bias is None else y + self.bias[:, None, None]

    def extra_repr(self) -> str:
        """Describe the layer in `print(net)`."""
        rule = self.rule
        return (
            f"{self.in_channels} -> {self.out_channels}, kernel={rule.kernel}, "
            f"stride={rule.stride}, padding={rule.padding}, dilation={rule.dilation}, "
            f"groups={rule.groups}, {super().extra_repr()}"
        )


def check_pair(value: int | Pair, name: str, least: int) -> Pair:
    """Return `value`, or a pair of it, (vertical, horizontal); ValueError below `least`."""
    pair = value if isinstance(value, tuple) else (value, value)
    if len(pair) != 2 or any(type(v) is not int or v < least for v in pair):
        raise ValueError(
            f"{name} must be an integer of at least {least}, or a pair of them, not {value!r}"
        )
    return pair
