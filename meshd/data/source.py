"""What every format is read through: headers first, then blocks of a bounded size.

A `Source` is a data set on a disk whose headers were read and bounded, and whose samples were not
read yet. Nothing in a file is trusted: what a header promises is compared with `MAX_DATA_BYTES` and
with the file's size before memory is taken; every way to be wrong is one line.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from meshd.data.errors import DataError

Part = Literal["train", "test"]
PARTS: tuple[Part, Part] = ("train", "test")
Block = tuple[NDArray[Any], NDArray[Any]]

MAX_DATA_BYTES = 16 << 30  # unpacked; more than any desk's memory has free for a guest
MAX_CLASSES = 65_536
MAX_REASON = 200  # characters of what a library says
BLOCK_BYTES = 1 << 20  # read at once: large enough that a call's cost does not count
# Deflate's best is 258 bytes from 2 bits (RFC 1951, a match of length 258), some 1,032 to 1.
MOST_PACKED = 1100
# What zipfile, the decompressors and numpy raise on files that are damaged or made to harm:
# zipfile alone has BadZipFile, NotImplementedError (a RuntimeError) and struct.error.
BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    KeyError,
    ValueError,
    OSError,
    RuntimeError,
    OverflowError,
)


@dataclass(frozen=True)
class Header:
    """One part before it is read: samples, shape of one sample, uint8 or float32."""

    samples: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def row_bytes(self) -> int:
        """Bytes of one sample; a Python integer, so that no shape overflows it."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def rows_per_block(self) -> int:
        """Samples to read at once."""
        return max(1, BLOCK_BYTES // self.row_bytes)


class Source(Protocol):
    """A data set on a disk."""

    @property
    def name(self) -> str:
        """How an error begins: `data file d.npz`."""
        ...

    @property
    def format(self) -> str:
        """What a person calls the format."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """One for each class, or ()."""
        ...

    def header(self, part: Part) -> Header:
        """What the part holds."""
        ...

    def blocks(self, part: Part) -> Iterator[Block]:
        """The part's samples in order: (n, *shape) and labels (n,), valid until the next block.

        Raises:
            DataError: truncated, damaged, or a sample that is wrong.
        """
        ...


def checked_blocks(source: Source, part: Part) -> Iterator[Block]:
    """`source.blocks` with every value looked at.

    Raises:
        DataError: labels out of range, NaN or infinity, and what `blocks` raises.
    """
    for x, y in source.blocks(part):
        if int(y.min()) < 0 or int(y.max()) >= MAX_CLASSES:
            raise wrong(source.name, f"y_{part} must lie in 0 to {MAX_CLASSES - 1}")
        names = len(source.class_names)
        if names and int(y.max()) >= names:
            raise wrong(
                source.name, f"y_{part} has label {int(y.max())}, but there are {names} classes"
            )
        if x.dtype.kind == "f" and not bool(np.isfinite(x).all()):
            raise wrong(source.name, f"x_{part} holds NaN or infinity")
        yield x, y


def check_headers(source: Source) -> None:
    """Both parts fit together and in memory.

    Raises:
        DataError: empty, unequal, or too large.
    """
    train, test = source.header("train"), source.header("test")
    for part, header in (("train", train), ("test", test)):
        if not header.samples or not header.row_bytes:
            raise wrong(source.name, f"x_{part} is empty")
    if (train.shape, train.dtype) != (test.shape, test.dtype):
        raise wrong(source.name, "x_train and x_test must agree in sample shape and type")
    check_size(source.name, sum(h.samples * (h.row_bytes + 8) for h in (train, test)))


def check_size(name: str, unpacked: int) -> None:
    """Refuse what would not fit, before anything is allocated."""
    if unpacked > MAX_DATA_BYTES:
        raise wrong(name, f"more than {MAX_DATA_BYTES >> 30} GiB when unpacked")


def wrong(name: str, what: str) -> DataError:
    """The error of a file: whose, and what is wrong with it."""
    return DataError(f"{name}: {what}")


@contextlib.contextmanager
def reading(name: str, whole: str = "not whole") -> Iterator[None]:
    """Turn what the system and the decompressors raise into one line."""
    try:
        yield
    except FileNotFoundError:
        raise wrong(name, "no such file") from None
    except PermissionError:
        raise wrong(name, "we may not read it") from None
    except BROKEN as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        # Libraries quote what they found, which can be the whole file.
        raise wrong(name, f"{whole} ({reason[:MAX_REASON]}); copy it again") from None


def open_regular(path: Path, name: str, follow: bool = False) -> io.BufferedReader:
    """Open a regular file for reading; never a device, a pipe or, unless `follow`, a link.

    Raises:
        DataError: it is none, or cannot be read.
    """
    if not follow and path.is_symlink():
        raise wrong(name, "a symbolic link; only files inside the folder are read")
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    with reading(name, "cannot be read"):
        number = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise wrong(name, "not a regular file")
    return os.fdopen(number, "rb")


def fill_exactly(stream: Any, out: NDArray[Any]) -> None:
    """Read as many bytes as `out`, C-contiguous and not empty, has.

    Raises:
        EOFError: the stream ends before.
    """
    view = out.reshape(-1).view(np.uint8).data
    while view:
        count = stream.readinto(view)
        if not count:
            raise EOFError(f"{len(view)} bytes are missing")
        view = view[count:]


def refuse_more(stream: Any, name: str) -> None:
    """The stream has ended; reading to the end is also what checks its checksum."""
    if stream.read(1):
        raise wrong(name, "longer than its header says")
