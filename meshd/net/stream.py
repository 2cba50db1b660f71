"""Frames on a byte stream: length u32 big-endian, then one message of `meshd.wire.codec`.

Used on sockets that never leave the machine: the command line's and the worker's. Reading ends in
None where the other side closed between frames, and in an error where it broke off within one. This
file is the blocking side; `meshd.net.stream_asyncio` reads the same frames in a daemon.
"""

from __future__ import annotations

import socket
from typing import Any

from meshd.core.errors import RemoteProtocolError
from meshd.wire.codec import decode, encode
from meshd.wire.limits import MAX_CONTROL_FRAME_BYTES
from meshd.wire.schema import Family

LENGTH_BYTES = 4


def frame(message: Any) -> bytes:
    """A message with its length before it.

    Raises:
        LocalProtocolError: as for `encode`.
    """
    data = encode(message)
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


def body_length(head: bytes | bytearray) -> int:
    """What a frame's first LENGTH_BYTES announce.

    Raises:
        RemoteProtocolError: more than any frame may have.
    """
    length = int.from_bytes(head, "big")
    if length > MAX_CONTROL_FRAME_BYTES:
        raise RemoteProtocolError("oversize", f"a frame of {length} bytes")
    return length


def broke_off() -> RemoteProtocolError:
    """The error for a stream that ends within a frame."""
    return RemoteProtocolError("malformed", "the other side broke off within a frame")


def receive_message(link: socket.socket, family: Family) -> Any | None:
    """The next message from a blocking socket, or None at the end.

    Raises:
        RemoteProtocolError: a bad frame, or the end within one; the stream is of no more use.
        TimeoutError: the socket has a time limit, and nothing came within it.
    """
    head = _receive_exactly(link, LENGTH_BYTES)
    if not head:
        return None
    if len(head) < LENGTH_BYTES:
        raise broke_off()
    length = body_length(head)
    data = _receive_exactly(link, length)
    if len(data) < length:
        raise broke_off()
    return decode(memoryview(data), family)


def _receive_exactly(link: socket.socket, size: int) -> bytearray:
    """`size` bytes, or fewer where the stream ends."""
    data = bytearray(size)
    view = memoryview(data)
    have = 0
    while have < size:
        try:
            count = link.recv_into(view[have:])
        except ConnectionError:
            count = 0
        if count == 0:
            view.release()
            del data[have:]
            break
        have += count
    return data
