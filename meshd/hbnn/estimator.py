"""What passes of a gradient that goes straight through a binarization.

H is flat almost everywhere, so dH/dx is estimated; with c = `cut`:

    cut         1            where |x| <= c, else 0     arXiv 1602.02830, equation 4, with c = 1
    polynomial  2 - 2|x|/c   where |x| <  c, else 0     arXiv 1808.00278, equation 6, with c = 1

Both have the area 2c below them: they hand on as much, the polynomial more of it near zero, where a
small step changes a sign. `cut` None is the plain estimator, 1 everywhere (arXiv 1308.3432).

Of an activation the backward pass needs dH/dx alone, and that is what is kept: nothing without a
cut, one bit for the cut, one byte for the polynomial, which is rounded to multiples of 2/255.
Latents are there anyway: theirs is computed when it is needed, unrounded.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

Estimator = Literal["cut", "polynomial"]
BYTE = 255  # the largest code of a kept derivative, which stands for 2


def check_cut(cut: float | None, name: str = "cut") -> float | None:
    """Return `cut`, a positive finite bound on |x| or None for no bound; ValueError otherwise."""
    if cut is None:
        return None
    if isinstance(cut, bool) or not isinstance(cut, int | float) or not 0 < cut < math.inf:
        raise ValueError(
            f"{name} must be a positive finite number, or None for no cut, not {cut!r}"
        )
    return float(cut)


def check_estimator(estimator: str) -> Estimator:
    """Return `estimator`, "cut" or "polynomial"; ValueError otherwise."""
    if estimator not in get_args(Estimator):
        raise ValueError(f'estimator must be "cut" or "polynomial", not {estimator!r}')
    return estimator  # type: ignore[return-value]


def estimated_derivative(x: Tensor, cut: float, estimator: Estimator) -> Tensor:
    """Return dH/dx, of the shape, dtype and device of `x`; 0 where x is NaN."""
    if estimator == "cut":
        return (x.abs() <= cut).to(x.dtype)
    inside = 2 - 2 * (x.abs() / cut)
    return torch.where(inside > 0, inside, 0.0)


def derivative_bytes(x: Tensor, cut: float) -> Tensor:
    """Return the polynomial's dH/dx as uint8 codes d: the derivative is d * 2 / 255."""
    return (estimated_derivative(x, cut, "polynomial") * (BYTE / 2)).round().to(torch.uint8)


def times_bytes(grad: Tensor, codes: Tensor) -> Tensor:
    """Return grad * dH/dx, dH/dx as codes of `derivative_bytes`."""
    return grad * (codes.to(grad.dtype) * (2 / BYTE))
