"""Convolutions in plain numpy: the tests' oracle, like `reference` and by its laws."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from meshd.bits import reference
from meshd.bits.conv import ConvShape
from meshd.bits.layout import Floats, Words

Mask = npt.NDArray[np.bool_]


def windows(x: npt.NDArray[Any], shape: ConvShape) -> npt.NDArray[Any]:
    """What each window sees: x (shape.rows, N) to (shape.windows, taps, N), 0 at padded taps."""
    height, width = shape.out_size
    n = x.shape[1]
    image = x.reshape(shape.batch, shape.height, shape.width, shape.groups, n)
    seen = np.zeros((shape.batch, height, width, shape.groups, *shape.kernel, n), x.dtype)
    for out_y, out_x, ty, tx in np.ndindex(height, width, *shape.kernel):
        iy = out_y * shape.stride[0] - shape.padding[0] + ty * shape.dilation[0]
        ix = out_x * shape.stride[1] - shape.padding[1] + tx * shape.dilation[1]
        if 0 <= iy < shape.height and 0 <= ix < shape.width:
            seen[:, out_y, out_x, :, ty, tx] = image[:, iy, ix]
    return seen.reshape(shape.windows, shape.kernel[0] * shape.kernel[1], n)


def taps_inside(shape: ConvShape) -> Mask:
    """Which taps lie in the image: (shape.windows, taps)."""
    inside: Mask = windows(np.ones((shape.rows, 1), np.bool_), shape)[:, :, 0]
    return inside


def window_means(x_scales: Floats, shape: ConvShape) -> Floats:
    """The scales of windows (shape.windows) where beta_a = k, from those of pixels (rows, 1)."""
    means, count = windows(x_scales, shape), taps_inside(shape).sum(axis=1)
    total = np.zeros(shape.windows, np.float32)
    for tap in range(means.shape[1]):
        total = total + means[:, tap, 0]
    scale: Floats = total / np.maximum(count, 1).astype(np.float32)
    return scale


def im2col(x_words: Words, x_scales: Floats, beta_a: int, shape: ConvShape) -> tuple[Words, Floats]:
    """The windows as a packed matrix with segments of min(beta_a, tap_channels)."""
    bits = windows(reference.unpack_bits(x_words, shape.tap_channels), shape)
    scales = windows(x_scales, shape)
    if beta_a >= shape.k:
        inside = taps_inside(shape)
        scales = np.where(inside, window_means(x_scales, shape)[:, None], np.float32(0))
    columns = shape.k // min(beta_a, shape.tap_channels)
    return reference.pack_bits(bits.reshape(-1, shape.k)), scales.reshape(-1, columns)


def conv2d_signed(
    x_words: Words,
    x_scales: Floats,
    beta_a: int,
    shape: ConvShape,
    w_words: Words,
    w_scales: Floats,
    beta_w: int,
    bias: Floats | None = None,
) -> Floats:
    """Y (B, Ho, Wo, O) of signed images."""
    windows_of_x = _rows(x_words, x_scales, beta_a, shape, beta_w)
    return _conv2d("signed", windows_of_x, shape, w_words, w_scales, beta_w, bias)


def conv2d_unipolar(
    x_words: Words,
    x_scales: Floats,
    beta_a: int,
    shape: ConvShape,
    w_words: Words,
    w_scales: Floats,
    beta_w: int,
    bias: Floats | None = None,
) -> Floats:
    """Y (B, Ho, Wo, O) of unipolar images."""
    windows_of_x = _rows(x_words, x_scales, beta_a, shape, beta_w)
    return _conv2d("unipolar", windows_of_x, shape, w_words, w_scales, beta_w, bias)


Rows = tuple[Words, Floats, int]


def _rows(x_words: Words, x_scales: Floats, beta_a: int, shape: ConvShape, beta_w: int) -> Rows:
    """Words, scales and beta of A: one segment a row only where nothing cuts it."""
    words, scales = im2col(x_words, x_scales, beta_a, shape)
    if min(beta_a, beta_w) >= shape.k:
        return words, window_means(x_scales, shape)[:, None], shape.k
    return words, scales, min(beta_a, shape.tap_channels)


def _conv2d(
    coding: str,
    rows: Rows,
    shape: ConvShape,
    w_words: Words,
    w_scales: Floats,
    beta_w: int,
    bias: Floats | None,
) -> Floats:
    product = getattr(reference, f"product_{coding}")
    a_words, a_scales, beta = rows
    pixels, count = shape.windows // shape.groups, len(w_words) // shape.groups
    inside = taps_inside(shape)
    out = np.zeros((pixels, len(w_words)), np.float32)
    if bias is not None:
        out += bias
    for group in range(shape.groups):
        mine, filters = slice(group, None, shape.groups), slice(group * count, (group + 1) * count)
        a, w = (a_words[mine], a_scales[mine]), (w_words[filters], w_scales[filters])
        if coding == "signed" and min(beta, beta_w) >= shape.k:
            _add_what_is_lacking(out[:, filters], a[1], w, ~inside[mine], shape)
        out[:, filters] = product(*a, beta, *w, beta_w, shape.k, out[:, filters])
    return out.reshape(shape.batch, *shape.out_size, len(w_words))


def _add_what_is_lacking(
    start: Floats, means: Floats, w: tuple[Words, Floats], padded: Mask, shape: ConvShape
) -> None:
    """start (pixels, F), in place, += alpha_a * (alpha_w * S) where a window has padded taps."""
    signs = 2 * reference.unpack_bits(w[0], shape.k).astype(np.int32) - 1
    of_taps = signs.reshape(-1, padded.shape[1], shape.tap_channels).sum(axis=2)
    lacking = (padded.astype(np.int32) @ of_taps.T).astype(np.float32)
    has_padding = padded.any(axis=1)
    start[has_padding] += (means * (w[1].T * lacking))[has_padding]
