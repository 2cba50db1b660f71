"""The local socket, both sides for real: the client in a thread, as a command line would be."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from meshd.core.errors import (
    FailureError,
    MeshdError,
    NotConfiguredError,
    NotRunningError,
    PermissionRefusedError,
    UsageError,
)
from meshd.core.messages import LocalBody, LocalReply, LocalRequest, WorkerReady
from meshd.net.keys import is_key
from meshd.net.local import call, has_shape
from meshd.net.local_server import LocalAnswer, LocalCommand, LocalServer
from meshd.net.roster import is_name
from meshd.net.stream import LENGTH_BYTES, frame, receive_message
from meshd.wire.limits import BLOCK_BYTES, MAX_CONTROL_FRAME_BYTES
from meshd.wire.schema import Family

ERRORS = {
    kind.__name__: kind
    for kind in (
        FailureError,
        UsageError,
        NotConfiguredError,
        NotRunningError,
        PermissionRefusedError,
    )
}


class Daemon:
    """Handlers of every kind."""

    def __init__(self) -> None:
        self.bodies: list[int] = []
        self.ends: list[str] = []
        self.ended = asyncio.Event()

    async def __call__(self, command: LocalCommand) -> LocalAnswer:
        return await getattr(self, command.command.replace("-", "_"))(command)  # type: ignore[no-any-return]

    async def echo(self, command: LocalCommand) -> LocalAnswer:
        return LocalAnswer(command.arguments)

    async def submit(self, command: LocalCommand) -> LocalAnswer:
        size = 0
        try:
            async for piece in command.body():
                self.bodies.append(len(piece))
                size += len(piece)
        except MeshdError as error:
            self.ends.append(str(error))
            self.ended.set()
            raise
        return LocalAnswer({"bytes": size})

    async def fetch(self, command: LocalCommand) -> LocalAnswer:
        async def stream() -> AsyncIterator[bytes]:
            for number in range(3):
                yield bytes([number]) * (BLOCK_BYTES + 1)
            yield b""
            if command.arguments.get("breaks"):
                raise FailureError("the disk went away")

        return LocalAnswer({"bytes": 3 * (BLOCK_BYTES + 1)}, stream())

    async def fail(self, command: LocalCommand) -> LocalAnswer:
        raise ERRORS[command.arguments["kind"]]("what is wrong; what to do")

    async def crash(self, command: LocalCommand) -> LocalAnswer:
        raise KeyError("secret detail")

    async def too_much(self, command: LocalCommand) -> LocalAnswer:
        return LocalAnswer({"x": "y" * (5 << 20)})

    async def hang(self, command: LocalCommand) -> LocalAnswer:
        await asyncio.Event().wait()
        raise AssertionError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    return folder / "meshd.sock"


@asynccontextmanager
async def serving(path: Path) -> AsyncIterator[tuple[LocalServer, Daemon]]:
    daemon = Daemon()
    server = LocalServer(path, daemon)
    await server.start()
    try:
        yield server, daemon
    finally:
        await server.close()


async def ask(path: Path, command: str, arguments: Any = None, *rest: Any, **more: Any) -> Any:
    return await asyncio.to_thread(call, path, command, arguments or {}, *rest, **more)


async def test_a_command_and_its_answer(path: Path) -> None:
    async with serving(path):
        arguments = {"name": "ada", "number": 5, "deep": [{"é": None}], "x": "y" * 100_000}
        assert await ask(path, "echo", arguments) == arguments


async def test_bodies_both_ways(path: Path) -> None:
    async with serving(path) as (_, daemon):
        pieces = [b"a" * (3 * BLOCK_BYTES + 7), b"", b"b"]
        assert await ask(path, "submit", {}, iter(pieces)) == {"bytes": 3 * BLOCK_BYTES + 8}
        assert max(daemon.bodies) == BLOCK_BYTES
        assert await ask(path, "submit", {}, []) == {"bytes": 0}
        got: list[bytes] = []
        answer = await ask(path, "fetch", {}, None, got.append)
        assert b"".join(got) == b"".join(bytes([n]) * (BLOCK_BYTES + 1) for n in range(3))
        assert answer == {"bytes": sum(map(len, got))}


@pytest.mark.parametrize("kind", ERRORS)
async def test_errors_keep_their_class(path: Path, kind: str) -> None:
    async with serving(path):
        with pytest.raises(ERRORS[kind]) as caught:
            await ask(path, "fail", {"kind": kind})
        assert type(caught.value) is ERRORS[kind]
        assert str(caught.value) == "what is wrong; what to do"


async def test_a_refusal_in_the_middle_of_a_body_arrives(path: Path) -> None:
    """The daemon need not read a body that it does not want."""
    async with serving(path):
        with pytest.raises(UsageError, match="what to do"):
            await ask(path, "fail", {"kind": "UsageError"}, [bytes(BLOCK_BYTES)] * 200)


async def test_a_caller_that_leaves_in_the_middle_is_an_error_of_its_command(path: Path) -> None:
    def broken() -> Any:
        yield bytes(BLOCK_BYTES)
        raise OSError("the file went away")

    async with serving(path) as (_, daemon):
        with pytest.raises(FailureError, match="the link to the daemon broke"):
            await ask(path, "submit", {}, broken())
        await daemon.ended.wait()
        assert daemon.ends == ["the command broke off before the end of its data"]
        assert await ask(path, "echo", {"still": "here"}) == {"still": "here"}


async def test_an_answer_that_breaks_off_is_no_success(path: Path) -> None:
    async with serving(path):
        got: list[bytes] = []
        with pytest.raises(FailureError, match="broke off within its answer"):
            await ask(path, "fetch", {"breaks": True}, None, got.append)
        assert sum(map(len, got)) == 3 * (BLOCK_BYTES + 1)


async def test_a_crash_of_a_handler_is_its_own(path: Path, net_log: Any) -> None:
    async with serving(path):
        with pytest.raises(FailureError, match=r"internal error \(KeyError\)") as caught:
            await ask(path, "crash")
        assert "secret" not in str(caught.value)
        with pytest.raises(FailureError, match="internal error"):
            await ask(path, "too-much")
        assert await ask(path, "echo") == {}


async def test_a_silent_daemon_is_not_waited_for_for_ever(path: Path) -> None:
    async with serving(path):
        with pytest.raises(FailureError, match=r"does not answer.*\(waited 0\.1 s for hang\)"):
            await ask(path, "hang", {}, timeout_s=0.1)


async def test_a_daemon_that_accepts_nobody_is_said_to_be_stopped(path: Path) -> None:
    """Linux fails connect(2) at once when a unix socket's backlog is full."""
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as links:
        listener.bind(str(path))
        listener.listen(0)
        first = links.enter_context(socket.socket(socket.AF_UNIX))
        first.connect(str(path))
        with pytest.raises(FailureError, match="does not answer; is it stopped"):
            await ask(path, "status", {}, timeout_s=0.1)


