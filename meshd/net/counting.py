"""Bytes that a ZMTP 3.1 connection with CURVE puts on the wire, exactly, from frame lengths alone.

libzmq does not tell what it sends, so meshd counts at the call, with the sizes of ZeroMQ RFC 37
(ZMTP 3.1) and RFC 26 (CurveZMQ). Everything above TCP is in: framing, boxes, handshakes,
heartbeats. Not in: TCP/IP headers and retransmissions, which are the kernel's.

A frame of n bytes:   MESSAGE = "\\x07MESSAGE" (8) + nonce (8) + box(flags (1) + n) = 16 + 1 + n
                              = 33 + n
                      on the wire: flags (1) + length (1, or 8 above 255) + MESSAGE

A handshake, client's side: greeting 64, HELLO 6 + 194, INITIATE 9 + 96 (cookie) + 8 (nonce)
+ 16 (box) + 32 (key) + 96 (vouch) + metadata. Server's side: greeting 64, WELCOME 8 + 160,
READY 6 + 8 (nonce) + 16 (box) + metadata. Metadata: Socket-Type, and for DEALER, ROUTER and REQ an
empty Identity; each is a name with length u8 and a value with length u32.
"""

from __future__ import annotations

from collections.abc import Hashable

_GREETING = 64
_HELLO = 200
_WELCOME = 168
_INITIATE_BEFORE_METADATA = 9 + 96 + 8 + 16 + 32 + 96
_READY_BEFORE_METADATA = 6 + 8 + 16
_HAS_IDENTITY = frozenset({"DEALER", "ROUTER", "REQ"})


def _framed(body_bytes: int) -> int:
    """Flags and length before the body: long frames have a length of 8 bytes."""
    return (2 if body_bytes <= 255 else 9) + body_bytes


def frame_bytes(payload_bytes: int) -> int:
    """One frame of a message, encrypted."""
    return _framed(33 + payload_bytes)


def message_bytes(*payload_bytes: int) -> int:
    """A message of several frames."""
    return sum(frame_bytes(n) for n in payload_bytes)


def _metadata_bytes(socket_type: str) -> int:
    size = 1 + len("Socket-Type") + 4 + len(socket_type)
    if socket_type in _HAS_IDENTITY:
        size += 1 + len("Identity") + 4
    return size


def client_handshake_bytes(socket_type: str) -> int:
    """What the connecting side sends until the link is up."""
    initiate = _INITIATE_BEFORE_METADATA + _metadata_bytes(socket_type)
    return _GREETING + _framed(_HELLO) + _framed(initiate)


def server_handshake_bytes(socket_type: str) -> int:
    """What the listening side sends until the link is up."""
    ready = _READY_BEFORE_METADATA + _metadata_bytes(socket_type)
    return _GREETING + _framed(_WELCOME) + _framed(ready)


def refusal_bytes() -> int:
    """What the listening side sends to a client that it refuses: ERROR with the code "400"."""
    return _GREETING + _framed(_WELCOME) + _framed(6 + 1 + 3)


PING_BYTES = frame_bytes(5 + 2)
"""A heartbeat, "\\x04PING" and a time to live of 2 bytes."""

PONG_BYTES = frame_bytes(5)
"""Its answer, "\\x04PONG" with an empty context."""


class Heartbeats:
    """Bytes of the heartbeats on all links: each side sends a PING every interval, whatever else
    is on the link, and answers the other's. `now` is in seconds, monotonic."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._since: dict[Hashable, float] = {}
        self._ended = 0

    def up(self, link: Hashable, now: float) -> None:
        """A link came up; one with that name before is over."""
        self.down(link, now)
        self._since[link] = now

    def down(self, link: Hashable, now: float) -> None:
        """A link ended, if it was up."""
        since = self._since.pop(link, None)
        if since is not None:
            self._ended += self._rounds(since, now)

    def bytes_sent(self, now: float) -> int:
        """By this side, so far."""
        rounds = self._ended + sum(self._rounds(since, now) for since in self._since.values())
        return rounds * (PING_BYTES + PONG_BYTES)

    def _rounds(self, since: float, now: float) -> int:
        return int((now - since) / self._interval_s)
