"""Checkpoint files: what is written is read; anything else is refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from meshd.train.checkpoint import read_carried, read_slice, write_carried, write_slice
from meshd.train.errors import TrainingError
from meshd.train.optimizer import SliceState


def state(size: int = 5) -> SliceState:
    values = np.arange(3 * size, dtype=np.float32)
    latents, *moments = (values[i * size : (i + 1) * size].copy() for i in range(3))
    return SliceState(latents, tuple(moments))


def test_round_trip(tmp_path: Path) -> None:
    write_slice(tmp_path / "s", state())
    read, wanted = read_slice(tmp_path / "s", 5, 2), state()
    arrays = zip((read.latents, *read.moments), (wanted.latents, *wanted.moments), strict=True)
    for got, expected in arrays:
        assert got.tobytes() == expected.tobytes()
        assert got.flags.writeable
    write_carried(tmp_path / "c", np.float32([1, -2]))
    assert read_carried(tmp_path / "c", 2).tolist() == [1, -2]


def test_other_files_are_refused(tmp_path: Path) -> None:
    write_slice(tmp_path / "s", state())
    whole = (tmp_path / "s").read_bytes()
    with pytest.raises(TrainingError, match="does not fit"):
        read_slice(tmp_path / "s", 6, 2)
    with pytest.raises(TrainingError, match="does not fit"):
        read_slice(tmp_path / "s", 5, 1)
    with pytest.raises(TrainingError, match="does not fit"):
        read_carried(tmp_path / "s", 15)
    with pytest.raises(TrainingError, match="cannot be read"):
        read_slice(tmp_path / "none", 5, 2)
    for length in range(len(whole)):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(TrainingError):
            read_slice(tmp_path / "cut", 5, 2)
    (tmp_path / "nan").write_bytes(whole[:8] + np.full(15, np.nan, "<f4").tobytes())
    with pytest.raises(TrainingError, match="not finite"):
        read_slice(tmp_path / "nan", 5, 2)
