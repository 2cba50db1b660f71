"""What a command line needs to talk to this machine's daemon: one function, `call`.

This is all of meshd that `meshd.cli` imports, so it loads neither asyncio nor ZeroMQ;
the errors that a call can end with come along. The daemon's side is `meshd.net.local_server`.

    client -> LocalRequest; LocalBody ..., an empty LocalBody    where the command takes a body
    server -> LocalReply;   LocalBody ..., an empty LocalBody    where the answer has a body
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from meshd.core.errors import (
    ExitCode,
    FailureError,
    MeshdError,
    NotConfiguredError,
    NotRunningError,
    PermissionRefusedError,
    RemoteProtocolError,
    UsageError,
)
from meshd.core.jobspec import MAX_JOB_FILE_BYTES
from meshd.core.messages import LocalBody, LocalReply, LocalRequest
from meshd.net.stream import frame, receive_message
from meshd.wire.kinds import SHAPES
from meshd.wire.limits import BLOCK_BYTES, MAX_ARGUMENTS_BYTES, MAX_NAME_BYTES
from meshd.wire.schema import Family

__all__ = [
    "MAX_JOB_FILE_BYTES",
    "PROMPT_TIMEOUT_S",
    "REPLY_TIMEOUT_S",
    "SOCKET_NAME",
    "ExitCode",
    "FailureError",
    "MeshdError",
    "NotConfiguredError",
    "NotRunningError",
    "PermissionRefusedError",
    "RemoteProtocolError",
    "UsageError",
    "call",
    "has_shape",
]

SOCKET_NAME = "meshd.sock"
REPLY_TIMEOUT_S = 120.0
"""A daemon that says nothing for so long is stopped or stuck. The slowest honest answer is to a
submit, whose data file is read and checked first."""

PROMPT_TIMEOUT_S = 10.0
"""For what the daemon answers from memory: a person waits for it, and thousands of times the usual
millisecond say that the daemon is stopped, or its machine overloaded."""

_NO_ANSWER = "the daemon does not answer; is it stopped or overloaded?"

_ERRORS: dict[int, type[MeshdError]] = {
    kind.exit_code: kind
    for kind in (
        FailureError,
        UsageError,
        PermissionRefusedError,
        NotConfiguredError,
        NotRunningError,
    )
}


def has_shape(kind: str, text: str) -> bool:
    """Whether text can be a "key", a "name" or a "host" of the wire's, as `proto/` defines them."""
    if kind == "name" and len(text) > MAX_NAME_BYTES:
        return False
    return SHAPES[kind].fullmatch(text) is not None


def call(
    path: Path,
    command: str,
    arguments: dict[str, Any],
    body: Iterable[bytes] | None = None,
    sink: Callable[[bytes], None] | None = None,
    timeout_s: float = REPLY_TIMEOUT_S,
) -> dict[str, Any]:
    """Send one command to the daemon that listens on `path`, and return its answer.

    Args:
        path: the daemon's socket.
        command: one of the commands in `proto/README.md`.
        arguments: its arguments, as JSON can hold them.
        body: pieces of the command's body, any sizes; None where it has none.
        sink: takes the pieces of the answer's body; None where it has none.
        timeout_s: how long the daemon may be silent, seconds.

    Raises:
        NotRunningError: nothing listens there.
        PermissionRefusedError: the socket is not ours.
        FailureError: the daemon broke off or is silent; or it answered so.
        MeshdError: what the daemon answered, as the class of its exit code.
    """
    text = json.dumps(arguments)
    if len(text) > MAX_ARGUMENTS_BYTES:
        raise UsageError(f"{command}: the arguments are {len(text)} bytes; too large to send")
    link = _connect(path, timeout_s)
    try:
        _send(link, LocalRequest(command, text), body)
        reply = receive_message(link, Family.LOCAL)
        if reply is None:
            raise FailureError("the daemon closed the link without an answer; see its log")
        if not isinstance(reply, LocalReply):
            raise FailureError(f"the daemon answered {command} with something else; restart it")
        if reply.code != ExitCode.OK:
            raise _ERRORS.get(reply.code, FailureError)(reply.message)
        if sink is not None:
            _drain(link, sink)
        answer = json.loads(reply.body)
    except TimeoutError:
        raise FailureError(f"{_NO_ANSWER} (waited {timeout_s:g} s for {command})") from None
    except RemoteProtocolError as error:
        raise FailureError(f"the daemon's answer cannot be read: {error}") from None
    except OSError as error:
        raise FailureError(f"the link to the daemon broke: {error.strerror}") from None
    finally:
        link.close()
    return answer if isinstance(answer, dict) else {}


def _connect(path: Path, timeout_s: float) -> socket.socket:
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    link.settimeout(timeout_s)
    try:
        link.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        link.close()
        raise NotRunningError(f"no daemon answers on {path}; start one: meshd run") from None
    except PermissionError:
        link.close()
        raise PermissionRefusedError(f"{path}: belongs to another user's daemon") from None
    except (BlockingIOError, TimeoutError):  # its backlog is full: it accepts nobody
        link.close()
        raise FailureError(_NO_ANSWER) from None
    except OSError as error:  # a path of more than 107 bytes
        link.close()
        raise FailureError(f"{path}: cannot connect: {error.strerror or error}") from None
    return link


def _send(link: socket.socket, request: LocalRequest, body: Iterable[bytes] | None) -> None:
    """The request and its body. A daemon that refuses answers before the body's end and closes;
    the broken pipe then is no error: the answer is waiting to be read."""
    pieces = iter(()) if body is None else iter(body)
    try:
        link.sendall(frame(request))
    except (BrokenPipeError, ConnectionResetError):
        return
    for piece in pieces:
        view = memoryview(piece)
        for start in range(0, len(view), BLOCK_BYTES):
            block = LocalBody(bytes(view[start : start + BLOCK_BYTES]))
            try:
                link.sendall(frame(block))
            except (BrokenPipeError, ConnectionResetError):
                return
    if body is not None:
        try:
            link.sendall(frame(LocalBody(b"")))
        except (BrokenPipeError, ConnectionResetError):
            return


def _drain(link: socket.socket, sink: Callable[[bytes], None]) -> None:
    while True:
        piece = receive_message(link, Family.LOCAL)
        if not isinstance(piece, LocalBody):
            raise FailureError("the daemon broke off within its answer; try again")
        if not piece.data:
            return
        sink(piece.data)
