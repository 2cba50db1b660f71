"""A real local socket, served by a thread, for the command line to talk to."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from meshd.cli.main import run
from meshd.core.errors import MeshdError
from meshd.net.local import SOCKET_NAME
from meshd.net.local_server import LocalAnswer, LocalCommand, LocalServer

Answer = dict[str, Any] | MeshdError | Callable[[dict[str, Any]], dict[str, Any]]


class Daemon:
    """The daemon's end of the socket: answers from a table, and remembers what it was asked."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.answers: dict[str, Answer] = {}
        self.stream: list[bytes] = []
        """The body of the answer to `fetch`."""
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.received = b""
        """The body of the last `submit`."""

    async def handle(self, command: LocalCommand) -> LocalAnswer:
        self.asked.append((command.command, command.arguments))
        answer = self.answers[command.command]
        if isinstance(answer, MeshdError):
            raise answer
        if command.command == "submit":
            self.received = b"".join([piece async for piece in command.body()])
        body = answer(command.arguments) if callable(answer) else answer
        return LocalAnswer(body, self._pieces() if command.command == "fetch" else None)

    async def _pieces(self) -> AsyncIterator[bytes]:
        for piece in self.stream:
            if piece == b"break":
                raise RuntimeError("the disk is gone")
            yield piece


@pytest.fixture
def state() -> Iterator[Path]:
    """A state folder, 0700, with a path short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="meshd-t-") as folder:
        yield Path(folder)


@pytest.fixture
def daemon(state: Path) -> Iterator[Daemon]:
    """A served socket in `state`; it is gone after the test."""
    daemon = Daemon(state)
    ready, loop = threading.Event(), asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        server = LocalServer(state / SOCKET_NAME, daemon.handle)
        await server.start()
        ready.set()
        await stop.wait()
        await server.close()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(10)
        yield daemon
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


@pytest.fixture
def meshd(state: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs one command line against `state`, as the program does; returns its exit code."""
    monkeypatch.setenv("MESHD_STATE", str(state))
    return lambda *arguments: run(list(map(str, arguments)))


def make_job(**changes: Any) -> dict[str, Any]:
    """A job's entry of the status object, in the middle of its training."""
    members = [
        {"name": f"desk-{i}", "key": "k" * 40, "alive": True, "step": 420, "bytes_sent": 1_200_000}
        for i in (1, 2, 3)
    ]
    job = {
        "job": "3f2a91c0" * 4,
        "name": "digits",
        "state": "training",
        "why": "trains on desk-1, desk-2 and desk-3",
        "generation": 1,
        "members": members,
        "step": 420,
        "steps": 900,
        "epoch": 14,
        "epochs": 30,
        "loss": 0.1234,
        "accuracy": 0.961,
        "seconds": 12.2,
        "checkpoint_step": 400,
        "submitted_at": 1.0,
        "exchange": "votes",
        "float32_ring_bytes": 25_400_000,
        "results": [],
    }
    return {**job, **changes}


def make_result(name: str, weight_hash: str = "ab" * 32, sent: int = 1_250_000) -> dict[str, Any]:
    """One member's result of a finished job."""
    return {
        "name": name,
        "key": "k" * 40,
        "accuracy": 0.97,
        "weight_hash": weight_hash,
        "bytes_sent": sent,
    }


def make_machine(name: str, state: str = "alive", **changes: Any) -> dict[str, Any]:
    """One line of the roster."""
    machine = {
        "name": name,
        "key": "k" * 40,
        "state": state,
        "age_s": 1.0,
        "host": "127.0.0.1",
        "port": 40021,
        "available": True,
        "why": "no job runs here",
        "version": "0.1.0",
    }
    return {**machine, **changes}


def make_status(jobs: list[dict[str, Any]], machines: list[dict[str, Any]]) -> dict[str, Any]:
    """A whole status object, version 1."""
    machine = {
        "name": "desk-1",
        "key": "k" * 40,
        "host": "127.0.0.1",
        "port": 41233,
        "version": "0.1.0",
        "pid": 1234,
        "uptime_s": 125.0,
        "rss_bytes": 38_200_000,
        "available": False,
        "why": "trains digits",
        "bytes_sent": 1_200_000,
    }
    return {"status_version": 1, "machine": machine, "machines": machines, "jobs": jobs}


@pytest.fixture
def make() -> Any:
    """The builders above, for files that cannot import this one."""

    class Make:
        job = staticmethod(make_job)
        result = staticmethod(make_result)
        machine = staticmethod(make_machine)
        status = staticmethod(make_status)

    return Make