async def test_nothing_there_says_what_to_do(path: Path) -> None:
    with pytest.raises(NotRunningError, match="meshd run"):
        await ask(path, "status")
    async with serving(path):
        pass
    with pytest.raises(NotRunningError, match="meshd run"):
        await ask(path, "status")
    assert not path.exists(), "the socket went with its daemon"


async def test_modes(path: Path) -> None:
    old = os.umask(0)
    try:
        async with serving(path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(old)
    path.parent.chmod(0o750)
    with pytest.raises(NotConfiguredError, match="chmod 0700"):
        await LocalServer(path, Daemon()).start()


async def test_a_second_daemon_is_refused_and_the_first_lives(path: Path) -> None:
    async with serving(path):
        with pytest.raises(FailureError, match="already runs") as caught:
            await LocalServer(path, Daemon()).start()
        assert "\n" not in str(caught.value)
        assert await ask(path, "echo") == {}


async def test_the_socket_of_a_dead_daemon_is_replaced(path: Path) -> None:
    code = "import socket,sys; s=socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen()"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    assert path.is_socket()
    with pytest.raises(NotRunningError):
        await ask(path, "echo")
    async with serving(path):
        assert await ask(path, "echo") == {}


async def test_what_is_no_socket_is_left_alone(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(NotConfiguredError, match="not a socket"):
        await LocalServer(path, Daemon()).start()
    assert path.read_text() == "precious"


async def test_a_path_too_long_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir(mode=0o700)
    with pytest.raises(NotConfiguredError, match="shorter state folder"):
        await LocalServer(folder / "meshd.sock", Daemon()).start()
    with pytest.raises(FailureError, match="cannot connect"):
        await ask(folder / "meshd.sock", "status")


def raw(path: Path, data: bytes) -> Any:
    """Send bytes, return the reply, if one came."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(30)
        link.connect(str(path))
        with contextlib.suppress(BrokenPipeError):  # it may have been refused unread
            link.sendall(data)
            link.shutdown(socket.SHUT_WR)
        return receive_message(link, Family.LOCAL)


GOOD = frame(LocalRequest("echo", "{}"))
BAD: dict[str, tuple[bytes, str]] = {
    "length": ((MAX_CONTROL_FRAME_BYTES + 1).to_bytes(4, "big"), "oversize"),
    "four gigabytes": (b"\xff\xff\xff\xff", "oversize"),
    "http": (b"GET / HTTP/1.1\r\n\r\n", "oversize"),
    "cut": (GOOD[:-1], "malformed"),
    "cut length": (GOOD[:2], "malformed"),
    "empty": (bytes(LENGTH_BYTES), "not-meshd"),
    "version": (GOOD[:6] + b"\x09" + GOOD[7:], "version"),
    "body first": (frame(LocalBody(b"x")), "wrong-link"),
    "reply first": (frame(LocalReply(0, "", "{}")), "wrong-link"),
    "worker's": (frame(WorkerReady(1, 1)), "wrong-link"),
    "second request": (frame(LocalRequest("submit", "{}")) + GOOD, "wrong-link"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_frame_costs_its_connection_only(path: Path, name: str) -> None:
    data, code = BAD[name]
    async with serving(path) as (server, _):
        reply = await asyncio.to_thread(raw, path, data)
        assert reply.code == 1 and reply.message.startswith(f"{code}: ")
        assert server.refused == {code: 1}
        assert await ask(path, "echo", {"still": "here"}) == {"still": "here"}


@pytest.mark.parametrize("arguments", ["", "[]", "5", "{", '{"a": ' + "[" * 10_000])
async def test_arguments_must_be_an_object(path: Path, arguments: str) -> None:
    async with serving(path):
        reply = await asyncio.to_thread(raw, path, frame(LocalRequest("echo", arguments)))
        assert reply.code == 2 and "JSON object" in reply.message


async def test_a_caller_that_says_nothing_is_no_error(path: Path) -> None:
    async with serving(path) as (server, _):
        assert await asyncio.to_thread(raw, path, b"") is None
        assert await ask(path, "echo") == {}
        assert server.refused == {"gone": 1}


async def test_another_user_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folder and socket keep others out; should they fail, the kernel still names the caller."""
    async with serving(path) as (server, _):
        me = os.geteuid()
        monkeypatch.setattr("meshd.net.local_server.os.geteuid", lambda: me + 1)
        if me == 0:
            monkeypatch.setattr("meshd.net.local_server.ROOT", me + 2)
        reply = await asyncio.to_thread(raw, path, GOOD)
        assert reply.message == f"stranger: user {me} may not command this daemon"
        assert server.refused == {"stranger": 1}


async def test_an_answer_that_is_none_is_said(path: Path) -> None:
    async def odd(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4)
        writer.write(answers.pop())
        writer.close()

    answers = [
        b"",
        b"HTTP/1.1 400 Bad Request",
        frame(LocalBody(b"x")),
        frame(LocalReply(99, "a", "")),
    ]
    server = await asyncio.start_unix_server(odd, str(path))
    for _ in range(len(answers)):
        with pytest.raises(FailureError) as caught:
            await ask(path, "status")
        assert "\n" not in str(caught.value)
    server.close()


@pytest.mark.parametrize(
    "text", ["", "a", "a" * 63, "a" * 64, "-a", "é", "k" * 40, "k" * 41, "a b"]
)
def test_shapes_are_those_of_the_roster(text: str) -> None:
    assert has_shape("name", text) == is_name(text)
    assert has_shape("key", text) == is_key(text)


def test_the_client_loads_neither_zeromq_nor_asyncio() -> None:
    code = "import sys, meshd.net.local, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert not loaded & {"zmq", "zeroconf", "asyncio", "numpy", "torch"}
