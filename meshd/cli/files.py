"""Files that a user names: read with a one-line error, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

CHUNK_BYTES = 1 << 20
STDOUT = Path("-")

Write = Callable[[bytes], None]


def open_data(path: Path, what: str) -> tuple[IO[bytes], int]:
    """Open a regular file for reading; returns it and its size in bytes.

    Raises:
        UsageError: no such file, not a regular one, or nothing in it.
        PermissionRefusedError: we may not read it.
        FailureError: any other error of the system.
    """
    from meshd.net.local import FailureError, PermissionRefusedError, UsageError

    try:
        # O_NONBLOCK: a named pipe is refused below instead of waited for.
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        raise PermissionRefusedError(f"{what} {path}: we may not read it") from None
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"{what} {path}: no such file") from None
    except OSError as error:
        raise FailureError(f"{what} {path}: {error.strerror}") from None
    found = os.fstat(number)
    problem = ""
    if stat.S_ISDIR(found.st_mode):
        problem = "is a folder"
    elif not stat.S_ISREG(found.st_mode):
        problem = "is not a regular file"
    elif not found.st_size:
        problem = "is empty"
    if problem:
        os.close(number)
        raise UsageError(f"{what} {path} {problem}")
    return os.fdopen(number, "rb"), found.st_size


def chunks(file: IO[bytes]) -> Iterator[bytes]:
    """The rest of a file, in pieces that fit in memory."""
    while data := file.read(CHUNK_BYTES):
        yield data


def read_job_file(path: Path) -> str:
    """A job file's text.

    Raises:
        UsageError: no such file, too large, or not text.
        PermissionRefusedError: we may not read it.
    """
    from meshd.net.local import MAX_JOB_FILE_BYTES, UsageError

    file, size = open_data(path, "job file")
    with file:
        data = file.read(MAX_JOB_FILE_BYTES + 1)
    if len(data) > MAX_JOB_FILE_BYTES:
        raise UsageError(
            f"job file {path} has {size} bytes; at most {MAX_JOB_FILE_BYTES} are taken:"
            " is it a job file?"
        )
    try:
        return data.decode("utf-8-sig")  # some editors begin UTF-8 with a byte order mark
    except UnicodeDecodeError:
        raise UsageError(f"job file {path}: not UTF-8 text; is it a job file?") from None


@contextlib.contextmanager
def opened_output(path: Path) -> Iterator[Write]:
    """What an output file is written with, chosen by what `path` is.

    `-` is stdout. A device or a named pipe is written to as it is: to rename a file over
    `/dev/null` would take the device away from everybody. Any other file is written whole or not at
    all; where `path` is a symbolic link, it stays and the file that it points to is replaced.

    Raises:
        UsageError: `path` is a folder, or its folder does not exist.
        PermissionRefusedError: we may not write there.
        FailureError: any other error of the system, such as a full disk.
    """
    if path == STDOUT:
        sys.stdout.flush()
        with _told(path):
            yield _writer(sys.stdout.fileno())
    elif _is_special(path):
        with _told(path):
            number = os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
            try:
                yield _writer(number)
            finally:
                os.close(number)
    else:
        with _told(path), _written_whole(Path(os.path.realpath(path))) as write:
            yield write


def _is_special(path: Path) -> bool:
    """Whether `path` exists and is neither a regular file nor a folder, links followed.

    Raises:
        UsageError: it is a folder.
    """
    from meshd.net.local import UsageError

    with _told(path):
        try:
            mode = os.stat(path).st_mode
        except FileNotFoundError:
            return False
    if stat.S_ISDIR(mode):
        raise UsageError(f"{path} is a folder; name a file in it: -o {path / 'model.safetensors'}")
    return not stat.S_ISREG(mode)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn the system's errors about an output file into one line each."""
    from meshd.net.local import FailureError, PermissionRefusedError, UsageError

    try:
        yield
    except PermissionError:
        raise PermissionRefusedError(f"{path}: we may not write there") from None
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"{path.parent}: no such folder") from None
    except OSError as error:
        raise FailureError(f"{path}: {error.strerror or error}") from None


@contextlib.contextmanager
def _written_whole(path: Path) -> Iterator[Write]:
    """A file that takes `path`'s place when the block ends well, and else vanishes.

    It is written beside `path` (a rename works only within a file system) and reaches the disk
    before the rename. The mode is what a plain `open` would give.
    """
    number, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:200]}.")
    try:
        try:
            yield _writer(number)
            os.fchmod(number, 0o666 & ~_umask())
            os.fsync(number)
        finally:
            os.close(number)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _writer(number: int) -> Write:
    """Writes all of its bytes to a file descriptor; the error is our disk's or reader's."""
    from meshd.net.local import FailureError

    def write(data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(number, view) :]
        except OSError as error:  # told from the daemon's link, whose errors are OSError too
            raise FailureError(f"cannot write the output: {error.strerror}") from None

    return write


def _umask() -> int:
    """The process's umask; the system has no call that only reads it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
