"""Who is trusted: `roster.toml`, a table of machine names and CURVE public keys. Default deny.

    [machines]
    "ada" = "z85 key of 40 characters"

A name has one key and a key one name. A roster that is broken, unreadable or writable by others
trusts nobody until it is repaired: failing closed stops work and says why, failing open would
keep a machine in that its owner has just removed.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

from meshd.core.errors import MeshdError, NotConfiguredError, UsageError
from meshd.core.types import MachineKey
from meshd.net.files import read_trusted, write_atomically
from meshd.net.keys import is_key
from meshd.wire.kinds import SHAPES
from meshd.wire.limits import MAX_NAME_BYTES

ROSTER_FILE = "roster.toml"
ROSTER_MODE = 0o600
_WRITABLE_BY_OTHERS = 0o022


def read_roster(path: Path) -> dict[MachineKey, str]:
    """Names by key; a missing file is an empty roster.

    Raises:
        NotConfiguredError: broken; the line says where.
        PermissionRefusedError: others may write it, or it is not ours.
    """
    try:
        text = read_trusted(path, _WRITABLE_BY_OTHERS)
    except FileNotFoundError:
        return {}
    return _parse(text, path)


def _parse(text: str, path: Path) -> dict[MachineKey, str]:
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise NotConfiguredError(f"{path}: not valid TOML: {error}") from None
    unknown = sorted(table.keys() - {"machines"})
    if unknown:
        raise NotConfiguredError(f"{path}: unknown key {unknown[0]!r}; only [machines] is known")
    machines = table.get("machines", {})
    if not isinstance(machines, dict):
        raise NotConfiguredError(f"{path}: machines must be a table, written [machines]")
    names: dict[MachineKey, str] = {}
    for name, key in machines.items():
        if not is_name(name):
            raise NotConfiguredError(f"{path}: {name!r}: {NAME_RULE}")
        if not isinstance(key, str) or not is_key(key):
            raise NotConfiguredError(f"{path}: {name}: the key must be z85 text of 40 characters")
        if key in names:
            raise NotConfiguredError(f"{path}: {name} has the same key as {names[MachineKey(key)]}")
        names[MachineKey(key)] = name
    return names


NAME_RULE = "a machine's name is 1 to 63 letters, digits, dots, dashes or underscores"


def is_name(text: str) -> bool:
    """Whether text can be a machine's name."""
    return len(text) <= MAX_NAME_BYTES and re.fullmatch(SHAPES["name"], text) is not None


def add_to_roster(path: Path, name: str, key: str) -> None:
    """Trust one more machine; comments in the file stay. Trusting it again changes nothing.

    Raises:
        UsageError: not a name or a key, or the other half belongs to another entry.
        NotConfiguredError, PermissionRefusedError: as for `read_roster`; nothing is changed.
        FailureError: the file cannot be written.
    """
    if not is_name(name):
        raise UsageError(f"{name!r}: {NAME_RULE}")
    if not is_key(key):
        raise UsageError(f"{name}: the key must be the 40 characters that `meshd key` prints there")
    names = read_roster(path)
    if names.get(MachineKey(key)) == name:
        return
    if MachineKey(key) in names:
        raise UsageError(f"this key is on the roster already, as {names[MachineKey(key)]}")
    if name in names.values():
        raise UsageError(f"{name} is on the roster with another key; edit {path} to replace it")
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if text and not text.endswith("\n"):
        text += "\n"
    if "machines" not in tomllib.loads(text):
        text += "[machines]\n"
    text += f'"{name}" = "{key}"\n'  # the z85 alphabet has neither quotes nor backslashes
    _parse(text, path)
    write_atomically(path, text.encode(), ROSTER_MODE)


class RosterFile:
    """The roster as it is on disk now: read again whenever the file changes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.trouble = ""
        """Why nobody is trusted, one line; empty while the file is readable."""
        self.version = 0
        """Grows whenever the file is read again."""
        self._stamp: tuple[int, ...] | None = None
        self._names: dict[MachineKey, str] = {}

    def name_of(self, key: str) -> str | None:
        """The machine's name, or None for a stranger."""
        return self._current().get(MachineKey(key))

    def names(self) -> dict[MachineKey, str]:
        """All names by key, as a copy."""
        return dict(self._current())

    def _current(self) -> dict[MachineKey, str]:
        """One stat(2) per call, about a microsecond. The inode is in the stamp because an atomic
        replacement may keep size and, on coarse file clocks, time. The stamp is taken before the
        read: a change in between is seen by the next call."""
        stamp = self._look()
        if stamp != self._stamp:
            try:
                self._names = read_roster(self.path)
                self.trouble = ""
            except MeshdError as error:
                self._names = {}
                what = str(error).removeprefix(f"{self.path}: ")
                self.trouble = f"{self.path.name} cannot be used: {what}; nobody is trusted"
            self._stamp = stamp
            self.version += 1
        return self._names

    def _look(self) -> tuple[int, ...]:
        try:
            status = os.stat(self.path)
        except OSError as error:
            return (error.errno or 0,)
        return (status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode)
