"""Small data sets in every format, and what each must give."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np
import pytest

from meshd.data.cifar import FILES, RECORD_BYTES

sys.path.insert(0, str(Path(__file__).parent))
from idx_bytes import idx_bytes

SEED = 20_261_124


@pytest.fixture
def digits() -> dict[str, np.ndarray]:
    """Random grey images, 7 + 3 of 5 x 4, three classes; 255 is in the training part."""
    generator = np.random.default_rng(SEED)
    x = generator.integers(0, 255, (10, 5, 4), np.uint8)
    x[0, 0, 0] = 255
    y = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0], np.uint8)
    return {"x_train": x[:7], "y_train": y[:7], "x_test": x[7:], "y_test": y[7:]}


@pytest.fixture
def idx_folder(tmp_path: Path, digits: dict[str, np.ndarray]) -> Path:
    """Two files plain, two gzip; one of these without its ending."""
    folder = tmp_path / "idx"
    folder.mkdir()
    files = {
        "train-images-idx3-ubyte.gz": gzip.compress(idx_bytes(digits["x_train"])),
        "train-labels-idx1-ubyte": idx_bytes(digits["y_train"]),
        "t10k-images-idx3-ubyte": gzip.compress(idx_bytes(digits["x_test"])),
        "t10k-labels.idx1-ubyte": idx_bytes(digits["y_test"]),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def cifar_folder(tmp_path: Path) -> Path:
    """Six batches of four records."""
    generator = np.random.default_rng(SEED)
    folder = tmp_path / "cifar"
    folder.mkdir()
    for names in FILES.values():
        for name in names:
            records = generator.integers(0, 256, (4, RECORD_BYTES), np.uint8)
            records[:, 0] %= 10
            (folder / name).write_bytes(records.tobytes())
    return folder


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """RGB images of 6 x 5 in two classes, whose red is 10, 20, ... in the order of the samples."""
    from PIL import Image

    folder = tmp_path / "pictures"
    order = [("train", "cat", "a.png"), ("train", "cat", "b.jpg"), ("train", "dog", "a.png")]
    order += [("test", "cat", "x.bmp"), ("test", "dog", "y.png")]
    for number, (part, class_name, name) in enumerate(order, 1):
        (folder / part / class_name).mkdir(parents=True, exist_ok=True)
        pixels = np.zeros((5, 6, 3), np.uint8)
        pixels[..., 0] = 10 * number
        Image.fromarray(pixels).save(folder / part / class_name / name)
    (folder / "train" / ".DS_Store").write_bytes(b"x")
    return folder
