"""What others would multiply with: torch through MKL and through oneDNN, in three types, and CMMA.

Each takes A (M, K) and W (N, K), float32 torch tensors, prepares whatever may be prepared once for
a weight, and returns a call that computes A W^T. What a reference must do for every new A
(bfloat16, int8) is done for it beforehand: it is shown at its best.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from meshd.bench.ceilings import Parts, first_of

Call = Callable[[], torch.Tensor]
Made = tuple[Call, str]  # and the function that does the work, by its public name


class UnavailableError(Exception):
    """This torch or this processor has no such product; the message says why."""


@dataclass(frozen=True)
class Reference:
    """A product by name: its operands' type, the ceilings that may bound it, how it is made."""

    name: str
    coding: str
    ceilings: tuple[str, ...]
    prepare: Callable[[torch.Tensor, torch.Tensor, Parts], Made]

    def ceiling(self) -> str | None:
        """The ceiling that bounds it here."""
        return first_of(self.ceilings)


def prepare_mm(a: torch.Tensor, w: torch.Tensor, parts: Parts) -> Made:
    """torch.mm: MKL, where torch was built with it."""
    columns, out = w.t().contiguous(), torch.empty(len(a), len(w))
    return lambda: torch.mm(a, columns, out=out), "torch.mm"


def prepare_onednn(a: torch.Tensor, w: torch.Tensor, parts: Parts) -> Made:
    """oneDNN's linear layer."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        raise UnavailableError("this torch is built without oneDNN")
    linear = torch.ops.mkldnn._linear_pointwise
    return lambda: linear(a, w, None, "none", [], ""), "mkldnn._linear_pointwise"


def prepare_bf16(a: torch.Tensor, w: torch.Tensor, parts: Parts) -> Made:
    """oneDNN's linear layer on bfloat16, A already converted."""
    return prepare_onednn(a.bfloat16(), w.bfloat16(), parts)


def prepare_int8(a: torch.Tensor, w: torch.Tensor, parts: Parts) -> Made:
    """The fastest of torch's int8 products that run here, A already quantized.

    `_int_mm` takes int8 twice, `qlinear_pointwise` uint8 and prepacked int8: which is faster
    depends on the processor. With int8 twice the latter is a loop a thousand times slower.
    """
    made: dict[float, Made] = {}
    reason: list[str] = []
    for prepare in (prepare_int_mm, prepare_qlinear):
        try:
            call, via = prepare(a, w)
            call()
            start = time.perf_counter()
            call()
            made[time.perf_counter() - start] = call, via
        except (RuntimeError, AttributeError, NotImplementedError) as error:
            reason = str(error).strip().splitlines()
    if not made:
        raise UnavailableError(f"no int8 product: {reason[0] if reason else 'no reason given'}")
    return made[min(made)]


def prepare_int_mm(a: torch.Tensor, w: torch.Tensor) -> Made:
    """int8 x int8 to int32."""
    whole, columns = quantized(a), quantized(w).t().contiguous()
    return lambda: torch._int_mm(whole, columns), "torch._int_mm"


def prepare_qlinear(a: torch.Tensor, w: torch.Tensor) -> Made:
    """uint8 x prepacked int8 to float32."""
    ops = torch.ops.onednn
    whole = (quantized(a).to(torch.int16) + 128).to(torch.uint8)
    packed = ops.qlinear_prepack(quantized(w).t(), None)
    scales, zeros = torch.full((len(w),), 0.05), torch.zeros(len(w), dtype=torch.int32)
    linear, kind = ops.qlinear_pointwise, torch.float32

    def call() -> torch.Tensor:
        out: torch.Tensor = linear(
            whole, 0.05, 128, packed, scales, zeros, None, 1.0, 0, kind, "none", [], ""
        )
        return out

    return call, "onednn.qlinear_pointwise"


def quantized(x: torch.Tensor) -> torch.Tensor:
    """Int8 of standard normal values."""
    return (x * 20).round().clamp(-127, 127).to(torch.int8)


def prepare_cmma(a: torch.Tensor, w: torch.Tensor, parts: Parts) -> Made:
    """Our own plain loops, as wide as our kernels; see kernels/bench/plain.h."""
    columns, out = w.t().contiguous(), torch.empty(len(a), len(w))

    def call() -> torch.Tensor:
        parts.multiply(a.numpy(), columns.numpy(), out.numpy())
        return out

    return call, f"plain loops, {parts.isa}"


# A library takes the widest vectors that it finds, whatever our kernels are told to use.
FLOAT = ("float32_fma_zmm", "float32_fma_ymm")

REFERENCES = (
    Reference("mm", "float32", FLOAT, prepare_mm),
    Reference("onednn", "float32", FLOAT, prepare_onednn),
    Reference("bf16", "bfloat16", ("bfloat16_dot_zmm",), prepare_bf16),
    Reference("int8", "int8", ("int8_dot_zmm",), prepare_int8),
    Reference("cmma", "float32", FLOAT, prepare_cmma),
)
