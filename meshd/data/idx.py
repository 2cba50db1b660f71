"""IDX, the format of MNIST: a folder with four files, each plain or gzip.

A file is a magic number - two zero bytes, the type (8: unsigned bytes), the number of dimensions -,
each dimension as a big-endian 32-bit integer, and the bytes (LeCun, Cortes, Burges, "The MNIST
database of handwritten digits"). Whether a file is compressed is seen from its first two bytes.
"""

from __future__ import annotations

import contextlib
import gzip
import math
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshd.data.source import (
    MOST_PACKED,
    Block,
    Header,
    Part,
    check_headers,
    check_size,
    fill_exactly,
    open_regular,
    reading,
    refuse_more,
    wrong,
)

UNSIGNED_BYTES = 0x08
GZIP_MAGIC = b"\x1f\x8b"
FIRST_NAME = {"train": "train", "test": "t10k"}
IMAGE_DIMENSIONS = range(2, 5)  # (N, features), (N, H, W), (N, H, W, C)


def idx_file(folder: Path, part: str, kind: str) -> Path | None:
    """The part's file of images or labels, under any of the names in use; None if there is none."""
    digits = "3" if kind == "images" else "1"
    for dot in "-.":
        for ending in ("", ".gz"):
            path = folder / f"{FIRST_NAME[part]}-{kind}{dot}idx{digits}-ubyte{ending}"
            if os.path.lexists(path):
                return path
    return None


def looks_like_idx(folder: Path) -> bool:
    """Whether any of the four files is there."""
    parts = [(part, kind) for part in FIRST_NAME for kind in ("images", "labels")]
    return any(idx_file(folder, part, kind) for part, kind in parts)


class IdxSource:
    """A folder of four IDX files whose headers have been checked."""

    format = "IDX"

    def __init__(self, folder: Path, class_names: tuple[str, ...] = ()) -> None:
        self.name = f"data folder {folder.name}"
        self.class_names = class_names
        self._paths: dict[tuple[str, str], Path] = {}
        self._shapes: dict[tuple[str, str], tuple[int, ...]] = {}
        for part in FIRST_NAME:
            for kind in ("images", "labels"):
                path = idx_file(folder, part, kind)
                if path is None:
                    digits = "3" if kind == "images" else "1"
                    file = f"{FIRST_NAME[part]}-{kind}-idx{digits}-ubyte"
                    raise wrong(self.name, f"{file} (or {file}.gz) is missing")
                self._paths[part, kind] = path
                with self._opened(part, kind) as (_, shape):
                    self._shapes[part, kind] = shape
            images, labels = (self._shapes[part, kind][0] for kind in ("images", "labels"))
            if images != labels:
                raise wrong(self.name, f"{part} part has {images} images, but {labels} labels")
        check_headers(self)

    def header(self, part: Part) -> Header:
        """What the part holds."""
        samples, *shape = self._shapes[part, "images"]
        return Header(samples, tuple(shape), np.dtype(np.uint8))

    def blocks(self, part: Part) -> Iterator[Block]:
        """The part's samples in blocks."""
        header = self.header(part)
        labels = np.empty(header.samples, np.uint8)
        for block in self._byte_blocks(part, "labels", labels, header.samples):
            labels = block
        rows = min(header.rows_per_block, header.samples)
        images = np.empty((rows, *header.shape), np.uint8)
        at = 0
        for x in self._byte_blocks(part, "images", images, header.samples):
            yield x, labels[at : at + len(x)]
            at += len(x)

    def _byte_blocks(
        self, part: str, kind: str, block: NDArray[np.uint8], rows: int
    ) -> Iterator[NDArray[np.uint8]]:
        """A file's rows, in the memory of `block`."""
        with self._opened(part, kind) as (stream, _):
            for first in range(0, rows, len(block)):
                filled = block[: rows - first]
                fill_exactly(stream, filled)
                yield filled
            refuse_more(stream, f"{self.name}: {self._paths[part, kind].name}")

    @contextlib.contextmanager
    def _opened(self, part: str, kind: str) -> Iterator[tuple[Any, tuple[int, ...]]]:
        """A file after its header: the stream of its bytes, and its shape."""
        path = self._paths[part, kind]
        name = f"{self.name}: {path.name}"
        with open_regular(path, name) as file, reading(name):
            packed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
            file.seek(0)
            size = os.fstat(file.fileno()).st_size
            with gzip.GzipFile(fileobj=file) if packed else file as stream:
                shape = _read_header(stream, name, kind)
                promised = math.prod(shape)
                check_size(name, promised)
                if promised > (size * MOST_PACKED if packed else size - file.tell()):
                    raise EOFError(f"its header promises {promised} bytes")
                yield stream, shape


def _read_header(stream: Any, name: str, kind: str) -> tuple[int, ...]:
    """The dimensions; `kind` says how many there may be."""
    magic = stream.read(4)
    dimensions = magic[3] if len(magic) == 4 else 0
    known = dimensions in IMAGE_DIMENSIONS if kind == "images" else dimensions == 1
    if magic[:3] != bytes([0, 0, UNSIGNED_BYTES]) or not known:
        expected = "00000803" if kind == "images" else "00000801"
        raise wrong(name, f"begins with {magic.hex() or 'nothing'}, not {expected}: no IDX {kind}")
    sizes = stream.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise EOFError("its header is cut off")
    return struct.unpack(f">{dimensions}I", sizes)
