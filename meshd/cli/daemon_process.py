"""How a daemon's process is started: the same arguments by `meshd run` and by the demo."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DaemonOptions:
    """The options of `python -m meshd.daemon`; None leaves the daemon's own default."""

    state: Path
    name: str | None = None
    host: str | None = None
    port: int | None = None
    threads: int | None = None
    peers: Sequence[str] = ()
    """Each `KEY@HOST:PORT`."""
    mdns: bool = True
    cache_bytes: int | None = None

    def arguments(self) -> list[str]:
        """The program and its arguments.

        Written `--peer=VALUE`, never `--peer VALUE`: a key may begin with a dash.
        """
        arguments = [sys.executable, "-m", "meshd.daemon", f"--state={self.state.absolute()}"]
        for option in ("name", "host", "port", "threads", "cache_bytes"):
            value = getattr(self, option)
            if value is not None:
                arguments.append(f"--{option.replace('_', '-')}={value}")
        arguments += [f"--peer={peer}" for peer in self.peers]
        if not self.mdns:
            arguments.append("--no-mdns")
        return arguments


def daemon_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for a daemon and its workers: `python -m` must never take a `meshd` that
    happens to lie in the folder where the user stands (PYTHONSAFEPATH, Python 3.11)."""
    return {**environ, "PYTHONSAFEPATH": "1"}
