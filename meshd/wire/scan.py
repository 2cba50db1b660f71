"""Walks a msgpack value without building it: the size, depth and count checks come before memory.

msgpack allocates what a header declares. An array header of three bytes may declare 65,535
elements, and a thousand of them nested ask for half a gigabyte before the first is missed. So
every frame is walked first: declared sizes must fit into the bytes that are there, containers nest
at most MAX_DEPTH deep, and there are at most MAX_TOKENS values. What passes costs memory in
proportion to its own bytes.

Format: the msgpack specification, section "Formats". Extension types are refused: no message has
one, and type -1 would make the library build dates.
"""

from __future__ import annotations

from meshd.core.errors import RemoteProtocolError
from meshd.wire.limits import MAX_DEPTH, MAX_TOKENS

# First byte -> bytes that follow a scalar of fixed size.
_FIXED = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8}
_FIXED |= {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
# First byte -> width of the length that follows: bin 8/16/32, str 8/16/32.
_SIZED = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
# First byte -> (width of the count that follows, values per item): array 16/32, map 16/32.
_COUNTED = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}


def scan(data: memoryview) -> None:
    """Check that `data` is exactly one msgpack value of bounded depth and count.

    Raises:
        RemoteProtocolError: `malformed` (truncated, trailing bytes, not msgpack, an extension),
            `too-deep`, or `oversize` (too many values).
    """
    end = len(data)
    position = 0
    tokens = 0
    open_values: list[int] = []  # values still due in each open container, outermost first
    while True:
        if position >= end:
            raise RemoteProtocolError("malformed", "the frame ends within a value")
        tokens += 1
        if tokens > MAX_TOKENS:
            raise RemoteProtocolError("oversize", f"more than {MAX_TOKENS} values in one frame")
        position, due = _token(data, position, end)
        if due:
            if len(open_values) == MAX_DEPTH:
                raise RemoteProtocolError("too-deep", f"nested deeper than {MAX_DEPTH} levels")
            open_values.append(due)
            continue
        while open_values:
            open_values[-1] -= 1
            if open_values[-1]:
                break
            open_values.pop()
        if not open_values:
            break
    if position != end:
        raise RemoteProtocolError("malformed", f"{end - position} trailing bytes after the message")


def _token(data: memoryview, position: int, end: int) -> tuple[int, int]:
    """Skip one scalar, or one container's header.

    Returns:
        Where the next token begins, and how many values the container holds (0 for a scalar).
    """
    first = data[position]
    position += 1
    due = 0
    if first <= 0x7F or first >= 0xE0:  # positive and negative fixint
        return position, 0
    if first <= 0x8F:  # fixmap
        due = 2 * (first & 0x0F)
    elif first <= 0x9F:  # fixarray
        due = first & 0x0F
    elif first <= 0xBF:  # fixstr
        position += first & 0x1F
    elif first in _FIXED:
        position += _FIXED[first]
    elif first in _SIZED:
        width = _SIZED[first]
        position += width + int.from_bytes(data[position : position + width], "big")
    elif first in _COUNTED:
        width, values = _COUNTED[first]
        due = values * int.from_bytes(data[position : position + width], "big")
        position += width
    else:
        raise RemoteProtocolError("malformed", f"byte 0x{first:02x} begins no value of a message")
    if position > end or due > end - position:
        raise RemoteProtocolError("malformed", "a length is larger than the frame")
    return position, due
