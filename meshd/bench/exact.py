"""The definitions in float64, for the errors: seldom run, so written to be read."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

# An error is taken on all of a small result and on evenly spread rows and columns of a large one.
MOST_ROWS = 256
MOST_COLUMNS = 1024


def binarized(x: npt.NDArray[Any], beta: int, coding: str) -> Doubles:
    """H_beta of the rows of x (R, K): mean |x| of each segment times its sign, or times x > 0."""
    wide = x.astype(np.float64)
    starts = np.arange(0, wide.shape[1], beta)
    lengths = np.diff(np.append(starts, wide.shape[1]))
    means = np.add.reduceat(np.abs(wide), starts, axis=1) / lengths
    scales = np.repeat(means, lengths, axis=1)
    if coding == "unipolar":
        return np.where(wide > 0, scales, 0.0)
    return np.where(wide >= 0, scales, -scales)


def spread_evenly(count: int, most: int) -> npt.NDArray[np.intp]:
    """All of 0 .. count - 1, or `most` of them, first and last included."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.intp)


def product_error(y: npt.NDArray[Any], a: Doubles, w: Doubles) -> float:
    """The largest |y - a w^T| as a share of the largest |a w^T|."""
    return largest_error(y, a @ w.T)


def largest_error(y: npt.NDArray[Any], true: npt.NDArray[Any]) -> float:
    """The largest |y - true| as a share of the largest |true|; NaN where y has one."""
    scale = float(np.abs(true).max(initial=0.0))
    error = float(np.abs(y.astype(np.float64) - true).max(initial=0.0))
    return error / scale if scale else error
