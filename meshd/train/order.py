"""The order of samples and the first latents: functions of seeds alone, equal on every machine.

Both come from raw 64-bit words of the Philox counter generator (Salmon et al., "Parallel random
numbers: as easy as 1, 2, 3", SC 2011), whose stream numpy promises never to change, and from exact
integer and float32 operations: distributions of library generators may differ by version or CPU.
"""

from __future__ import annotations

import math
import zlib

import numpy as np
from numpy.typing import NDArray


def epoch_order(seed: int, epoch: int, samples: int) -> NDArray[np.int64]:
    """A permutation of range(samples), int64 (samples,): sort by a random 64-bit word each."""
    words = _words(seed, epoch, "order", samples)
    return np.argsort(words, kind="stable")


def initial_latents(seed: int, name: str, size: int, deviation: float) -> NDArray[np.float32]:
    """`size` latents of tensor `name`, float32, uniform with the given standard deviation.

    u = (top 24 bits) / 2^24 is exact in float32; a uniform variable on [-a, a) deviates by
    a / sqrt(3), so a = deviation * sqrt(3).
    """
    words = _words(seed, 0, name, size)
    unit = (words >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
    limit = np.float32(deviation * math.sqrt(3.0))
    return (unit * np.float32(2.0) - np.float32(1.0)) * limit


def _words(seed: int, epoch: int, purpose: str, count: int) -> NDArray[np.uint64]:
    """Random words for one purpose: key = (seed, epoch and a checksum of the purpose)."""
    key = np.array([seed, (epoch << 32) | zlib.crc32(purpose.encode())], dtype=np.uint64)
    return np.random.Philox(key=key).random_raw(count)
