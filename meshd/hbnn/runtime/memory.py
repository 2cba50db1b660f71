"""Memory that a model computes in, used again for every block of samples.

A chain of layers needs two outputs at a time: the one that a layer reads and the one it writes. So
a slot is (name, which of two), and residuals within residuals bring their own names.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshd.bits.product import aligned

Slot = tuple[str, int]

MAX_VIEWS = 1024  # remembered: a network's steps, for a few sizes of batches


class Memory:
    """Slots that grow to the largest array asked of them; for one thread at a time."""

    def __init__(self) -> None:
        self._slots: dict[Slot, NDArray[np.uint32]] = {}
        self._views: dict[tuple[Slot, tuple[int, ...]], NDArray[Any]] = {}

    def take(self, slot: Slot, shape: tuple[int, ...], dtype: Any = np.float32) -> NDArray[Any]:
        """An array of undefined content, aligned to 64 bytes; whatever was in the slot is gone."""
        view = self._views.get((slot, shape))
        if view is not None:
            return view
        units = prod(shape) * np.dtype(dtype).itemsize // 4
        memory = self._slots.get(slot)
        if memory is None or memory.size < units:
            self._views = {key: old for key, old in self._views.items() if key[0] != slot}
            memory = self._slots[slot] = aligned(units)
        if len(self._views) == MAX_VIEWS:
            self._views.clear()
        fresh: NDArray[Any] = memory[:units].view(dtype).reshape(shape)
        self._views[slot, shape] = fresh
        return fresh
