"""What reading data costs: the test part alone needs no memory for the training part, and no module
is loaded that is not used."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from idx_bytes import idx_bytes

from meshd.data.load import load_dataset
from meshd.data.source import BLOCK_BYTES

TRAIN_BYTES = 32 * BLOCK_BYTES


@pytest.fixture(params=["npz", "idx"])
def large(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """32 MiB to train on, whose largest value is in the last block, and 64 KiB to test on."""
    x = np.zeros((TRAIN_BYTES // 1024, 32, 32), np.uint8)
    x[-1, 0, 0] = 200
    arrays = {"x_train": x, "x_test": x[:64]}
    arrays |= {f"y_{part}": np.arange(len(arrays[f"x_{part}"])) % 10 for part in ("train", "test")}
    if request.param == "npz":
        np.savez(tmp_path / "d.npz", **arrays)
        return tmp_path / "d.npz"
    for part, first in (("train", "train"), ("test", "t10k")):
        for kind, letter, dims in (("images", "x", 3), ("labels", "y", 1)):
            path = tmp_path / f"{first}-{kind}-idx{dims}-ubyte"
            path.write_bytes(idx_bytes(arrays[f"{letter}_{part}"]))
    return tmp_path


@pytest.mark.parametrize("scale", [None, 1 / 200])
def test_the_test_part_needs_memory_for_blocks_alone(large: Path, scale: float | None) -> None:
    load_dataset(large, part="test", scale=scale)  # what is imported on the way does not count
    tracemalloc.start()
    try:
        data = load_dataset(large, part="test", scale=scale)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert data.scale == np.float32(1 / 200)
    assert (len(data.x_train), len(data.x_test)) == (0, 64)
    assert peak < 4 * BLOCK_BYTES


def test_the_loader_loads_numpy_and_little_else() -> None:
    code = "import json, sys, meshd.data.load; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert "numpy" in loaded
    assert not loaded & {"PIL", "torch", "urllib.request", "ssl", "tarfile", "asyncio", "zmq"}
