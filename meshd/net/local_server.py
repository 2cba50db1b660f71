"""The daemon's side of the local socket: commands in, answers out, one connection a command.

Who may connect is decided three times: the folder is 0700, the socket 0600, and the kernel names
the caller's user (SO_PEERCRED, unix(7)). A bad frame, a caller that leaves in the middle, or a
handler that fails costs that one connection and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import stat
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshd.core.errors import (
    ExitCode,
    FailureError,
    LocalProtocolError,
    MeshdError,
    NotConfiguredError,
    RemoteProtocolError,
    UsageError,
)
from meshd.core.messages import LocalBody, LocalReply, LocalRequest
from meshd.net.stream import frame
from meshd.net.stream_asyncio import read_message
from meshd.wire.limits import BLOCK_BYTES
from meshd.wire.schema import Family

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 64
"""A person and a few scripts that watch. More is a mistake somewhere, and each holds buffers."""

SILENCE_S = 60.0
"""A caller that sends or takes nothing for so long is gone or stopped."""

ROOT = 0
"""May do anything anyway."""

MAX_SOCKET_PATH_BYTES = 107
"""sun_path of unix(7), less its NUL."""


class LocalCommand:
    """One command as its handler sees it."""

    def __init__(self, command: str, arguments: dict[str, Any], reader: asyncio.StreamReader):
        self.command = command
        self.arguments = arguments
        self._reader = reader

    def gone(self) -> bool:
        """Whether the caller has closed its side: nobody waits for the answer any more. To be
        asked once the body was read; a caller that waits closes nothing before the answer."""
        return self._reader.at_eof()

    async def body(self) -> AsyncIterator[bytes]:
        """The pieces of the command's body; to be read at most once, before answering.

        Raises:
            FailureError: the caller left before the end.
        """
        while True:
            async with asyncio.timeout(SILENCE_S):
                message = await read_message(self._reader, Family.LOCAL)
            if message is None:
                raise FailureError("the command broke off before the end of its data")
            if not isinstance(message, LocalBody):
                raise RemoteProtocolError("wrong-link", "a body holds only LocalBody")
            if not message.data:
                return
            yield message.data


@dataclass(frozen=True)
class LocalAnswer:
    """A handler's answer: an object that JSON can hold, and a body where the command has one."""

    body: dict[str, Any]
    stream: AsyncIterator[bytes] | None = None


Handler = Callable[[LocalCommand], Awaitable[LocalAnswer]]


