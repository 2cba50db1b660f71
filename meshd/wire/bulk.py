"""The fixed header of ring frames. A bulk message is two ZeroMQ frames: this header, the payload.

    offset  0   2    3     4        6        8          12          16        20      28
            "mB" ver phase hop(u16) tag(u16) chunk(u32) gener.(u32) size(u32) step(u64)

All big-endian, 28 bytes. The payload has no structure here: what a phase's bytes mean is the
exchange's business (`meshd.train`), their count is checked here and again there.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from meshd.core.errors import LocalProtocolError, RemoteProtocolError
from meshd.wire.limits import MAX_BULK_PAYLOAD_BYTES, MAX_INT, PROTOCOL

MAGIC = b"mB"
_LAYOUT = struct.Struct(">2sBBHHIIIQ")
BULK_HEADER_BYTES = _LAYOUT.size


@dataclass(frozen=True)
class BulkHeader:
    """Which piece of which step's exchange the payload is."""

    phase: int
    """0..255: which part of the exchange."""
    generation: int
    """0..2^32-1: of the ring; frames of another one are not this ring's."""
    step: int
    """0..2^53-1: the step that is being computed."""
    chunk: int
    """0..2^32-1."""
    hop: int
    """0..65535."""
    payload_bytes: int
    """0..MAX_BULK_PAYLOAD_BYTES: length of the frame that follows."""
    tag: int = 0
    """0..65535: with the generation it names the ring, should two captains propose the same one."""


def pack(header: BulkHeader) -> bytes:
    """The header as 28 bytes.

    Raises:
        LocalProtocolError: a field is out of its range.
    """
    h = header
    if not (0 <= h.payload_bytes <= MAX_BULK_PAYLOAD_BYTES and 0 <= h.step <= MAX_INT):
        raise LocalProtocolError(f"bulk header out of range: {header}")
    try:
        return _LAYOUT.pack(
            MAGIC, PROTOCOL, h.phase, h.hop, h.tag, h.chunk, h.generation, h.payload_bytes, h.step
        )
    except struct.error:
        raise LocalProtocolError(f"bulk header out of range: {header}") from None


def unpack(data: bytes | memoryview) -> BulkHeader:
    """Read a header back.

    Raises:
        RemoteProtocolError: `not-meshd`, `version`, `malformed` or `oversize`.
    """
    if len(data) < 3 or bytes(data[:2]) != MAGIC:
        raise RemoteProtocolError("not-meshd", "the frame does not begin as a bulk header")
    if data[2] != PROTOCOL:
        raise RemoteProtocolError(
            "version", f"the peer speaks protocol {data[2]}, this machine {PROTOCOL}"
        )
    if len(data) != BULK_HEADER_BYTES:
        raise RemoteProtocolError("malformed", f"a bulk header of {len(data)} bytes")
    _, _, phase, hop, tag, chunk, generation, size, step = _LAYOUT.unpack(data)
    if step > MAX_INT:
        raise RemoteProtocolError("malformed", "a bulk header with a step that cannot be")
    if size > MAX_BULK_PAYLOAD_BYTES:
        raise RemoteProtocolError("oversize", f"a bulk payload of {size} bytes")
    return BulkHeader(phase, generation, step, chunk, hop, size, tag)
