"""Real daemon processes with folders of their own, and parts of a daemon to try alone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from meshd.net.local import SOCKET_NAME, call

LIMIT_S = 30.0  # for what takes a second on an idle machine


class Daemon:
    """`python -m meshd.daemon` on a free port of loopback; its lines are events to wait for."""

    def __init__(self, state: Path, name: str, *options: str) -> None:
        self.state = state
        self.name = name
        self.lines: list[str] = []
        self._heard: queue.Queue[str | None] = queue.Queue()
        command = [sys.executable, "-m", "meshd.daemon", f"--state={state}", f"--name={name}"]
        command += ["--host=127.0.0.1", "--no-mdns", "--threads=1"]
        if not any(option.startswith("--port") for option in options):
            command.append("--port=0")
        self.process = subprocess.Popen(
            [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._heard.put(line.rstrip())
        self._heard.put(None)

    def wait_for(self, words: str) -> str:
        """The next line that has these words; fails when the process ends or takes too long."""
        while True:
            try:
                line = self._heard.get(timeout=LIMIT_S)
            except queue.Empty:
                raise AssertionError(f"{self.name} never said {words!r}: {self.lines}") from None
            if line is None:
                raise AssertionError(f"{self.name} ended before {words!r}: {self.lines}")
            self.lines.append(line)
            if words in line:
                return line

    def ready(self) -> Daemon:
        """Wait until it listens."""
        self.wait_for("ready: ")
        return self

    def ended(self) -> tuple[int, list[str]]:
        """Wait for its end; exit code and all lines."""
        code = self.process.wait(LIMIT_S)
        while (line := self._heard.get(timeout=LIMIT_S)) is not None:
            self.lines.append(line)
        return code, self.lines

    def call(self, command: str, **arguments: Any) -> dict[str, Any]:
        """A local command without a body."""
        return call(self.state / SOCKET_NAME, command, arguments, timeout_s=LIMIT_S)

    def submit(self, spec: str, data: bytes, announced: int | None = None) -> dict[str, Any]:
        """`meshd submit`."""
        size = len(data) if announced is None else announced
        arguments = {"spec": spec, "data_bytes": size}
        return call(self.state / SOCKET_NAME, "submit", arguments, [data], timeout_s=90.0)

    @property
    def key(self) -> str:
        """Its public key."""
        return str(self.call("key")["key"])

    @property
    def address(self) -> str:
        """What another one's --peer takes."""
        machine = self.call("status")["machine"]
        return f"{machine['key']}@{machine['host']}:{machine['port']}"


@pytest.fixture
def start_daemon(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Start daemons: `start_daemon("desk-1", "--cache-bytes=1048576")`; all end with the test."""
    started: list[Daemon] = []

    def start(name: str = "desk-1", *options: str, state: Path | None = None) -> Daemon:
        daemon = Daemon(state or tmp_path / name, name, *options)
        started.append(daemon)
        return daemon

    yield start
    for daemon in started:
        if daemon.process.poll() is None:
            daemon.process.send_signal(signal.SIGTERM)
    for daemon in started:
        with contextlib.suppress(subprocess.TimeoutExpired):
            daemon.process.wait(10)
        daemon.process.kill()
        daemon.process.wait()


@pytest.fixture
def run_async() -> Callable[[Any], Any]:
    """Run a coroutine to its end, within LIMIT_S."""

    def run(work: Any) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(LIMIT_S):
                return await work

        return asyncio.run(bounded())

    return run


@pytest.fixture
def as_root() -> None:
    """Only root can give files away."""
    if os.geteuid() != 0:
        pytest.skip("needs root: gives a folder to another user")
