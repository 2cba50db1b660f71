"""Files that hold secrets or trust: written atomically with their mode, read only if nobody else
can have touched them."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

from meshd.core.errors import FailureError, NotConfiguredError, PermissionRefusedError

MAX_FILE_BYTES = 1 << 20
"""A roster of 10,000 machines is smaller."""


def write_atomically(path: Path, data: bytes, mode: int, replace: bool = True) -> bool:
    """Write a file so that readers see the old one or the new one, never half of one.

    The temporary file is made with its final mode, in the same folder; both the data and the
    folder entry are synced (fsync(2) on why both).

    Args:
        path: where the file goes.
        data: all of its content.
        mode: permission bits, whatever the umask.
        replace: False leaves an existing file alone.

    Returns:
        False if the file exists and `replace` is False.

    Raises:
        FailureError: the folder is missing or full, or not ours.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            os.fchmod(descriptor, mode)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                os.replace(temporary, path)
                return True
            return _link_new(temporary, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            _sync_folder(path.parent)
    except OSError as error:
        raise FailureError(f"{path}: cannot be written: {error.strerror}") from None


def _link_new(temporary: Path, path: Path) -> bool:
    """Give the file its name only if nobody has it: link(2) fails where rename(2) replaces."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_trusted(path: Path, forbidden: int) -> str:
    """Read a small text file that only we (or root) can have written.

    Args:
        path: the file; a symbolic link is refused.
        forbidden: permission bits that it must not have.

    Raises:
        FileNotFoundError: there is none.
        PermissionRefusedError: its owner or its mode is wrong, or we may not read it.
        NotConfiguredError: it is no regular file, too large, or not UTF-8.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except PermissionError:
        raise PermissionRefusedError(f"{path}: not readable by this user") from None
    except OSError as error:
        raise NotConfiguredError(f"{path}: not a plain file: {error.strerror}") from None
    try:
        _check_status(path, os.fstat(descriptor), forbidden)
        data = os.read(descriptor, MAX_FILE_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(data) > MAX_FILE_BYTES:
        raise NotConfiguredError(f"{path}: larger than {MAX_FILE_BYTES} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise NotConfiguredError(f"{path}: not UTF-8 text") from None


def _check_status(path: Path, status: os.stat_result, forbidden: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise NotConfiguredError(f"{path}: not a plain file")
    if status.st_uid not in (os.geteuid(), 0):
        raise PermissionRefusedError(f"{path}: belongs to user {status.st_uid}, not to us")
    mode = stat.S_IMODE(status.st_mode)
    if mode & forbidden:
        wanted = mode & ~forbidden
        raise PermissionRefusedError(
            f"{path}: mode {mode:04o} lets others in; run: chmod {wanted:04o} {path}"
        )
