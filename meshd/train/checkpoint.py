"""A checkpoint's files: one for each slice, one for a member's carried error.

Format: 8 bytes magic, then little-endian float32: a slice's latents and then each of its moments
(Adam's first and second, or the velocity of gradient descent), or the carried error. The file of
slice 0 goes on with the network's running statistics, which the ring has averaged. Nothing else is
in them: what a file means follows from the job and its slice map, and the daemon names each by
its content (BLAKE2b), so a wrong one is never read.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from meshd.train.errors import TrainingError
from meshd.train.optimizer import SliceState

SLICE_MAGIC = b"meshdSL1"
CARRIED_MAGIC = b"meshdCE1"

Floats = NDArray[np.float32]


def write_slice(path: Path, state: SliceState, statistics: Floats | None = None) -> None:
    """Write a slice's state, of slice 0 with `statistics`; OSError from the file system."""
    extra = [] if statistics is None else [statistics]
    _write(path, SLICE_MAGIC, [state.latents, *state.moments, *extra])


def read_slice(path: Path, size: int, moments: int, statistics: int = 0) -> SliceState:
    """Read a slice's state of `size` parameters with so many moments, and so many statistics.

    Raises:
        TrainingError: the file does not hold such a slice.
    """
    values = _read(path, SLICE_MAGIC, (1 + moments) * size + statistics)
    latents, *rest = (values[i * size : (i + 1) * size].copy() for i in range(1 + moments))
    return SliceState(latents, tuple(rest))


def read_statistics(path: Path, size: int, moments: int, statistics: int) -> Floats:
    """The statistics (statistics,) in the file of slice 0; else as `read_slice`."""
    before = (1 + moments) * size
    return _read(path, SLICE_MAGIC, before + statistics)[before:].copy()


def write_carried(path: Path, carried: Floats) -> None:
    """Write a member's carried error; OSError from the file system."""
    _write(path, CARRIED_MAGIC, [carried])


def read_carried(path: Path, size: int) -> Floats:
    """Read a carried error of `size` parameters.

    Raises:
        TrainingError: the file does not hold one of that size.
    """
    return _read(path, CARRIED_MAGIC, size)


def _write(path: Path, magic: bytes, arrays: list[Floats]) -> None:
    with path.open("wb") as file:
        file.write(magic)
        for array in arrays:
            file.write(np.ascontiguousarray(array, "<f4").data)


def _read(path: Path, magic: bytes, count: int) -> Floats:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TrainingError(f"checkpoint file cannot be read: {error.strerror}") from None
    if data[:8] != magic or len(data) != 8 + 4 * count:
        raise TrainingError(
            f"checkpoint file {path.name} does not fit this job; resume from another checkpoint"
        )
    values = np.frombuffer(data, "<f4", offset=8).astype(np.float32)
    if not bool(np.isfinite(values).all()):
        raise TrainingError(f"checkpoint file {path.name} holds numbers that are not finite")
    return values
