"""CIFAR-10, binary version: five batches to train on and one to test.

A record is a label byte, 0 to 9, and 3,072 bytes: 32 x 32 of red, then green, then blue
(Krizhevsky, "The CIFAR-10 dataset"). The version for Python is a pickle, which is never loaded.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from meshd.data.source import (
    BLOCK_BYTES,
    Block,
    Header,
    Part,
    check_headers,
    fill_exactly,
    open_regular,
    reading,
    wrong,
)

SHAPE = (3, 32, 32)
RECORD_BYTES = 1 + 3 * 32 * 32
FILES: dict[str, tuple[str, ...]] = {
    "train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    "test": ("test_batch.bin",),
}
FOLDER = "cifar-10-batches-bin"  # what the archive unpacks to
PICKLED = "data_batch_1"
CLASS_NAMES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


def looks_like_cifar(folder: Path) -> bool:
    """Whether any batch of either version is there."""
    names = (*FILES["train"], *FILES["test"], PICKLED)
    return any(os.path.lexists(folder / name) for name in names)


class CifarSource:
    """A folder of six batches whose sizes have been checked."""

    format = "CIFAR-10 binary"
    class_names = CLASS_NAMES

    def __init__(self, folder: Path) -> None:
        self.name = f"data folder {folder.name}"
        self._folder = folder
        if os.path.lexists(folder / PICKLED):
            raise wrong(
                self.name,
                "the Python version of CIFAR-10, a pickle, which is never loaded; take the binary"
                " version, cifar-10-binary.tar.gz",
            )
        self._records = {name: self._count(name) for names in FILES.values() for name in names}
        check_headers(self)

    def header(self, part: Part) -> Header:
        """What the part holds."""
        samples = sum(self._records[name] for name in FILES[part])
        return Header(samples, SHAPE, np.dtype(np.uint8))

    def blocks(self, part: Part) -> Iterator[Block]:
        """The part's records in blocks."""
        records = np.empty((BLOCK_BYTES // RECORD_BYTES, RECORD_BYTES), np.uint8)
        for name in FILES[part]:
            whole = f"{self.name}: {name}"
            with open_regular(self._folder / name, whole) as file, reading(whole):
                for first in range(0, self._records[name], len(records)):
                    block = records[: self._records[name] - first]
                    fill_exactly(file, block)
                    labels = block[:, 0]
                    if int(labels.max()) >= len(CLASS_NAMES):
                        record = first + int(labels.argmax())
                        raise wrong(whole, f"record {record} has label {labels.max()}, not 0 to 9")
                    yield block[:, 1:].reshape(-1, *SHAPE), labels

    def _count(self, name: str) -> int:
        """Records of a batch, from the size of its file."""
        whole = f"{self.name}: {name}"
        if not os.path.lexists(self._folder / name):
            raise wrong(self.name, f"{name} is missing; needs all six batches")
        with open_regular(self._folder / name, whole) as file:
            size = os.fstat(file.fileno()).st_size
        if not size or size % RECORD_BYTES:
            raise wrong(whole, f"{size} bytes are not a whole number of records of {RECORD_BYTES}")
        return size // RECORD_BYTES
