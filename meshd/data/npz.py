"""NumPy's .npz: a zip of x_train, y_train, x_test and y_test, optionally class_names.

Array headers are read first and bound what is allocated; object arrays (pickle) are refused. The
arrays are then read in blocks, so that a part that is not wanted costs nothing.
"""

from __future__ import annotations

import contextlib
import math
import tokenize
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshd.data.dataset import Dataset
from meshd.data.source import (
    BLOCK_BYTES,
    MAX_CLASSES,
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

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
NAMES = "class_names"
NPY_MAGIC = b"\x93NUMPY"
ZIP_MAGIC = b"PK"
SAMPLE_TYPES = ("uint8", "float32")
MAX_NAMES_BYTES = 1 << 24
MAX_DIMENSIONS = 32  # a line can show them all; NumPy has at most 64
# What NumPy raises on a header that is none. It is parsed as a literal of Python's, tried again
# with Python 2's integers: hence errors of the parser, and of making a set or dict of it.
UNREADABLE = (ValueError, TypeError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError)
NOT_WHOLE = "not a whole .npz file"

ArrayHeader = tuple[tuple[int, ...], bool, np.dtype[Any]]


class NpzSource:
    """An .npz file whose array headers have been checked."""

    format = "npz"

    def __init__(self, path: Path) -> None:
        self.name = f"data file {path.name}"
        self._path = path
        self._refuse_other_formats()
        with reading(self.name, NOT_WHOLE):
            self._headers = self._read_headers()
        for part in ("train", "test"):
            self._check_part(part)
        check_headers(self)
        self.class_names = self._read_names()

    def header(self, part: Part) -> Header:
        """What the part holds."""
        shape, _, dtype = self._headers[f"x_{part}"]
        return Header(shape[0], shape[1:], np.dtype(dtype.name))

    def blocks(self, part: Part) -> Iterator[Block]:
        """The part's samples in blocks."""
        at = 0
        (y,) = self._array_blocks(f"y_{part}", whole=True)
        for x in self._array_blocks(f"x_{part}"):
            yield x, y[at : at + len(x)]
            at += len(x)

    def _refuse_other_formats(self) -> None:
        with open_regular(self._path, self.name, follow=True) as file:
            magic = file.read(len(NPY_MAGIC))
        if magic == NPY_MAGIC:
            raise wrong(self.name, "one .npy array; save all four with numpy.savez")
        if not magic.startswith(ZIP_MAGIC):
            raise wrong(
                self.name,
                "not an .npz file; other formats become one with: meshd data convert SRC OUT.npz",
            )

    def _read_headers(self) -> dict[str, ArrayHeader]:
        """Shapes and types; refuses what would not be loaded, or would not fit."""
        with zipfile.ZipFile(self._path) as archive:
            names = set(archive.namelist())
            missing = [name for name in ARRAYS if f"{name}.npy" not in names]
            if missing:
                needed = ", ".join(ARRAYS)
                raise wrong(self.name, f"array {missing[0]} is missing; needs {needed}")
            headers = {}
            total = 0
            for name in (*ARRAYS, *({NAMES} if f"{NAMES}.npy" in names else ())):
                with archive.open(f"{name}.npy") as member:
                    shape, fortran, dtype = _read_header(member, name)
                if dtype.hasobject:
                    raise wrong(self.name, f"{name} holds Python objects, which are never loaded")
                size = math.prod(shape) * dtype.itemsize
                total += size
                check_size(self.name, total)
                info = archive.getinfo(f"{name}.npy")
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise wrong(self.name, f"{name} is compressed as NumPy does not; save it again")
                if size > info.compress_size * MOST_PACKED:
                    raise EOFError(f"{name} promises {size} bytes in {info.compress_size}")
                headers[name] = shape, fortran, dtype
        return headers

    def _check_part(self, part: str) -> None:
        """One of train and test: types and shapes."""
        (x_shape, _, x_type), (y_shape, _, y_type) = (
            self._headers[f"x_{part}"],
            self._headers[f"y_{part}"],
        )
        if x_type.name not in SAMPLE_TYPES:
            known = " or ".join(SAMPLE_TYPES)
            raise wrong(self.name, f"x_{part} is {x_type.name}; must be {known}")
        if y_type.kind not in "iu":
            raise wrong(self.name, f"y_{part} is {y_type.name}; must be whole numbers")
        if len(x_shape) < 2 or len(y_shape) != 1 or x_shape[0] != y_shape[0]:
            raise wrong(
                self.name,
                f"x_{part} {x_shape} and y_{part} {y_shape} must be (N, ...) and (N,)",
            )

    def _read_names(self) -> tuple[str, ...]:
        if NAMES not in self._headers:
            return ()
        shape, _, dtype = self._headers[NAMES]
        size = math.prod(shape) * dtype.itemsize
        if dtype.kind != "U" or len(shape) != 1 or shape[0] > MAX_CLASSES:
            raise wrong(self.name, f"{NAMES} must be a list of texts")
        if not 0 < size <= MAX_NAMES_BYTES:
            raise wrong(self.name, f"{NAMES} is empty, or longer than {MAX_NAMES_BYTES} bytes")
        with reading(self.name, NOT_WHOLE):
            (names,) = self._array_blocks(NAMES, whole=True)
            return tuple(str(name) for name in names)

    def _array_blocks(self, name: str, whole: bool = False) -> Iterator[NDArray[Any]]:
        """An array's rows in blocks; in one if it is stored by columns, or if `whole`."""
        with reading(self.name, NOT_WHOLE), self._member(name) as member:
            shape, fortran, dtype = _read_header(member, name)
            if (shape, fortran, dtype) != self._headers[name]:
                raise wrong(self.name, f"{name} changed while it was read")
            if whole or fortran:
                flat = np.empty(math.prod(shape), dtype)
                fill_exactly(member, flat)
                refuse_more(member, self.name)
                yield flat.reshape(shape, order="F" if fortran else "C")
                return
            rows = max(1, BLOCK_BYTES // (math.prod(shape[1:]) * dtype.itemsize))
            block = np.empty((min(rows, shape[0]), *shape[1:]), dtype)
            for first in range(0, shape[0], rows):
                part = block[: shape[0] - first]
                fill_exactly(member, part)
                yield part
            refuse_more(member, self.name)

    @contextlib.contextmanager
    def _member(self, name: str) -> Iterator[Any]:
        with zipfile.ZipFile(self._path) as archive, archive.open(f"{name}.npy") as member:
            yield member


def _read_header(member: Any, name: str) -> ArrayHeader:
    """Shape, order and type of one .npy member (numpy's NEP 1 format, versions 1 and 2).

    ValueError of a bounded length: what NumPy says quotes the header, and its parser's insides.
    """
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        version = np.lib.format.read_magic(member)
        shape, fortran, dtype = (
            readers[version](member) if version in readers else ((), False, None)
        )
    except UNREADABLE:
        raise ValueError(f"{name} has no header that NumPy writes") from None
    if dtype is None:
        raise ValueError(f"{name} has array format version {version}, which is not known")
    if len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"{name} has {len(shape)} dimensions, at most {MAX_DIMENSIONS}")
    if any(not 0 <= length < 1 << 63 for length in shape):
        raise ValueError(f"{name} has a dimension that is negative, or of 64 bits")
    return tuple(shape), fortran and len(shape) > 1, dtype


def write_npz(data: Dataset, file: Any) -> None:
    """Write both parts, compressed, labels in the smallest type; equal data gives equal bytes.

    `file`: anything with `write` and `flush`; it need not seek.
    """
    arrays: dict[str, NDArray[Any]] = {
        "x_train": data.x_train.reshape(-1, *(data.shape or (data.inputs,))),
        "y_train": data.y_train.astype(np.min_scalar_type(data.classes - 1)),
        "x_test": data.x_test.reshape(-1, *(data.shape or (data.inputs,))),
        "y_test": data.y_test.astype(np.min_scalar_type(data.classes - 1)),
    }
    if data.class_names:
        arrays[NAMES] = np.array(data.class_names)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
