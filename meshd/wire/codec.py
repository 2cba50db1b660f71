"""Messages <-> frames. Every frame: magic "mD", version u8, number u16, then a msgpack map.

    | 6d 44 | vv | nn nn | map: field name -> value, all fields, no others |

The order of the checks is the order of trust: size, magic, version, number, link, structure
(`meshd.wire.scan`, before anything is built), then every field against `meshd.wire.schema`. A
frame that fails any of them raises RemoteProtocolError with one of the codes in
`proto/README.md`; no frame raises anything else.
"""

from __future__ import annotations

from typing import Any

import msgpack

from meshd.core.errors import LocalProtocolError, RemoteProtocolError
from meshd.wire.kinds import Violation
from meshd.wire.limits import HEADER_BYTES, MAX_CONTROL_FRAME_BYTES, PROTOCOL
from meshd.wire.scan import scan
from meshd.wire.schema import NUMBERS, Family, record

MAGIC = b"mD"

_records = {number: record(cls) for number, cls in NUMBERS.items()}
_numbers = {cls: number for number, cls in NUMBERS.items()}
_limits = {
    number: min(HEADER_BYTES + kind.largest_bytes, MAX_CONTROL_FRAME_BYTES)
    for number, kind in _records.items()
}


def frame_limit(number: int) -> int:
    """Bytes of the largest valid frame of a message, by number; it follows from its fields."""
    return _limits[number]


def encode(message: Any) -> bytes:
    """A message as one frame.

    Raises:
        LocalProtocolError: not a message, or a field breaks its limits: a defect of ours.
    """
    number = _numbers.get(type(message))
    if number is None:
        raise LocalProtocolError(f"{type(message).__name__} is not a message")
    try:
        fields = _records[number].dump(message, type(message).__name__)
    except Violation as error:
        raise LocalProtocolError(str(error)) from None
    packed: bytes = msgpack.packb(fields, use_bin_type=True)
    if HEADER_BYTES + len(packed) > _limits[number]:
        raise LocalProtocolError(f"{type(message).__name__} of {len(packed)} bytes is too large")
    return MAGIC + bytes((PROTOCOL,)) + number.to_bytes(2, "big") + packed


def decode(data: bytes | memoryview, family: Family | None = None) -> Any:
    """A frame as the message that it holds.

    Args:
        data: one whole frame.
        family: the messages that this link carries; None takes all.

    Raises:
        RemoteProtocolError: the frame breaks the protocol; `code` says how.
    """
    view = memoryview(data).cast("B")
    number = _header(view, family)
    body = view[HEADER_BYTES:]
    scan(body)
    try:
        fields = msgpack.unpackb(
            body,
            raw=False,
            strict_map_key=True,
            object_pairs_hook=_unique,
            max_ext_len=0,
        )
        return _records[number].load(fields, NUMBERS[number].__name__)
    except Violation as error:
        raise RemoteProtocolError(error.code, str(error)) from None
    except (ValueError, msgpack.UnpackException) as error:
        what = str(error) or type(error).__name__
        raise RemoteProtocolError("malformed", f"not msgpack: {what}") from None


def _header(view: memoryview, family: Family | None) -> int:
    """Check the size and the header; returns the message's number."""
    size = len(view)
    if size > MAX_CONTROL_FRAME_BYTES:
        raise RemoteProtocolError("oversize", f"a frame of {size} bytes")
    if size < HEADER_BYTES or view[:2] != MAGIC:
        raise RemoteProtocolError("not-meshd", "the frame does not begin as a meshd frame")
    if view[2] != PROTOCOL:
        lags = "the peer" if view[2] < PROTOCOL else "this machine"
        raise RemoteProtocolError(
            "version",
            f"the peer speaks protocol {view[2]}, this machine {PROTOCOL}; update meshd on {lags}",
        )
    number = int.from_bytes(view[3:5], "big")
    if number not in _records:
        raise RemoteProtocolError("unknown-message", f"message number {number} is not known")
    if family is not None and number not in family.value:
        raise RemoteProtocolError(
            "wrong-link", f"{NUMBERS[number].__name__} does not belong on this link"
        )
    if size > _limits[number]:
        raise RemoteProtocolError(
            "oversize",
            f"{NUMBERS[number].__name__} of {size} bytes, at most {_limits[number]} allowed",
        )
    return number


def _unique(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """A map without duplicate keys: with them, two readers could see two messages in one frame."""
    table = dict(pairs)
    if len(table) != len(pairs):
        raise Violation("duplicate-key", "message", "a map holds the same key twice")
    return table
