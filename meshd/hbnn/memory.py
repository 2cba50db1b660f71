"""Memory for gradients, which every step allocates and frees again.

A gradient is as large as its weights. The C library maps such a block anew each time, and the first
touch of each of its pages is an interrupt in which the system clears it: measured, a quarter of a
step of `meshd bench train`. Here a block that is freed waits for the next gradient of its size.
Numpy asks for huge pages where the system has them: a kernel writes to rows that lie pages apart.

A block belongs to a tensor until the tensor's memory is freed, wherever that happens. Free blocks
are given back to the system as soon as a block of a size is asked for that is not there: a step
that repeats holds what it needs, another network's blocks do not stay.
"""

from __future__ import annotations

import threading
import weakref

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Below, the C library keeps blocks itself (its threshold for mapping grows with what is freed).
LEAST_BYTES = 1 << 20
FLOAT_BYTES = 4
ALIGNMENT = 64  # as torch's own

Block = NDArray[np.uint8]


class BlockPool:
    """Blocks of memory by size; safe to use from several threads."""

    def __init__(self) -> None:
        self._free: dict[int, list[Block]] = {}
        self._lock = threading.RLock()  # a block may be freed, by a collection, in the middle

    def empty(self, rows: int, columns: int) -> Tensor:
        """Return an uninitialized float32 tensor (rows, columns) on the CPU."""
        size = rows * columns * FLOAT_BYTES
        if size < LEAST_BYTES:
            return torch.empty(rows, columns)
        block = self._taken(size)
        first = -block.ctypes.data % ALIGNMENT
        array = block[first : first + size].view(np.float32)
        weakref.finalize(array, self._give, size, block).atexit = False
        return torch.from_numpy(array).view(rows, columns)

    def free_bytes(self) -> int:
        """How much waits for the next tensor."""
        with self._lock:
            return sum(size * len(blocks) for size, blocks in self._free.items())

    def _taken(self, size: int) -> Block:
        with self._lock:
            blocks = self._free.get(size)
            if blocks:
                return blocks.pop()
            self._free.clear()
        return np.empty(size + ALIGNMENT, np.uint8)

    def _give(self, size: int, block: Block) -> None:
        with self._lock:
            self._free.setdefault(size, []).append(block)


GRADIENTS = BlockPool()
