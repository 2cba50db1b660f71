"""What a lab has made, written down before it is made: `down` removes this and nothing else.

One JSON file a lab, in a folder that only root writes. Creating it is what reserves the name.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from meshd.core.errors import FailureError, NotRunningError, PermissionRefusedError

FOLDER = Path("/run/meshd-lab")
LARGEST_BYTES = 1 << 20


@dataclass
class Record:
    """One lab. `namespaces`: those that it has made; `groups`: of hosts, one a bridge."""

    prefix: str
    hosts: list[str]
    namespaces: list[str] = field(default_factory=list)
    groups: list[list[str]] = field(default_factory=list)


def reserve(folder: Path, record: Record) -> None:
    """Write the record of a lab that must not be there yet.

    Raises:
        FailureError: there is a lab of that name, or the folder cannot be written.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(_path(folder, record.prefix), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        raise FailureError(
            f"a lab named {record.prefix} is up; `lab --prefix {record.prefix} down` first,"
            " or take another --prefix"
        ) from None
    except OSError as error:
        raise _refused(folder, error) from None
    os.close(handle)
    save(folder, record)


def save(folder: Path, record: Record) -> None:
    """Replace the record, whole or not at all."""
    path = _path(folder, record.prefix)
    new = path.with_suffix(".new")
    try:
        new.write_text(json.dumps(asdict(record)))
        new.replace(path)
    except OSError as error:
        raise _refused(folder, error) from None


def load(folder: Path, prefix: str) -> Record:
    """Read a lab's record.

    Raises:
        NotRunningError: there is no such lab.
        FailureError: the file is broken.
    """
    path = _path(folder, prefix)
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_BYTES)
    except FileNotFoundError:
        raise NotRunningError(f"no lab named {prefix} is up") from None
    except OSError as error:
        raise _refused(folder, error) from None
    if not text:  # reserved, and ended before anything was made
        return Record(prefix, [])
    try:
        return Record(**json.loads(text))
    except (ValueError, TypeError):
        raise FailureError(f"{path} is broken; see `ip netns list`, then remove it") from None


def forget(folder: Path, prefix: str) -> None:
    """Remove the record, and the folder when it was the last."""
    _path(folder, prefix).unlink(missing_ok=True)
    try:
        folder.rmdir()
    except OSError:
        return


def _path(folder: Path, prefix: str) -> Path:
    return folder / f"{prefix}.json"


def _refused(folder: Path, error: OSError) -> FailureError | PermissionRefusedError:
    words = f"{folder}: {os.strerror(error.errno or 0)}"
    if isinstance(error, PermissionError):
        return PermissionRefusedError(f"{words}; a lab needs root")
    return FailureError(words)
