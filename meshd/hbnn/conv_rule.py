"""The geometry of a binarized convolution: which pixels a tap of the kernel meets.

Images are (B, H, W, C) here, channels last, as they are packed. `groups` cuts the channels; a
group's channels of one pixel are the `tap` elements of a filter's tap, and a filter is a row of
k = kh * kw * tap elements, ordered kernel row, kernel column, channel.

Segments lie within a tap, or are everything: see `effective_beta`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from meshd.bits.ops import ConvShape
from meshd.hbnn.packed import ProductRule

Pair = tuple[int, int]


def effective_beta(beta: int, tap: int, k: int) -> int:
    """Return the segment length that `beta` stands for: k where it is at least k, else <= tap.

    k is one scale for a whole filter, or a whole window. A `beta` between is the whole tap. One
    that does not divide the tap leaves each pixel a shorter last segment, while filters are cut on
    along their row; only the tensor route does such convolutions.
    """
    return k if beta >= k else min(beta, tap)


@dataclass(frozen=True)
class ConvRule(ProductRule):
    """A ProductRule whose betas are effective ones, and the convolution's numbers."""

    kernel: Pair = (3, 3)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    def shape(self, image: tuple[int, int, int, int]) -> ConvShape:
        """Return the kernels' description of a convolution of `image`, (B, H, W, C).

        ValueError where the kernel is larger than the padded image.
        """
        return ConvShape(*image, self.kernel, self.stride, self.padding, self.dilation, self.groups)

    def out_size(self, height: int, width: int) -> Pair:
        """Return the output's height and width, without a check."""
        numbers = zip(
            (height, width), self.padding, self.dilation, self.kernel, self.stride, strict=True
        )
        down, across = ((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in numbers)
        return down, across

    def scales_windows(self, tap: int) -> bool:
        """Whether a window has one scale, rather than each pixel its own."""
        return self.beta_a > tap

    @property
    def taps(self) -> list[Pair]:
        """(row, column) of each tap, in the order of a filter's row."""
        return [(y, x) for y in range(self.kernel[0]) for x in range(self.kernel[1])]

    def pad(self, image: Tensor) -> Tensor:
        """Return `image` (B, H, W, ...) within its padding of zeros."""
        vertical, horizontal = self.padding
        beyond = [0, 0] * (image.dim() - 3)
        return torch.nn.functional.pad(image, [*beyond, horizontal, horizontal, vertical, vertical])

    def seen_by(self, tap: Pair, padded: Tensor, size: Pair) -> Tensor:
        """Return the view of `padded` (B, H + 2 ph, W + 2 pw, ...) that a tap meets.

        (B, Ho, Wo, ...) with `size` = (Ho, Wo): one pixel for each window.
        """
        (down, across), (rise, run) = self.dilation, self.stride
        top, left = tap[0] * down, tap[1] * across
        bottom, right = top + rise * (size[0] - 1) + 1, left + run * (size[1] - 1) + 1
        return padded[:, top:bottom:rise, left:right:run]

    def crop(self, padded: Tensor) -> Tensor:
        """Return the image within its padding: the inverse of `pad`."""
        vertical, horizontal = self.padding
        return padded[
            :,
            vertical : padded.shape[1] - vertical,
            horizontal : padded.shape[2] - horizontal,
        ]

    def add_windows(self, windows: Tensor, padded: Tensor) -> None:
        """Add windows (B, Ho, Wo, k) to the pixels of `padded` (B, H + 2 ph, W + 2 pw, tap)."""
        tap, size = padded.shape[-1], (windows.shape[1], windows.shape[2])
        for index, place in enumerate(self.taps):
            seen = self.seen_by(place, padded, size)
            seen += windows[..., index * tap : (index + 1) * tap]
