"""Packed products beside torch's: binarizing and packing A is timed with them, W is packed once.

A new kernel is one line of PRODUCTS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from meshd.bench import exact
from meshd.bench.ceilings import PACKED, Parts, first_of
from meshd.bench.contest import Contest, Entry
from meshd.bench.references import REFERENCES, UnavailableError
from meshd.bench.timing import Turn
from meshd.bits import ops
from meshd.bits.layout import Floats, Words, segments, words
from meshd.bits.product import Panels

Shape = tuple[int, int, int]
Call = Callable[[], Floats]
Pack = Callable[..., tuple[Words, Floats]]


@dataclass(frozen=True)
class ProductKernel:
    """A product by name. prepare(a, w, beta, threads) packs w and returns what is timed."""

    name: str
    coding: str
    prepare: Callable[[Floats, Floats, int, int], Call]
    threaded: bool = False


def packed(
    pack: Pack, lay_out: Callable[..., Panels], product: Callable[..., Floats]
) -> Callable[[Floats, Floats, int, int], Call]:
    """W laid out once; then, timed: pack A and multiply, into arrays that are allocated once."""

    def prepare(a: Floats, w: Floats, beta: int, threads: int) -> Call:
        m, k = a.shape
        w_words, w_scales = ops.pack_signed(w, beta)
        panels = lay_out(w_words, w_scales, beta, beta, k, threads=threads)
        a_words = np.empty((m, words(k)), np.uint64)
        a_scales = np.empty((m, segments(k, beta)), np.float32)
        out = torch.empty(m, len(w)).numpy()
        right = (w_words, w_scales, beta, k)

        def call() -> Floats:
            pack(a, beta, out_words=a_words, out_scales=a_scales)
            return product(a_words, a_scales, beta, *right, panels=panels, threads=threads, out=out)

        return call

    return prepare


SIGNED = packed(ops.pack_signed, ops.prepare_signed, ops.product_signed)
UNIPOLAR = packed(ops.pack_unipolar, ops.prepare_unipolar, ops.product_unipolar)

PRODUCTS = (
    ProductKernel("product_signed", "signed", SIGNED, threaded=True),
    ProductKernel("product_unipolar", "unipolar", UNIPOLAR, threaded=True),
)


@dataclass(frozen=True)
class Operands:
    """Standard normal A (M, K) and W (N, K), the same in every run, and what a Ramp leaves of A."""

    a: torch.Tensor
    w: torch.Tensor

    @classmethod
    def of(cls, shape: Shape) -> Operands:
        """Operands of a product m x k x n. torch aligns them to cache lines; numpy would not."""
        m, k, n = shape
        chance = torch.Generator().manual_seed(0)
        return cls(torch.randn(m, k, generator=chance), torch.randn(n, k, generator=chance))

    def activations(self, coding: str) -> Floats:
        """A as the coding expects it."""
        return (self.a.relu() if coding == "unipolar" else self.a).numpy()


def contests(
    shapes: dict[Shape, tuple[str, ...]], betas: tuple[int, ...], parts: Parts, threads: int
) -> Iterator[Contest]:
    """One contest for each shape; its value names the instruction sets to run our kernels with.

    A beta of 0, or of K and more, means one segment; betas that repeat another are left out.
    """
    for shape, isas in shapes.items():
        m, k, n = shape
        operands = Operands.of(shape)
        references, unavailable = reference_entries(operands, parts, threads)
        lengths = list(dict.fromkeys(k if beta == 0 else min(beta, k) for beta in betas))
        entries = [
            entry(kernel, operands, beta, isa, threads)
            for isa in isas
            for kernel in PRODUCTS
            for beta in lengths
        ]
        yield Contest(m, k, n, entries, references, 2.0 * m * k * n, unavailable)


def entry(kernel: ProductKernel, operands: Operands, beta: int, isa: str, threads: int) -> Entry:
    """A kernel on a problem; prepared, and timed, with the set `isa` in use."""
    used = threads if kernel.threaded else 1
    before = partial(ops.use_isa, isa)
    before()
    a, w = operands.activations(kernel.coding), operands.w.numpy()
    call = kernel.prepare(a, w, beta, used)
    one = Turn(kernel.prepare(a, w, beta, 1), before) if used > 1 else None

    def error() -> float:
        before()
        rows = exact.spread_evenly(len(a), exact.MOST_ROWS)
        columns = exact.spread_evenly(len(w), exact.MOST_COLUMNS)
        return exact.product_error(
            call()[np.ix_(rows, columns)],
            exact.binarized(a[rows], beta, kernel.coding),
            exact.binarized(w[columns], beta, "signed"),
        )

    return Entry(
        kernel.name,
        Turn(call, before),
        kernel.coding,
        isa,
        used,
        beta,
        PACKED.get(isa),
        error=error,
        one_thread=one,
    )


def reference_entries(
    operands: Operands, parts: Parts, threads: int
) -> tuple[list[Entry], dict[str, str]]:
    """The references that run here, and why the others do not."""
    entries, unavailable = [], {}
    a, w = operands.a, operands.w
    for reference in REFERENCES:
        try:
            call, via = reference.prepare(a, w, parts)
            call()
        except (UnavailableError, RuntimeError) as error:
            unavailable[reference.name] = " ".join(str(error).split()) or type(error).__name__
            continue
        entries.append(
            Entry(
                reference.name,
                Turn(call),
                reference.coding,
                parts.isa if reference.name == "cmma" else "library",
                threads,
                ceiling=first_of(reference.ceilings),
                error=partial(reference_error, call, a, w) if reference.coding != "int8" else None,
                via=via,
            )
        )
    return entries, unavailable


def reference_error(call: Callable[[], torch.Tensor], a: torch.Tensor, w: torch.Tensor) -> float:
    """A reference's error against the float64 product of the operands as they were."""
    rows = exact.spread_evenly(len(a), exact.MOST_ROWS)
    columns = exact.spread_evenly(len(w), exact.MOST_COLUMNS)
    y = call().float().numpy()[np.ix_(rows, columns)]
    return exact.product_error(
        y, a.numpy()[rows].astype(np.float64), w.numpy()[columns].astype(np.float64)
    )
