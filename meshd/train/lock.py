"""One run at a time in a folder of checkpoints.

Two runs that write the same files would go on from each other's states. The law: whoever trains
in a folder holds the lock on its file `.lock`; the kernel gives it back when a process ends,
however it ends, so a file that is left says nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from meshd.train.errors import TrainingError

LOCK = ".lock"
ATTEMPTS = 100  # each but the last fails only if another run ends at that very moment


@contextmanager
def held(folder: Path) -> Iterator[bool]:
    """Hold `folder`, which is made if need be and goes again if nothing was put into it.

    Yields whether there is a lock. Where nothing can be written there is nothing to corrupt: then
    there is none. Nor where the file system knows no locks.

    Raises:
        TrainingError: another run holds it.
    """
    ours = not folder.exists()
    lock = _locked(folder)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            # Unlinked while it is still ours: `_locked` notices that its file has gone.
            with contextlib.suppress(OSError):
                (folder / LOCK).unlink()
                if ours:
                    folder.rmdir()
            os.close(lock)


def _locked(folder: Path) -> int | None:
    """A descriptor that holds the lock; None where the folder or its file system has none."""
    for _ in range(ATTEMPTS):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except FileNotFoundError:
            continue  # the run before us removed its empty folder between the two calls
        except OSError:
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(lock, folder / LOCK):
                return lock
        except BlockingIOError:
            os.close(lock)
            raise TrainingError(
                f"another meshd train is at work in {folder}: wait for its end,"
                " or name another folder with --checkpoints"
            ) from None
        except OSError:
            os.close(lock)
            return None
        os.close(lock)
    return None


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
