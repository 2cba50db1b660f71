"""Filters as rows: the order in which a convolution's weights are binarized, packed and cut."""

from __future__ import annotations

import torch
from torch import Tensor


def filter_rows(weight: Tensor) -> Tensor:
    """Return filters (O, C / groups, kh, kw) as rows (O, k), ordered kernel row, column, channel.

    A view where they lie channels last.
    """
    return weight.permute(0, 2, 3, 1).reshape(weight.shape[0], -1)


def filters_of(rows: Tensor, shape: torch.Size) -> Tensor:
    """Return rows (O, k) as filters of `shape` (O, C / groups, kh, kw): the inverse, a view."""
    outputs, tap, height, width = shape
    return rows.view(outputs, height, width, tap).permute(0, 3, 1, 2)
