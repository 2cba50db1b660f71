"""Linear layers and convolutions of a batch: float products by BLAS, binary ones by the kernels.

Weights are laid out once (`Panels`). A binary product goes by dequantized matrices instead where
activations stay float (beta_a = 1), where the two cuts do not nest, and where segments are so short
that the kernels would be slower.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from meshd.bits import ops
from meshd.bits.layout import Floats, Words
from meshd.bits.product import Panels
from meshd.hbnn.runtime.memory import Memory, Slot
from meshd.hbnn.runtime.steps import Taps, binarized, pack, packed_slots, ramp

# As `meshd.hbnn.product` has it for training: below, a segment is padded to 64 elements.
SHORTEST_NATIVE_SEGMENT = 8


@dataclass(frozen=True)
class Activations:
    """How a binary layer sees its input: segments of `beta`, the coding; beta = 1: as it is."""

    beta: int
    unipolar: bool

    def floats(self, x: Floats, memory: Memory, slot: Slot) -> Floats:
        """H_beta(x) along the last dimension; H_1 is x, in the unipolar coding its ramp."""
        if self.beta > 1:
            return binarized(x, self.beta, self.unipolar, memory, memory.take(slot, x.shape))
        if not self.unipolar:
            return x
        return ramp(x, memory.take(slot, x.shape))


def nests(beta_w: int, beta_a: int, columns: int) -> bool:
    """Whether the kernels take these segments, and are faster with them than with floats."""
    shorter, longer = sorted((beta_w, beta_a))
    return shorter >= SHORTEST_NATIVE_SEGMENT and (longer % shorter == 0 or longer >= columns)


@dataclass(frozen=True)
class FloatProduct:
    """x (B, K) -> x W^T + bias, W (N, K) float32; of images with `taps` every window's."""

    weight: Floats
    bias: Floats | None
    slot: Slot
    taps: Taps | None = None
    activations: Activations | None = None

    def run(self, x: Floats, memory: Memory, threads: int) -> Floats:
        """Multiply."""
        if self.activations is not None:
            x = self.activations.floats(x, memory, ("seen", 0))
        outputs: tuple[int, ...] = (len(x), len(self.weight))
        if self.taps is not None:
            outputs = (len(x), *self.taps.size, len(self.weight))
            x = windows(x, self.taps, memory)
        out = memory.take(self.slot, outputs)
        rows = out.reshape(-1, len(self.weight))
        np.matmul(x, self.weight.T, out=rows)
        if self.bias is not None:
            np.add(rows, self.bias, out=rows)
        return out


def windows(x: Floats, taps: Taps, memory: Memory) -> Floats:
    """im2col: images (B, H, W, C) as rows (B * H' * W', kernel * kernel * C)."""
    batch, height, width, channels = x.shape
    kernel, stride = taps.kernel, taps.stride
    if kernel == 1 and stride == 1 and not taps.padding:
        return x.reshape(-1, channels)
    if taps.padding:
        size = (batch, height + 2 * taps.padding, width + 2 * taps.padding, channels)
        padded = memory.take(("padded", 0), size)
        padded.fill(0)
        inside = slice(taps.padding, -taps.padding)
        padded[:, inside, inside] = x
        x = padded
    image, row, pixel, number = x.strides
    # A window's row of pixels is one run of numbers.
    view = np.lib.stride_tricks.as_strided(
        x,
        (batch, *taps.size, kernel, kernel * channels),
        (image, row * stride, pixel * stride, row, number),
        writeable=False,
    )
    out = memory.take(("windows", 0), view.shape)
    np.copyto(out, view)
    return out.reshape(-1, kernel * kernel * channels)


@dataclass(frozen=True)
class BinaryWeights:
    """Packed rows (N, K), learned gains in their scales; `panels` once they are laid out."""

    words: Words
    scales: Floats
    beta: int
    columns: int
    bias: Floats | None
    panels: Panels | None = None

    def floats(self) -> Floats:
        """The matrix (N, K) that they stand for."""
        return ops.unpack_signed(self.words, self.scales, self.beta, self.columns)


@dataclass(frozen=True)
class BinaryLinear:
    """x (B, K) -> H_beta_a(x) W^T + bias."""

    weights: BinaryWeights
    activations: Activations
    slot: Slot

    @classmethod
    def prepare(cls, weights: BinaryWeights, activations: Activations, slot: Slot) -> BinaryLinear:
        """Lay out the weights."""
        prepare = ops.prepare_unipolar if activations.unipolar else ops.prepare_signed
        w = weights
        panels = prepare(w.words, w.scales, w.beta, activations.beta, w.columns)
        return cls(dataclasses.replace(w, panels=panels), activations, slot)

    def run(self, x: Floats, memory: Memory, threads: int) -> Floats:
        """Binarize and multiply in one pass."""
        unipolar, beta, w = self.activations.unipolar, self.activations.beta, self.weights
        multiply = ops.binarized_product_unipolar if unipolar else ops.binarized_product_signed
        out_words, out_scales = packed_slots(len(x), w.columns, beta, memory)
        out = memory.take(self.slot, (len(x), len(w.words)))
        multiply(
            x,
            beta,
            w.words,
            w.scales,
            w.beta,
            bias=w.bias,
            panels=w.panels,
            threads=threads,
            out_words=out_words,
            out_scales=out_scales,
            out=out,
        )
        return out


@dataclass(frozen=True)
class BinaryConv:
    """Images (B, H, W, C) -> the binary convolution (B, H', W', N) + bias."""

    weights: BinaryWeights
    activations: Activations
    taps: Taps
    slot: Slot

    @classmethod
    def prepare(
        cls,
        weights: BinaryWeights,
        activations: Activations,
        taps: Taps,
        image: tuple[int, int, int],
        slot: Slot,
    ) -> BinaryConv:
        """Lay out the filters, for images (H, W, C)."""
        prepare = ops.prepare_conv2d_unipolar if activations.unipolar else ops.prepare_conv2d_signed
        w, shape = weights, _conv_shape((1, *image), taps)
        panels = prepare(w.words, w.scales, w.beta, activations.beta, shape)
        return cls(dataclasses.replace(w, panels=panels), activations, taps, slot)

    def run(self, x: Floats, memory: Memory, threads: int) -> Floats:
        """Pack each pixel's channels, then multiply windows of bits."""
        unipolar, beta, w = self.activations.unipolar, self.activations.beta, self.weights
        multiply = ops.conv2d_unipolar if unipolar else ops.conv2d_signed
        rows = x.reshape(-1, x.shape[3])
        # A scale for a whole window comes from its pixels' own.
        packed = pack(rows, min(beta, x.shape[3]), unipolar, memory)
        return multiply(
            *packed,
            beta,
            _conv_shape(x.shape, self.taps),
            w.words,
            w.scales,
            w.beta,
            bias=w.bias,
            panels=w.panels,
            threads=threads,
            out=memory.take(self.slot, (len(x), *self.taps.size, len(w.words))),
        )


def _conv_shape(shape: tuple[int, ...], taps: Taps) -> ops.ConvShape:
    batch, height, width, channels = shape
    return ops.ConvShape(
        batch,
        height,
        width,
        channels,
        (taps.kernel, taps.kernel),
        (taps.stride, taps.stride),
        (taps.padding, taps.padding),
    )
