"""The sign-only network that the seed compares with: binary weights and activations, no scales.

The BNN of arXiv 1602.02830 without its batch normalisation: y = c(x) @ sign(W)^T, with the codes
and the straight-through estimator of `meshd.hbnn`, and nothing that says how large x or W were.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from meshd.hbnn.binarize import Coding, codes, kept_derivative, times_kept
from meshd.hbnn.initial import normal_latents


class _Sign(torch.autograd.Function):
    """c(x) forward; straight-through backward where |x| <= cut, everywhere without a cut."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, coding: Coding, cut: float | None) -> Tensor:
        ctx.cuts = cut is not None
        if cut is not None:
            ctx.save_for_backward(kept_derivative(x, cut, "cut"))
        return codes(x, coding)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        if ctx.cuts:
            (kept,) = ctx.saved_tensors
            grad = times_kept(grad, kept, "cut")
        return grad, None, None


def sign(x: Tensor, coding: Coding = "signed", cut: float | None = 1.0) -> Tensor:
    """Return c(x): signed {-1, +1}, unipolar {0, 1}; any shape, its dtype and device."""
    result: Tensor = _Sign.apply(x, coding, cut)  # type: ignore[no-untyped-call]
    return result


class SignLayer(nn.Module):
    """c(x), element by element."""

    def __init__(self, coding: Coding = "unipolar", cut: float | None = 1.0) -> None:
        super().__init__()
        self.coding: Coding = coding
        self.cut = cut

    def forward(self, x: Tensor) -> Tensor:
        """Map each element."""
        return sign(x, self.coding, self.cut)


class SignLinear(nn.Module):
    """y = c(x) @ sign(W)^T: (..., in_features) to (..., out_features), W (out, in).

    `cut` bounds the estimator on latents, `cut_a` on activations; None lifts it. Latents start as
    HadamardLinear's do.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        coding: Coding = "unipolar",
        cut: float | None = 1.0,
        cut_a: float | None = 1.0,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        latents = normal_latents(out_features, in_features, 1 / in_features, generator)
        self.weight = nn.Parameter(latents)
        self.coding: Coding = coding
        self.cut = cut
        self.cut_a = cut_a

    def forward(self, x: Tensor) -> Tensor:
        """Map the last dimension."""
        return sign(x, self.coding, self.cut_a) @ sign(self.weight, "signed", self.cut).T
