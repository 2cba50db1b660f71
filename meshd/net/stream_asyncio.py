"""Reads the frames of `meshd.net.stream` from an asyncio stream."""

from __future__ import annotations

import asyncio
from typing import Any

from meshd.net.stream import LENGTH_BYTES, body_length, broke_off
from meshd.wire.codec import decode
from meshd.wire.schema import Family


async def read_message(reader: asyncio.StreamReader, family: Family) -> Any | None:
    """The next message, or None at the end.

    Raises:
        RemoteProtocolError: a bad frame, or the end within one; the stream is of no more use.
    """
    try:
        head = await reader.readexactly(LENGTH_BYTES)
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise broke_off() from None
        return None
    except ConnectionError:
        return None
    try:
        data = await reader.readexactly(body_length(head))
    except (asyncio.IncompleteReadError, ConnectionError):
        raise broke_off() from None
    return decode(data, family)
