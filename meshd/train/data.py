"""A job's data: one .npz file with x_train, y_train, x_test, y_test; checked before it is loaded.

Nothing in the file is trusted: array headers are read first and bound what is allocated, object
arrays are refused, and every way to be wrong is one line.
"""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from meshd.train.errors import TrainingError

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
MAX_DATA_BYTES = 16 << 30  # unpacked; more than any desk's memory has free for a guest
MAX_CLASSES = 65_536
# What zipfile, its decompressors and numpy raise on files that are damaged or made to harm:
# zipfile alone has BadZipFile, NotImplementedError (a RuntimeError) and struct.error.
BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    KeyError,
    ValueError,
    OSError,
    RuntimeError,
    OverflowError,
)
NPY_MAGIC = b"\x93NUMPY"
SMALLEST_RANGE = 1e-30  # samples below it count as zero; their scale would not be finite
IMAGE_TYPES = ("uint8", "float32")


@dataclass(frozen=True)
class Dataset:
    """Samples as rows. x: (samples, inputs) uint8 or float32; y: (samples,) int64 in 0..classes-1.

    `scale`: 1 / max |x_train|, so that what the network sees lies in [-1, 1].
    """

    x_train: NDArray[np.uint8 | np.float32]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.uint8 | np.float32]
    y_test: NDArray[np.int64]
    classes: int
    scale: np.float32

    @property
    def inputs(self) -> int:
        """Features of one sample."""
        return int(self.x_train.shape[1])

    def fill_rows(
        self,
        x: NDArray[np.uint8 | np.float32],
        picked: NDArray[np.int64],
        out: NDArray[np.float32],
    ) -> None:
        """Write picked samples as the network sees them into `out`, float32 (picked, inputs)."""
        np.multiply(x[picked], self.scale, out=out)


def load_dataset(path: Path) -> Dataset:
    """Read and check a data file.

    Raises:
        TrainingError: missing, truncated or broken file, wrong arrays, types, shapes or values.
    """
    arrays = _read_arrays(path)
    for part in ("train", "test"):
        _check_part(path.name, part, arrays[f"x_{part}"], arrays[f"y_{part}"])
    x_train, x_test = arrays["x_train"], arrays["x_test"]
    if x_train.shape[1:] != x_test.shape[1:] or x_train.dtype != x_test.dtype:
        raise _wrong(path.name, "x_train and x_test must agree in sample shape and type")
    largest = float(np.abs(x_train.max(initial=0))), float(np.abs(x_train.min(initial=0)))
    scale = np.float32(1.0 / max(max(largest), SMALLEST_RANGE))
    return Dataset(
        np.ascontiguousarray(x_train.reshape(len(x_train), -1)),
        arrays["y_train"].astype(np.int64),
        np.ascontiguousarray(x_test.reshape(len(x_test), -1)),
        arrays["y_test"].astype(np.int64),
        int(max(arrays["y_train"].max(), arrays["y_test"].max())) + 1,
        scale,
    )


def _wrong(name: str, what: str) -> TrainingError:
    return TrainingError(f"data file {name}: {what}")


def _read_arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    """The four arrays, after their headers have been checked."""
    try:
        with path.open("rb") as file:
            if file.read(len(NPY_MAGIC)) == NPY_MAGIC:
                raise _wrong(path.name, "one .npy array; save all four with numpy.savez")
        _check_headers(path)
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in ARRAYS}
    except FileNotFoundError:
        raise _wrong(path.name, "no such file; give the path of an .npz file") from None
    except BROKEN as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _wrong(path.name, f"not a whole .npz file ({reason}); copy it again") from None


def _check_headers(path: Path) -> None:
    """Refuse what would not be loaded, or would not fit, before anything is allocated."""
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        missing = [name for name in ARRAYS if f"{name}.npy" not in names]
        if missing:
            raise _wrong(path.name, f"array {missing[0]} is missing; needs {', '.join(ARRAYS)}")
        total = 0
        for name in ARRAYS:
            with archive.open(f"{name}.npy") as member:
                shape, dtype = _read_header(member)
            if dtype.hasobject:
                raise _wrong(path.name, f"{name} holds Python objects, which are never loaded")
            total += int(np.prod(shape, dtype=object)) * dtype.itemsize
            if total > MAX_DATA_BYTES:
                raise _wrong(path.name, f"more than {MAX_DATA_BYTES >> 30} GiB when unpacked")


def _read_header(member: object) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Shape and type of one .npy member (numpy's NEP 1 format, versions 1 and 2)."""
    version = np.lib.format.read_magic(member)  # type: ignore[arg-type]
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(member)  # type: ignore[arg-type]
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(member)  # type: ignore[arg-type]
    else:
        raise ValueError(f"array format version {version} is not known")
    return shape, dtype


def _check_part(file: str, part: str, x: NDArray[np.generic], y: NDArray[np.generic]) -> None:
    """One of train and test: types, shapes, labels."""
    if x.dtype.name not in IMAGE_TYPES:
        raise _wrong(file, f"x_{part} is {x.dtype.name}; must be {' or '.join(IMAGE_TYPES)}")
    if y.dtype.kind not in "iu":
        raise _wrong(file, f"y_{part} is {y.dtype.name}; must be whole numbers")
    if x.ndim < 2 or y.ndim != 1 or len(x) != len(y):
        raise _wrong(file, f"x_{part} {x.shape} and y_{part} {y.shape} must be (N, ...) and (N,)")
    if x.size == 0:
        raise _wrong(file, f"x_{part} is empty")
    if int(y.min()) < 0 or int(y.max()) >= MAX_CLASSES:
        raise _wrong(file, f"y_{part} must lie in 0 to {MAX_CLASSES - 1}")
    if x.dtype.kind == "f" and not bool(np.isfinite(x).all()):
        raise _wrong(file, f"x_{part} holds NaN or infinity")
