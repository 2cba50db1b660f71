"""Files that a user names: read with a one-line error, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

CHUNK_BYTES = 1 << 20
# Far more than any job file: the daemon names the true bound, we only do not read a disk image.
JOB_FILE_READ_BYTES = 1 << 20


def open_data(path: Path, what: str) -> tuple[IO[bytes], int]:
    """Open a regular file for reading; returns it and its size in bytes.

    Raises:
        UsageError: no such file, or not a regular one.
        PermissionRefusedError: we may not read it.
        FailureError: any other error of the system.
    """
    from meshd.net.local import FailureError, PermissionRefusedError, UsageError

    try:
        # O_NONBLOCK: a named pipe is refused below instead of waited for.
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except PermissionError:
        raise PermissionRefusedError(f"{what} {path}: we may not read it") from None
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise UsageError(f"{what} {path}: no such file") from None
    except OSError as error:
        raise FailureError(f"{what} {path}: {error.strerror}") from None
    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode):
        file.close()
        raise UsageError(f"{what} {path}: not a regular file")
    return file, found.st_size


def chunks(file: IO[bytes]) -> Iterator[bytes]:
    """The rest of a file, in pieces that fit in memory."""
    while data := file.read(CHUNK_BYTES):
        yield data


def read_job_file(path: Path) -> str:
    """A job file's text.

    Raises:
        UsageError: no such file, or not text.
        PermissionRefusedError: we may not read it.
    """
    from meshd.net.local import UsageError

    file, _ = open_data(path, "job file")
    with file:
        data = file.read(JOB_FILE_READ_BYTES)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"job file {path}: not UTF-8 text; is it a job file?") from None


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to that takes `path`'s place when the block ends well, and else vanishes.

    It is written beside `path` (a rename works only within a file system) and reaches the disk
    before the rename. The mode is what a plain `open` would give.

    Raises:
        UsageError: `path` is a folder, or its folder does not exist.
        PermissionRefusedError: we may not write there.
        FailureError: any other error of the system, such as a full disk.
    """
    from meshd.net.local import FailureError, PermissionRefusedError, UsageError

    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file in it: -o {path / 'model.safetensors'}")
    temporary: str | None = None
    try:
        number, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:200]}.")
        with open(number, "wb") as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), 0o666 & ~_umask())
            os.fsync(file.fileno())
        os.replace(temporary, path)
        temporary = None
    except PermissionError:
        raise PermissionRefusedError(f"{path}: we may not write there") from None
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"{path.parent}: no such folder") from None
    except OSError as error:
        raise FailureError(f"{path}: {error.strerror or error}") from None
    finally:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)


def _umask() -> int:
    """The process's umask; the system has no call that only reads it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
