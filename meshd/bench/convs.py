"""Convolution as a layer calls it, binarizing on the way, beside oneDNN's in float32."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch

from meshd.bench import exact
from meshd.bench.ceilings import PACKED, first_of
from meshd.bench.contest import Contest, Entry
from meshd.bench.timing import Turn
from meshd.bits import ops
from meshd.bits.layout import Floats


@dataclass(frozen=True)
class Problem:
    """Standard normal images (NHWC) and filters (OHWI), padded so that sizes stay."""

    shape: ops.ConvShape
    filters: int
    x: torch.Tensor
    w: torch.Tensor

    @classmethod
    def of(cls, batch: int, size: int, channels: int) -> Problem:
        """A 3 x 3 convolution over square images, as many filters as channels."""
        chance = torch.Generator().manual_seed(0)
        shape = ops.ConvShape(batch, size, size, channels, padding=(1, 1))
        x = torch.randn(batch, size, size, channels, generator=chance)
        return cls(shape, channels, x, torch.randn(channels, 3, 3, channels, generator=chance))

    def float_conv(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        """torch's convolution of arrays in our order: channels last, without a copy."""
        images, filters = x.permute(0, 3, 1, 2), w.permute(0, 3, 1, 2)
        with torch.no_grad():
            y = torch.nn.functional.conv2d(images, filters, padding=self.shape.padding)
        return y.permute(0, 2, 3, 1)


def contests(batch: int, betas: tuple[int, ...], isa: str, threads: int) -> Iterator[Contest]:
    """3 x 3, 128 to 128 channels, 32 x 32 pixels; beta 0 is the whole window."""
    problem = Problem.of(batch, 32, 128)
    shape = problem.shape
    size = shape.windows, shape.k, problem.filters
    entries = [packed(problem, beta or shape.k, isa, threads) for beta in betas]
    float_turn = Turn(partial(problem.float_conv, problem.x, problem.w))
    onednn = Entry(
        "onednn",
        float_turn,
        "float",
        isa,
        threads,
        error=partial(float_error, problem),
        via="conv2d, channels last",
    )
    operations = 2.0 * size[0] * size[1] * size[2]
    yield Contest("conv", *size, entries, [onednn], operations)


def float_error(problem: Problem) -> float:
    """Of torch's convolution in float32, against the same in float64."""
    true = problem.float_conv(problem.x.double(), problem.w.double())
    return exact.largest_error(problem.float_conv(problem.x, problem.w).numpy(), true.numpy())


def packed(problem: Problem, beta: int, isa: str, threads: int) -> Entry:
    """Binarize and pack the images, then convolve; the filters are laid out beforehand."""
    in_use = partial(ops.use_isa, isa)
    in_use()
    shape = problem.shape
    x, w = problem.x.numpy().reshape(shape.rows, -1), problem.w.numpy().reshape(problem.filters, -1)
    w_words, w_scales = ops.pack_signed(w, beta)
    panels = ops.prepare_conv2d_signed(w_words, w_scales, beta, beta, shape, threads=threads)
    words, scales = ops.pack_signed(x, beta)
    out = torch.empty(shape.batch, *shape.out_size, problem.filters).numpy()

    multiply = partial(ops.conv2d_signed, panels=panels, threads=threads, out=out)

    def call() -> Floats:
        ops.pack_signed(x, beta, out_words=words, out_scales=scales)
        return multiply(words, scales, beta, shape, w_words, w_scales, beta)

    def error() -> float:
        in_use()
        if beta < shape.k:
            images = exact.binarized(x, beta, "signed").reshape(problem.x.shape)
            true = problem.float_conv(torch.from_numpy(images), filters())
            return exact.largest_error(call(), true.numpy())
        signs = torch.from_numpy(exact.binarized(x, 1, "signed")).reshape(problem.x.shape).sign()
        sizes, ones = problem.x.double().abs(), torch.ones_like(problem.w[:1]).double()
        count = problem.float_conv(torch.ones_like(sizes), ones)
        means = problem.float_conv(sizes, ones) / count
        return exact.largest_error(call(), (problem.float_conv(signs, filters()) * means).numpy())

    def filters() -> torch.Tensor:
        return torch.from_numpy(exact.binarized(w, beta, "signed")).reshape(problem.w.shape)

    ceiling = first_of((PACKED[isa],)) if isa in PACKED else None
    turn = Turn(call, in_use)
    return Entry("conv2d_signed", turn, "signed", isa, threads, beta, ceiling, error=error)
