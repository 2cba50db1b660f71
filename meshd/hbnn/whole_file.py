"""Files that appear whole or not at all.

    DIR/.NAME.DIGITS/NAME    while it is written: a folder that is new, with 16 random hex digits
    DIR/NAME                 when it is on the disk: rename(2) replaces an older one in one step

A folder, and not only a file, because libraries that write a file may put files of their own
beside it. Two processes that write the same file have two folders; the later rename wins.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

DIGITS = 16


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield an empty file that takes `path`'s place when the block ends well, and else vanishes.

    The block may write to it or put another in its place; it gets the mode that a plain `open`
    gives a new file. OSError from the file system; an older file at `path` is then as it was.
    """
    folder = path.with_name(f".{path.name}.{secrets.token_hex(DIGITS // 2)}")
    folder.mkdir(0o700)
    try:
        temporary = folder / path.name
        temporary.touch(exist_ok=False)
        mode = stat.S_IMODE(temporary.stat().st_mode)  # what the umask left of 0666
        yield temporary
        temporary.chmod(mode)
        _sync(temporary)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _sync(path.parent)


def remove_unfinished(path: Path) -> None:
    """Remove what processes that were killed while they wrote `path` have left.

    Only for who knows that no other process writes it. What has another form of name, another
    owner, or is a link stays; so does what cannot be removed.
    """
    ours = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{{DIGITS}}}")
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            if (
                ours.fullmatch(entry.name)
                and entry.is_dir(follow_symlinks=False)
                and entry.stat(follow_symlinks=False).st_uid == os.geteuid()
            ):
                shutil.rmtree(entry.path, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
