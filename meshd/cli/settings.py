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
        patient: bool = False,
    ) -> dict[str, Any]:
        """Send one command to the daemon and return its answer.

        Args:
            command: its name.
            arguments: as JSON can hold them.
            body: the command's body, where it has one.
            sink: takes the answer's body, where it has one.
            patient: the daemon may be silent for minutes: it reads a whole file first, or nobody
                sits there and waits.

        Raises:
            NotRunningError: no daemon answers.
            NotConfiguredError: the folder is not ours alone.
            FailureError: the daemon is silent.
            MeshdError: what the daemon answered.
        """
        from meshd.net import local
        from meshd.net.local import NotRunningError

        check_state_folder(self.state, self.program)
        limit_s = local.REPLY_TIMEOUT_S if patient else local.PROMPT_TIMEOUT_S
        path = self.state / local.SOCKET_NAME
        try:
            return local.call(path, command, arguments or {}, body, sink, limit_s)
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
