"""Packed products beside torch's: all that a new A needs is timed, what a weight needs once is not.

A new kernel is one line of FORWARD or BACKWARD.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from meshd.bench import exact
from meshd.bench.ceilings import FLOAT_TABLES, INT16_TABLES, PACKED, Parts
from meshd.bench.contest import Contest, Entry
from meshd.bench.exact import Doubles
from meshd.bench.references import REFERENCES, Reference, UnavailableError
from meshd.bench.timing import Turn
from meshd.bits import ops
from meshd.bits.layout import Floats, segments, words
from meshd.bits.product import Panels

Shape = tuple[int, int, int]
Call = Callable[[], Floats]
# From A (M, K), W (N, K), beta and threads to the call that is timed.
Prepare = Callable[[Floats, Floats, int, int], Call]
# From A, W and beta to these rows of A and of W, whose product is those of the definition's result.
Indices = npt.NDArray[np.intp]
Define = Callable[[Floats, Floats, int, Indices, Indices], tuple[Doubles, Doubles]]


@dataclass(frozen=True)
class ProductKernel:
    """A product by name: how it is called, what it should give, and what bounds it on each set.

    only: the segment lengths of a plan that it is measured with; empty: all of them. draws: calls
    whose mean is what the definition gives; more than one where one rounds at random, coarsely.
    """

    name: str
    coding: str
    prepare: Prepare
    define: Define
    ceilings: Mapping[str, str]
    only: tuple[int, ...] = ()
    draws: int = 1

    def lengths(self, betas: tuple[int, ...], k: int) -> list[int]:
        """Its segment lengths out of a plan's, each once; 0 stands for k."""
        mine = [beta for beta in betas if not self.only or beta in self.only]
        return list(dict.fromkeys(k if beta == 0 else min(beta, k) for beta in mine))


def packed(lay_out: Callable[..., Panels], multiply: Callable[..., Any]) -> Prepare:
    """W laid out once; timed: binarize, pack and multiply A, into arrays that are there."""

    def prepare(a: Floats, w: Floats, beta: int, threads: int) -> Call:
        m, k = a.shape
        w_words, w_scales = ops.pack_signed(w, beta)
        panels = lay_out(w_words, w_scales, beta, beta, k, threads=threads)
        a_words = np.empty((m, words(k)), np.uint64)
        a_scales = np.empty((m, segments(k, beta)), np.float32)
        out = torch.empty(m, len(w)).numpy()
        given = {"out_words": a_words, "out_scales": a_scales, "out": out, "panels": panels}

        def call() -> Floats:
            multiply(a, beta, w_words, w_scales, beta, threads=threads, **given)
            return out

        return call

    return prepare


def floats(a: Floats, w: Floats, beta: int, threads: int) -> Call:
    """A as it is, W packed: beta_a = 1."""
    w_words, w_scales = ops.pack_signed(w, beta)
    out = torch.empty(len(a), len(w)).numpy()
    k = a.shape[1]
    return lambda: ops.product_floats(a, w_words, w_scales, beta, k, threads=threads, out=out)


def backward(
    kernel: Callable[..., Floats], transposed: bool, at_random: bool, **setting: int
) -> Prepare:
    """A is a gradient, in float32, W^T (K, N) what was packed in the forward pass.

    transposed: A is stored as (K, M), which is how the gradient of a weight finds it. at_random:
    the kernel takes a seed, another one in each call, as in training.
    """

    def prepare(a: Floats, w: Floats, beta: int, threads: int) -> Call:
        m, n = len(a), len(w)
        b_words, b_scales = ops.pack_signed(np.ascontiguousarray(w.T), beta)
        g = np.ascontiguousarray(a.T) if transposed else a
        out = torch.empty(m, n).numpy()
        whole = {"transposed": transposed, "threads": threads, "out": out, **setting}
        seeds = count(1)

        def call() -> Floats:
            seed = {"seed": next(seeds)} if at_random else {}
            return kernel(g, b_words, b_scales, beta, n, **whole, **seed)

        return call

    return prepare


def both_binarized(coding: str) -> Define:
    """H_beta of both, along K."""
    return lambda a, w, beta, rows, columns: (
        exact.binarized(a[rows], beta, coding),
        exact.binarized(w[columns], beta, "signed"),
    )


def weight_binarized(
    a: Floats, w: Floats, beta: int, rows: Indices, columns: Indices
) -> tuple[Doubles, Doubles]:
    """H_beta of W alone, along K."""
    return a[rows].astype(np.float64), exact.binarized(w[columns], beta, "signed")


def rows_binarized(
    a: Floats, w: Floats, beta: int, rows: Indices, columns: Indices
) -> tuple[Doubles, Doubles]:
    """H_beta of W^T alone, along N: each of the K rows was packed in the forward pass."""
    return a[rows].astype(np.float64), exact.binarized(w.T, beta, "signed").T[columns]


SIGNED = packed(ops.prepare_signed, ops.binarized_product_signed)
UNIPOLAR = packed(ops.prepare_unipolar, ops.binarized_product_unipolar)