class LocalServer:
    """Listens on a unix socket and runs `handler` for each command.

    A MeshdError of the handler is the answer; any other exception is logged and answered as an
    internal error.
    """

    def __init__(self, path: Path, handler: Handler) -> None:
        self.path = path
        self.refused: Counter[str] = Counter()
        """Connections that ended with a protocol error, by code."""
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._inode = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Listen; a socket that a dead daemon left is replaced.

        Raises:
            FailureError: another daemon answers there, or the path cannot be bound.
            NotConfiguredError: the folder is not ours alone, or something else has that name.
        """
        self._check_folder()
        self._clear_stale()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(self.path))
            # Before listen(2), so nobody can connect while the mode is still the umask's.
            os.chmod(self.path, 0o600)
            self._inode = os.stat(self.path).st_ino
            self._server = await asyncio.start_unix_server(self._serve, sock=listener)
        except OSError as error:
            listener.close()
            raise FailureError(f"{self.path}: cannot listen: {error.strerror or error}") from None

    def _check_folder(self) -> None:
        if len(os.fsencode(self.path)) > MAX_SOCKET_PATH_BYTES:
            raise NotConfiguredError(
                f"{self.path}: longer than the {MAX_SOCKET_PATH_BYTES} bytes that a socket's path"
                " may have; choose a shorter state folder with --state"
            )
        folder = self.path.parent
        try:
            status = os.stat(folder)
        except OSError as error:
            raise NotConfiguredError(f"{folder}: {error.strerror}") from None
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
            raise NotConfiguredError(f"{folder}: must be ours alone; run: chmod 0700 {folder}")

    def _clear_stale(self) -> None:
        try:
            if not stat.S_ISSOCK(os.lstat(self.path).st_mode):
                raise NotConfiguredError(f"{self.path}: not a socket; remove it")
        except FileNotFoundError:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(self.path))
            except ConnectionRefusedError:
                os.unlink(self.path)  # bound once, nobody listens: its daemon is dead
                return
            except OSError as error:
                raise FailureError(f"{self.path}: {error.strerror or error}") from None
        raise FailureError(
            f"a daemon already runs with state folder {self.path.parent}; stop it,"
            " or choose another folder with --state"
        )

    async def close(self) -> None:
        """Stop listening, end what runs, remove the socket if it is still ours."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(OSError):
            if os.lstat(self.path).st_ino == self._inode:
                os.unlink(self.path)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine that runs has a task
        self._tasks.add(task)
        try:
            async with contextlib.aclosing(_Connection(reader, writer)) as connection:
                await self._answer(connection)
        except asyncio.CancelledError:
            pass  # close() wants us gone; the streams' own callback would report a cancelled task
        finally:
            self._tasks.discard(task)

    async def _answer(self, connection: _Connection) -> None:
        """One command, whatever goes wrong with it."""
        try:
            answer = await self._run(connection)
            reply = LocalReply(ExitCode.OK, "", json.dumps(answer.body))
            await connection.send(reply)
            if answer.stream is not None:
                await connection.send_body(answer.stream)
        except RemoteProtocolError as error:
            self.refused[error.code] += 1
            await connection.refuse(ExitCode.FAILURE, f"{error.code}: {error}")
        except (ConnectionError, TimeoutError):
            self.refused["gone"] += 1
        except Exception as error:
            await connection.refuse(*_answer_to(error))

    async def _run(self, connection: _Connection) -> LocalAnswer:
        connection.check_caller()
        if len(self._tasks) > MAX_CONNECTIONS:
            raise FailureError(f"more than {MAX_CONNECTIONS} commands at once; try again later")
        async with asyncio.timeout(SILENCE_S):
            request = await read_message(connection.reader, Family.LOCAL)
        if request is None:
            raise ConnectionResetError
        if not isinstance(request, LocalRequest):
            raise RemoteProtocolError("wrong-link", "a connection begins with LocalRequest")
        try:
            arguments = json.loads(request.arguments)
        except (ValueError, RecursionError):
            arguments = None
        if not isinstance(arguments, dict):
            raise UsageError(f"{request.command}: the arguments must be a JSON object")
        return await self._handler(LocalCommand(request.command, arguments, connection.reader))


def _answer_to(error: Exception) -> tuple[ExitCode, str]:
    """What the caller is told: a MeshdError as it is, a defect of ours without its details."""
    if isinstance(error, MeshdError) and not isinstance(error, LocalProtocolError):
        return error.exit_code, str(error)
    log.error("a local command failed", exc_info=error)
    return ExitCode.FAILURE, f"internal error ({type(error).__name__}); see the daemon's log"


class _Connection:
    """One caller's streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._writer = writer
        self._replied = False

    def check_caller(self) -> None:
        """Refuse other users, should folder and socket modes ever let them come so far."""
        link = self._writer.get_extra_info("socket")
        raw = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        _, user, _ = struct.unpack("3i", raw)
        if user not in (os.geteuid(), ROOT):
            raise RemoteProtocolError("stranger", f"user {user} may not command this daemon")

    async def send(self, message: LocalReply | LocalBody) -> None:
        """Write and wait until the caller takes it."""
        data = frame(message)
        self._replied = True
        self._writer.write(data)
        async with asyncio.timeout(SILENCE_S):
            await self._writer.drain()

    async def send_body(self, stream: AsyncIterator[bytes]) -> None:
        """An answer's body, cut to blocks, and its end."""
        async for piece in stream:
            for start in range(0, len(piece), BLOCK_BYTES):
                await self.send(LocalBody(piece[start : start + BLOCK_BYTES]))
        await self.send(LocalBody(b""))

    async def refuse(self, code: ExitCode, message: str) -> None:
        """Answer with an error; after the reply has gone out, closing the link is the answer."""
        if self._replied:
            return
        with contextlib.suppress(ConnectionError, TimeoutError, LocalProtocolError):
            await self.send(LocalReply(code, message, "{}"))

    async def aclose(self) -> None:
        """Close; a caller that is gone already is no error."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()
