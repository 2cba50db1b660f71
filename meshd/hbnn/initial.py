"""Initial latents: the same seed gives the same bits on every processor.

Owner and backup of a slice start from latents that each draws for itself, so a last-bit difference
between two machines' logarithms would already be a broken ring. Float32 normal deviates of torch do
differ between instruction sets. Here the deviates are drawn in float64, rounded to a grid of
GRID = 2^-12 and only then scaled: two libraries that agree to a few units in the last place (2^-51)
give different results only if a deviate lies that close to the middle of a grid cell, about once in
10^11 draws. The rest, a rounding and one float32 product, IEEE 754 defines exactly.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

GRID = 2.0**-12


def normal_latents(
    rows: int, columns: int, variance: float, generator: torch.Generator | None
) -> Tensor:
    """Return (rows, columns) float32 normal deviates of mean 0 and the given variance.

    Drawn from `generator`, or torch's own if None.
    """
    deviates = torch.empty(rows, columns, dtype=torch.float64).normal_(generator=generator)
    on_grid = torch.round(deviates / GRID) * GRID
    return on_grid.to(torch.float32) * math.sqrt(variance)
