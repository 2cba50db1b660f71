"""Which daemon a command talks to; nothing is sent before its folder is known to be ours alone."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Settings:
    """What the options before the command say."""

    state: Path
    explicit: bool = False
    """`--state` was typed: commands that we suggest must repeat it."""

    @property
    def program(self) -> str:
        """How a suggested command begins."""
        return f"meshd --state {shlex.quote(str(self.state))}" if self.explicit else "meshd"

    def ask(
        self,
        command: str,
        arguments: dict[str, Any] | None = None,
        body: Iterable[bytes] | None = None,
        sink: Callable[[bytes], None] | None = None,
    ) -> dict[str, Any]:
        """Send one command to the daemon and return its answer.

        Raises:
            NotRunningError: no daemon answers.
            NotConfiguredError: the folder is not ours alone.
            MeshdError: what the daemon answered.
        """
        from meshd.net.local import SOCKET_NAME, NotRunningError, call

        check_state_folder(self.state, self.program)
        try:
            return call(self.state / SOCKET_NAME, command, arguments or {}, body, sink)
        except NotRunningError:
            raise NotRunningError(
                f"no daemon runs with state folder {self.state}; start one: {self.program} run"
            ) from None


def default_state_folder(environ: Mapping[str, str]) -> Path:
    """`$XDG_STATE_HOME/meshd`, or `~/.local/state/meshd` (XDG Base Directory Specification: a
    relative path in the variable is to be ignored)."""
    base = environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local/state") / "meshd"


def check_state_folder(folder: Path, program: str) -> None:
    """Refuse a folder where somebody else could listen in the daemon's place.

    Raises:
        NotRunningError: it does not exist.
        NotConfiguredError: not a folder, not ours, or open to others.
    """
    from meshd.net.local import NotConfiguredError, NotRunningError

    try:
        found = folder.stat()
    except FileNotFoundError:
        raise NotRunningError(
            f"no daemon has run with state folder {folder}; start one: {program} run"
        ) from None
    except OSError as error:
        raise NotConfiguredError(f"state folder {folder}: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode):
        raise NotConfiguredError(f"state folder {folder} is not a folder; choose another: --state")
    if found.st_uid != os.geteuid():
        raise NotConfiguredError(
            f"state folder {folder} belongs to user {found.st_uid}, not to us;"
            " choose another: --state"
        )
    if found.st_mode & 0o077:
        raise NotConfiguredError(
            f"state folder {folder} has mode {stat.S_IMODE(found.st_mode):04o}, so that others can"
            f" reach its keys; close it: chmod 700 {shlex.quote(str(folder))}"
        )
