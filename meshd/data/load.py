"""`load_dataset`: a path or a name becomes a `Dataset`; the format is seen from the content.

file    zip -> .npz        text -> CSV
folder  IDX files; CIFAR-10 batches; train.csv and test.csv; train/CLASS/ and test/CLASS/
name    of a known data set, where no file has that name: from the cache, else downloaded
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from meshd.data import cifar, idx, images
from meshd.data.dataset import Dataset, Samples, scale_of
from meshd.data.errors import DataError
from meshd.data.npz import NPY_MAGIC, ZIP_MAGIC, NpzSource
from meshd.data.source import Part, Source, checked_blocks, open_regular, wrong
from meshd.data.table import CsvSource

PEEK_BYTES = 4096
FORMATS = "an .npz or CSV file, or a folder of IDX files, CIFAR-10 batches, images or CSV files"
# First bytes -> why such a file is no data set by itself.
NOT_ALONE = {
    idx.GZIP_MAGIC: "compressed; unpack an archive, and of IDX files give the folder",
    b"\x00\x00\x08": "one IDX file; give the folder with all four",
    b"\x80": "a pickle or other binary file; a pickle is never loaded, since it runs what is in it",
    b"\x89PNG": "one image; give a folder with train/CLASS/ and test/CLASS/",
}


def load_dataset(
    source: Path | str, part: Literal["all", "test"] = "all", scale: float | None = None
) -> Dataset:
    """Read and check a data set.

    Args:
        source: a file or folder, or the name of a known data set. A path that exists always wins.
        part: "test" leaves `x_train` and `y_train` without rows, and needs memory for the test part
            alone. `classes` is then what the class names or the test labels show.
        scale: 1 / max |x_train| where it is known, as a trained model does; else it is found by
            reading the training part, with `part="test"` a block at a time.

    Raises:
        DataError: missing, truncated or broken, wrong arrays, types, shapes or values.
        DownloadError: a name whose files are not here and could not be fetched.
    """
    return read_source(open_source(source), part, scale)


def load_npz(path: Path) -> Dataset:
    """`load_dataset` of an .npz file and nothing else: what a job's data must be.

    Raises:
        DataError: it is none, or is wrong.
    """
    return read_source(NpzSource(path))


def read_source(
    source: Source, part: Literal["all", "test"] = "all", scale: float | None = None
) -> Dataset:
    """Read the samples of an opened source; arguments and errors as `load_dataset`."""
    header = source.header("train")
    x_train, y_train = _empty(source, "train", 0)
    largest = 0.0
    if part == "all":
        x_train, y_train = _read(source, "train")
        largest = _magnitude(x_train)
    elif scale is None:
        largest = _largest(source)
    x_test, y_test = _read(source, "test")
    labels = max(int(y.max()) for y in (y_train, y_test) if len(y))
    return Dataset(
        x_train,
        y_train,
        x_test,
        y_test,
        max(labels + 1, len(source.class_names)),
        scale_of(largest) if scale is None else np.float32(scale),
        header.shape,
        source.class_names,
    )


def open_source(source: Path | str) -> Source:
    """Recognise a data set and check its headers; no sample is read.

    Raises:
        DataError, DownloadError: as `load_dataset`.
    """
    path = Path(source)
    if path.is_dir():
        return _open_folder(path)
    if os.path.lexists(path):
        return _open_file(path)
    from meshd.data.catalogue import CATALOGUE

    if str(source) in CATALOGUE:
        from meshd.data.download import fetch

        folder = fetch(str(source))
        if cifar.looks_like_cifar(folder):
            return cifar.CifarSource(folder)
        return idx.IdxSource(folder, CATALOGUE[str(source)].class_names)
    known = ", ".join(CATALOGUE)
    raise DataError(
        f"data file {path.name}: no such file; give {FORMATS}, or a name to download: {known}"
    )


def _open_folder(folder: Path) -> Source:
    """Chosen by what lies in it."""
    tests: list[tuple[Callable[[Path], bool], Callable[[Path], Source]]] = [
        (idx.looks_like_idx, idx.IdxSource),
        (cifar.looks_like_cifar, cifar.CifarSource),
        (lambda f: _is_dir(f / cifar.FOLDER), lambda f: cifar.CifarSource(f / cifar.FOLDER)),
        (lambda f: any(os.path.lexists(f / f"{p}.csv") for p in ("train", "test")), _open_tables),
        (images.looks_like_images, images.ImageSource),
    ]
    for looks_right, opened in tests:
        if looks_right(folder):
            return opened(folder)
    raise DataError(f"data folder {folder.name}: no data set that is known here; give {FORMATS}")


def _is_dir(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _open_tables(folder: Path) -> Source:
    """train.csv and test.csv."""
    name = f"data folder {folder.name}"
    for part in ("train", "test"):
        if not os.path.lexists(folder / f"{part}.csv"):
            raise wrong(name, f"{part}.csv is missing")
    return CsvSource(folder / "train.csv", folder / "test.csv", name)


def _open_file(path: Path) -> Source:
    """Chosen by its first bytes."""
    name = f"data file {path.name}"
    with open_regular(path, name, follow=True) as file:
        head = file.read(PEEK_BYTES)
    if head.startswith((ZIP_MAGIC, NPY_MAGIC)):
        return NpzSource(path)
    for magic, why in NOT_ALONE.items():
        if head.startswith(magic):
            raise wrong(name, why)
    if b"\0" in head:
        raise wrong(name, f"no format that is known here; give {FORMATS}")
    other = path.with_name(path.name.replace("train", "test"))
    test = other if other != path and other.is_file() else None
    return CsvSource(path, test, name, follow=True)


def _empty(source: Source, part: Part, samples: int) -> tuple[Samples, NDArray[np.int64]]:
    header = source.header(part)
    inputs = math.prod(header.shape)
    return np.empty((samples, inputs), header.dtype), np.empty(samples, np.int64)


def _read(source: Source, part: Part) -> tuple[Samples, NDArray[np.int64]]:
    """A whole part, flat."""
    x, y = _empty(source, part, source.header(part).samples)
    at = 0
    for x_block, y_block in checked_blocks(source, part):
        rows = slice(at, at + len(y_block))
        x[rows] = x_block.reshape(len(y_block), -1)
        y[rows] = y_block
        at = rows.stop
    if at != len(y):
        raise wrong(source.name, f"x_{part} changed while it was read")
    return x, y


def _magnitude(x: NDArray[Any]) -> float:
    """max |x|, without a copy of x."""
    return max(abs(float(x.max())), abs(float(x.min())))


def _largest(source: Source) -> float:
    """max |x_train|, a block at a time; for bytes, no further than the first 255."""
    largest = 0.0
    for x, _ in checked_blocks(source, "train"):
        largest = max(largest, _magnitude(x))
        if x.dtype == np.uint8 and largest == np.iinfo(np.uint8).max:
            break
    return largest
