"""The link between a daemon and the worker that it started: messages over a socket pair.

The worker inherits one end (`--fd N`); no name in the file system, no port, nobody else can
connect. The end of the stream is the death of the other side: a worker leaves at once, a daemon
takes it as an event.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import Any

from meshd.core.errors import NotRunningError
from meshd.net.stream import frame, receive_message
from meshd.net.stream_asyncio import read_message
from meshd.wire.schema import Family


class DaemonEnd:
    """The daemon's end (asyncio). Make one with `open`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls) -> tuple[DaemonEnd, socket.socket]:
        """A new link: this end, and the socket for the worker.

        Give the worker `theirs.fileno()` by `pass_fds`, then close `theirs` here: while a copy
        stays open in the daemon, the worker's death would not end the stream.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=ours)
        return cls(reader, writer), theirs

    async def send(self, message: Any) -> None:
        """Send one message; to a worker that is gone it does nothing, `receive` says so."""
        data = frame(message)
        with contextlib.suppress(ConnectionError):
            self._writer.write(data)
            await self._writer.drain()

    async def receive(self) -> Any | None:
        """The worker's next message; None when it is gone.

        Raises:
            RemoteProtocolError: what it sent is no message of ours; stop it.
        """
        return await read_message(self._reader, Family.WORKER)

    async def close(self) -> None:
        """Close this end: the worker exits."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


class WorkerEnd:
    """The worker's end (blocking). `send` may be called from any thread, `receive` from one."""

    def __init__(self, descriptor: int) -> None:
        """Take over an inherited file descriptor.

        Raises:
            NotRunningError: it is no socket: this is not a daemon's worker.
        """
        try:
            self._link = socket.socket(fileno=descriptor)
        except OSError as error:
            raise NotRunningError(
                f"descriptor {descriptor} is no link to a daemon ({error.strerror}); workers are"
                " started by their daemon"
            ) from None
        self._link.setblocking(True)
        self._lock = threading.Lock()

    def send(self, message: Any) -> None:
        """Send one message.

        Raises:
            NotRunningError: the daemon is gone.
        """
        data = frame(message)
        try:
            with self._lock:
                self._link.sendall(data)
        except OSError:
            raise NotRunningError("the daemon is gone") from None

    def receive(self) -> Any | None:
        """The daemon's next message, waited for; None when it is gone, or this end is closed.

        Raises:
            RemoteProtocolError: a bad frame.
        """
        try:
            return receive_message(self._link, Family.WORKER)
        except OSError:
            return None

    def finish(self) -> None:
        """Say nothing more: the daemon reads what was sent to its end, then closes.

        Who closes instead takes with it what the daemon has not read yet, should that be writing.
        """
        with contextlib.suppress(OSError):
            self._link.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close; a `receive` that waits in another thread ends with None."""
        with contextlib.suppress(OSError):
            self._link.shutdown(socket.SHUT_RDWR)
        self._link.close()
