"""The demo's daemons: real processes with keys and folders of their own, always cleaned up."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from meshd.cli.daemon_process import DaemonOptions, daemon_environment
from meshd.cli.figures import printable
from meshd.cli.settings import Settings
from meshd.cli.status import ask_status

HOST = "127.0.0.1"
START_LIMIT_S = 30.0
FIND_LIMIT_S = 60.0
STOP_LIMIT_S = 5.0
POLL_S = 0.1
TAIL_LINES = 15


@dataclass(frozen=True)
class Desk:
    """One daemon of the demo."""

    name: str
    settings: Settings
    log: Path
    process: subprocess.Popen[bytes]

    def tail(self) -> list[str]:
        """The last lines of its log."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return [printable(line) for line in text.splitlines()[-TAIL_LINES:]]


class Fleet:
    """A context in which `count` daemons run; leaving it ends every one of them."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.names = [f"desk-{number}" for number in range(1, count + 1)]
        self.desks: list[Desk] = []

    def __enter__(self) -> Fleet:
        """Start the processes; `wait_until_ready` waits for them."""
        try:
            for name in self.names:
                self.desks.append(self._start(name))
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _start(self, name: str) -> Desk:
        """One daemon on a free port of this machine, one thread each, found by mDNS alone."""
        state, log = self.folder / name, self.folder / f"{name}.log"
        options = DaemonOptions(state, name=name, host=HOST, port=0, threads=1)
        with log.open("wb") as output:
            process = subprocess.Popen(
                options.arguments(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=daemon_environment(os.environ),
                start_new_session=True,  # a Ctrl-C in our terminal is for us: we stop them
            )
        return Desk(name, Settings(state), log, process)

    def stop(self) -> None:
        """End every daemon: politely, then for good."""
        for desk in self.desks:
            if desk.process.poll() is None:
                desk.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_LIMIT_S
        for desk in self.desks:
            try:
                desk.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                desk.process.kill()
                desk.process.wait()

    def wait_until_ready(self) -> list[dict[str, Any]]:
        """Wait until every daemon answers; returns their status objects.

        Raises:
            FailureError: one ended, or does not answer in time.
        """
        from meshd.net.local import MeshdError

        statuses: list[dict[str, Any]] = []

        def all_answer() -> str | None:
            statuses.clear()
            for desk in self.desks:
                try:
                    statuses.append(ask_status(desk.settings))
                except MeshdError as error:  # not yet; or never, which `_wait` sees
                    return f"{desk.name} does not answer: {error}"
            return None

        self._wait(all_answer, START_LIMIT_S)
        return statuses

    def exchange_keys(self) -> None:
        """Put everyone's key on everyone's roster, as `meshd key` and `meshd trust` do."""
        keys = {desk.name: desk.settings.ask("key")["key"] for desk in self.desks}
        for desk in self.desks:
            for name, key in keys.items():
                if name != desk.name:
                    desk.settings.ask("trust", {"name": name, "key": key})

    def wait_until_found(self) -> Iterator[tuple[str, list[str]]]:
        """Wait until everyone is linked with everyone; yields (name, whom it found where).

        Raises:
            FailureError: not within a minute, which says that mDNS does not work here.
        """
        for desk in self.desks:
            found: list[str] = []

            def sees_all(desk: Desk = desk, found: list[str] = found) -> str | None:
                others = [m for m in ask_status(desk.settings)["machines"] if m["state"] != "here"]
                found[:] = [
                    f"{m['name']} at {m['host']}:{m['port']}"
                    for m in others
                    if m["state"] == "alive"
                ]
                if len(found) == len(self.desks) - 1:
                    return None
                missing = [m["name"] for m in others if m["state"] != "alive"]
                return (
                    f"{desk.name} has not found {', '.join(missing)} by mDNS;"
                    " is multicast (UDP port 5353) allowed on this machine?"
                )

            self._wait(sees_all, FIND_LIMIT_S)
            yield desk.name, found

    def _wait(self, pending: Callable[[], str | None], limit_s: float) -> None:
        """Poll until nothing is pending.

        Raises:
            FailureError: with what is still pending after `limit_s`, or which daemon ended.
        """
        from meshd.net.local import FailureError

        deadline = time.monotonic() + limit_s
        while reason := pending():
            for desk in self.desks:
                if desk.process.poll() is not None:
                    raise FailureError(
                        f"{desk.name}'s daemon ended with status {desk.process.returncode}"
                    )
            if time.monotonic() > deadline:
                raise FailureError(f"{reason} (waited {limit_s:.0f} s)")
            time.sleep(POLL_S)

    def suspects(self, message: str) -> list[Desk]:
        """Whose log explains a failure: those that ended, else those it names, else the first."""
        ended = [desk for desk in self.desks if desk.process.poll() is not None]
        named = [desk for desk in self.desks if desk.name in message]
        return ended or named or self.desks[:1]