FORWARD = (
    ProductKernel("product_signed", "signed", SIGNED, both_binarized("signed"), PACKED),
    ProductKernel("product_unipolar", "unipolar", UNIPOLAR, both_binarized("unipolar"), PACKED),
    ProductKernel("product_floats", "float", floats, weight_binarized, FLOAT_TABLES, (0, 256)),
)

# The gradient of A (dx) and of W (dw), at the three settings. Of one product with two planes, which
# are three levels, the error is as large as the product; that of the mean of 16 is a quarter.
SETTINGS: tuple[tuple[str, Callable[..., Floats], dict[str, int], Mapping[str, str], int], ...] = (
    ("backward_exact", ops.backward_exact, {}, FLOAT_TABLES, 1),
    ("backward_int8", ops.backward_int8, {}, INT16_TABLES, 1),
    ("backward_planes2", ops.backward_planes, {"planes": 2}, PACKED, 16),
)
BACKWARD = tuple(
    ProductKernel(
        f"{name}_{gradient}",
        "float",
        backward(kernel, transposed, kernel is not ops.backward_exact, **setting),
        rows_binarized,
        ceilings,
        draws=draws,
    )
    for name, kernel, setting, ceilings, draws in SETTINGS
    for gradient, transposed in (("dx", False), ("dw", True))
)


@dataclass(frozen=True)
class Operands:
    """Standard normal A (M, K) and W (N, K), the same in every run."""

    a: torch.Tensor
    w: torch.Tensor

    @classmethod
    def of(cls, shape: Shape) -> Operands:
        """Operands of a product m x k x n. torch aligns them to cache lines; numpy would not."""
        m, k, n = shape
        chance = torch.Generator().manual_seed(0)
        return cls(torch.randn(m, k, generator=chance), torch.randn(n, k, generator=chance))

    def activations(self, coding: str) -> Floats:
        """A as the coding expects it: unipolar is what a Ramp leaves."""
        return (self.a.relu() if coding == "unipolar" else self.a).numpy()


@dataclass(frozen=True)
class Products:
    """What is measured at each shape: kernels, segment lengths (0: the whole row), sets of kernels,
    and references."""

    family: str
    kernels: tuple[ProductKernel, ...]
    betas: tuple[int, ...]
    shapes: Mapping[Shape, tuple[str, ...]]
    references: tuple[Reference, ...] = REFERENCES

    def contests(self, parts: Parts, threads: int) -> Iterator[Contest]:
        """One contest for each shape, made when it is asked for."""
        for shape, isas in self.shapes.items():
            m, k, n = shape
            operands = Operands.of(shape)
            references, unavailable = reference_entries(self.references, operands, parts, threads)
            entries = [
                entry(kernel, operands, beta, isa, threads)
                for isa in isas
                for kernel in self.kernels
                for beta in kernel.lengths(self.betas, k)
            ]
            yield Contest(self.family, m, k, n, entries, references, 2.0 * m * k * n, unavailable)


def entry(kernel: ProductKernel, operands: Operands, beta: int, isa: str, threads: int) -> Entry:
    """A kernel on a problem; prepared, and timed, with the set `isa` in use."""
    before = partial(ops.use_isa, isa)
    before()
    a, w = operands.activations(kernel.coding), operands.w.numpy()
    call = kernel.prepare(a, w, beta, threads)
    one = Turn(kernel.prepare(a, w, beta, 1), before) if threads > 1 else None

    def error() -> float:
        before()
        mean = np.mean([call().astype(np.float64) for _ in range(kernel.draws)], axis=0)
        return sampled_error(mean, partial(kernel.define, a, w, beta))

    return Entry(
        kernel.name,
        Turn(call, before),
        kernel.coding,
        isa,
        threads,
        beta,
        kernel.ceilings.get(isa),
        error=error,
        one_thread=one,
    )


def sampled_error(
    y: npt.NDArray[Any], define: Callable[[Indices, Indices], tuple[Doubles, Doubles]]
) -> float:
    """The error of y (M, N), on as many rows and columns as `exact` allows."""
    rows = exact.spread_evenly(y.shape[0], exact.MOST_ROWS)
    columns = exact.spread_evenly(y.shape[1], exact.MOST_COLUMNS)
    return exact.product_error(y[np.ix_(rows, columns)], *define(rows, columns))


def reference_entries(
    references: tuple[Reference, ...], operands: Operands, parts: Parts, threads: int
) -> tuple[list[Entry], dict[str, str]]:
    """The references that run here, and why the others do not."""
    entries, unavailable = [], {}
    a, w = operands.a, operands.w
    for reference in references:
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
                ceiling=reference.ceiling(),
                error=partial(reference_error, call, a, w) if reference.coding != "int8" else None,
                via=via,
            )
        )
    return entries, unavailable


def reference_error(call: Callable[[], torch.Tensor], a: torch.Tensor, w: torch.Tensor) -> float:
    """A reference's error against the float64 product of the operands as they were."""
    return sampled_error(
        call().float().numpy(),
        lambda rows, columns: (a.numpy()[rows].astype(float), w.numpy()[columns].astype(float)),
    )
