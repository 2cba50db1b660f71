"""Convolutions of packed images. Rules that hold for all of it: `meshd.bits.ops`.

An image x (B, H, W, C) is packed along its channels, each group's channels of each pixel a row:
`pack_signed(x.reshape(shape.rows, shape.tap_channels), beta)`. Filters w (O, kh, kw, C / groups)
are packed as rows of k = kh * kw * C / groups elements: `pack_signed(w.reshape(O, k), beta_w)`.

beta_a and beta_w each divide C / groups, so that a segment lies within a tap, or are at least k:
one scale for a whole window, one for a whole filter. A window's scale is the mean of |x| over its
taps inside the image; it comes from the pixels' own, so x is then packed with any beta of at least
C / groups.

A padded tap contributes 0 to the sum in both codings, as zero padding does in a float convolution
of the binarized image; the definition, to the bit, stands in kernels/include/meshd_conv.h.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from meshd.bits import _kernels
from meshd.bits.arguments import length, segment_count
from meshd.bits.layout import Floats, Words, words
from meshd.bits.product import Panels, aligned, units_of

Pair = tuple[int, int]
PAIRS = ("kernel", "stride", "padding", "dilation")


@dataclass(frozen=True)
class ConvShape:
    """Images and the convolution over them; pairs are (vertical, horizontal).

    Numbers are below 2^31; batch, height, width and padding at least 0, the others at least 1;
    groups divides channels; kernel[0] * kernel[1] * channels / groups < 2^31. TypeError or
    ValueError with the name of what is not so, as when the kernel is larger than the padded image.
    """

    batch: int
    height: int
    width: int
    channels: int
    kernel: Pair = (3, 3)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    def __post_init__(self) -> None:
        for name in PAIRS:
            pair = getattr(self, name)
            if not isinstance(pair, tuple) or len(pair) != 2:
                raise TypeError(f"{name}: expected a tuple of two integers, got {pair!r}")
        _kernels.conv2d_out_size(self.numbers)

    @property
    def numbers(self) -> tuple[int, ...]:
        """All of them, pairs one after the other, as the kernels take them."""
        size = (self.batch, self.height, self.width, self.channels)
        return (*size, *self.kernel, *self.stride, *self.padding, *self.dilation, self.groups)

    @property
    def tap_channels(self) -> int:
        """Elements of a group in one tap, and in one packed row of the image."""
        return self.channels // self.groups

    @property
    def k(self) -> int:
        """Elements of a window, and of a filter."""
        return self.kernel[0] * self.kernel[1] * self.tap_channels

    @property
    def rows(self) -> int:
        """Packed rows of the image: pixels times groups."""
        return self.batch * self.height * self.width * self.groups

    @property
    def out_size(self) -> Pair:
        """Height and width of the output."""
        return _kernels.conv2d_out_size(self.numbers)

    @property
    def windows(self) -> int:
        """Windows of all groups: output pixels times groups."""
        height, width = self.out_size
        return self.batch * height * width * self.groups


def conv2d_signed(
    x_words: Words,
    x_scales: Floats,
    beta_a: int,
    shape: ConvShape,
    w_words: Words,
    w_scales: Floats,
    beta_w: int,
    *,
    bias: Floats | None = None,
    panels: Panels | None = None,
    threads: int = 1,
    out: Floats | None = None,
) -> Floats:
    """Y (B, Ho, Wo, O) of signed packed images and signed filters (O, k), plus bias (O).

    x_words (shape.rows, W(C / groups)), x_scales (shape.rows, S(C / groups, beta_a)); w_words (O,
    W(k)), w_scales (O, S(k, beta_w)); O a multiple of groups, filters of group 0 first. One of
    beta_a, beta_w must divide the other or be at least k; see the module for what each may be.
    `panels` are the filters', of `prepare_conv2d_signed`; None lays them out on the way. At most
    `threads` threads work; their number does not change a bit. MemoryError when there is no room
    for scratch: up to about twice the packed image. Fast where `product_signed` is, C / groups is a
    multiple of 64, and a large `out` is aligned to 64 bytes, as it is when not given; few filters a
    group leave most of a panel empty (a depthwise convolution is correct, not fast).
    """
    out = _output(out, shape, w_words)
    units, isa = units_of(panels, "signed", beta_w, beta_a, shape.k)
    _kernels.conv2d_signed(
        x_words,
        x_scales,
        beta_a,
        _numbers(shape),
        w_words,
        w_scales,
        beta_w,
        bias,
        units,
        isa,
        threads,
        out,
    )
    return out


def conv2d_unipolar(
    x_words: Words,
    x_scales: Floats,
    beta_a: int,
    shape: ConvShape,
    w_words: Words,
    w_scales: Floats,
    beta_w: int,
    *,
    bias: Floats | None = None,
    panels: Panels | None = None,
    threads: int = 1,
    out: Floats | None = None,
) -> Floats:
    """Y (B, Ho, Wo, O) of unipolar packed images and signed filters. Else as `conv2d_signed`."""
    out = _output(out, shape, w_words)
    units, isa = units_of(panels, "unipolar", beta_w, beta_a, shape.k)
    _kernels.conv2d_unipolar(
        x_words,
        x_scales,
        beta_a,
        _numbers(shape),
        w_words,
        w_scales,
        beta_w,
        bias,
        units,
        isa,
        threads,
        out,
    )
    return out


def prepare_conv2d_signed(
    w_words: Words,
    w_scales: Floats,
    beta_w: int,
    beta_a: int,
    shape: ConvShape,
    *,
    threads: int = 1,
) -> Panels:
    """Lay out filters (O, k) once for convolutions with signed activations cut by beta_a.

    They serve every shape with the same kernel, channels and groups.
    """
    filters = length(w_words, 2, "w_words")
    numbers = _numbers(shape)
    units = aligned(_kernels.conv2d_panel_units_signed(filters, beta_w, beta_a, numbers))
    isa = _kernels.prepare_conv2d_signed(w_words, w_scales, beta_w, beta_a, numbers, threads, units)
    return Panels(units, isa, "signed", min(beta_w, shape.k), min(beta_a, shape.k), shape.k)


def prepare_conv2d_unipolar(
    w_words: Words,
    w_scales: Floats,
    beta_w: int,
    beta_a: int,
    shape: ConvShape,
    *,
    threads: int = 1,
) -> Panels:
    """Lay out filters (O, k) once for convolutions with unipolar activations."""
    filters = length(w_words, 2, "w_words")
    numbers = _numbers(shape)
    units = aligned(_kernels.conv2d_panel_units_unipolar(filters, beta_w, beta_a, numbers))
    isa = _kernels.prepare_conv2d_unipolar(
        w_words, w_scales, beta_w, beta_a, numbers, threads, units
    )
    return Panels(units, isa, "unipolar", min(beta_w, shape.k), min(beta_a, shape.k), shape.k)


def im2col(
    x_words: Words,
    x_scales: Floats,
    beta_a: int,
    shape: ConvShape,
    *,
    threads: int = 1,
    out_words: Words | None = None,
    out_scales: Floats | None = None,
) -> tuple[Words, Floats]:
    """The windows of packed images as a packed matrix (shape.windows, k), for either coding.

    Returns words (windows, W(k)) and scales (windows, S(k, beta)), beta = min(beta_a, C / groups):
    with that beta it is what the product and its backward take. Row i is the window of output pixel
    i // groups in group i % groups. A padded tap has bits 0 and scales 0, so it counts nothing; the
    other taps have their pixel's scales, or the window's where beta_a >= k.
    """
    numbers = _numbers(shape)
    if out_words is None:
        out_words = np.empty((shape.windows, words(shape.k)), np.uint64)
    if out_scales is None:
        beta = min(beta_a, shape.tap_channels)
        count = segment_count(shape.k, beta, "beta_a")
        out_scales = np.empty((shape.windows, count), np.float32)
    _kernels.im2col(x_words, x_scales, beta_a, numbers, threads, out_words, out_scales)
    return out_words, out_scales


def _numbers(shape: ConvShape) -> tuple[int, ...]:
    if not isinstance(shape, ConvShape):
        raise TypeError(f"shape: expected a ConvShape, got {type(shape).__name__}")
    return shape.numbers


def _output(out: Floats | None, shape: ConvShape, w_words: Words) -> Floats:
    _numbers(shape)
    size = (shape.batch, *shape.out_size, length(w_words, 2, "w_words"))
    return aligned(prod(size)).view(np.float32).reshape(size) if out is None else out
