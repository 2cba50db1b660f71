"""Every ZeroMQ option that meshd sets, with its reason. The defaults are not safe (field notes):
no limit on sizes, no heartbeats, waiting for ever at the end, a handshake that may take 30 s."""

from __future__ import annotations

from typing import Any

import zmq

from meshd.core.types import MachineKey
from meshd.net.keys import KeyPair
from meshd.net.zap import DOMAIN

HANDSHAKE_MS = 5_000
"""CURVE takes three round trips; on a LAN 5 s is for a machine that swaps. It bounds how long a
stranger who connects and says nothing holds a descriptor."""

HEARTBEAT_MS = 5_000
HEARTBEAT_TIMEOUT_MS = 15_000
"""Frees the link to a machine that lost power or cable, which TCP would keep for hours. The
daemons' own heartbeats decide who is alive; these only clean up."""

RECONNECT_MS = 200
RECONNECT_MAX_MS = 5_000
"""Doubling from 0.2 s, at most 5 s: a machine that comes back is met within 5 s, and 200 machines
that look for one that is off send it 40 SYN a second."""

MAX_ANSWER_BYTES = 1024
"""Nothing is ever received on a connecting link but the handshake (largest: WELCOME, 168 bytes)
and heartbeats."""

BACKLOG = 256
"""All machines of the largest ring may connect at once."""


def _both(link: zmq.Socket[Any], keys: KeyPair) -> None:
    """What listening and connecting sockets share."""
    link.linger = 0
    link.handshake_ivl = HANDSHAKE_MS
    link.heartbeat_ivl = HEARTBEAT_MS
    link.heartbeat_timeout = HEARTBEAT_TIMEOUT_MS
    link.heartbeat_ttl = HEARTBEAT_TIMEOUT_MS
    link.curve_publickey = keys.public.encode()
    link.curve_secretkey = keys.secret.encode()


def listening(
    link: zmq.Socket[Any], keys: KeyPair, host: str, high_water: int, max_frame_bytes: int
) -> None:
    """Options of a CURVE server: it must never listen without them.

    Args:
        link: a socket that is not bound yet.
        keys: ours.
        host: the address that it will be bound to.
        high_water: messages that wait here for each peer; the rest waits in the peer.
        max_frame_bytes: a longer frame costs the peer its link (ZMQ_MAXMSGSIZE). It bounds one
            frame, not a message of many: those are counted and dropped by the reader.
    """
    _both(link, keys)
    link.ipv6 = is_ipv6(host)
    link.curve_server = True
    link.zap_domain = DOMAIN.encode()
    link.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
    link.rcvhwm = high_water
    link.maxmsgsize = max_frame_bytes
    link.backlog = BACKLOG


def connecting(link: zmq.Socket[Any], keys: KeyPair, server: MachineKey, high_water: int) -> None:
    """Options of a CURVE client that talks to `server` and to nobody else.

    IMMEDIATE: messages queue only for a link that is up, so "sent" means more than "kept".
    """
    _both(link, keys)
    link.curve_serverkey = server.encode()
    link.immediate = True
    link.sndhwm = high_water
    link.reconnect_ivl = RECONNECT_MS
    link.reconnect_ivl_max = RECONNECT_MAX_MS
    link.rcvhwm = 1
    link.maxmsgsize = MAX_ANSWER_BYTES


def endpoint(host: str, port: int) -> str:
    """`tcp://host:port`, with an IPv6 address in brackets.

    `host` must have the shape "host" of `meshd.wire.kinds`: without '/', ';' and '*'.
    """
    return f"tcp://[{host}]:{port}" if is_ipv6(host) else f"tcp://{host}:{port}"


def is_ipv6(host: str) -> bool:
    """Whether a host is an IPv6 address: only then the socket speaks IPv6, since a libzmq socket
    that does takes a name's IPv6 address and never tries the other."""
    return ":" in host


def bound_port(link: zmq.Socket[Any]) -> int:
    """The port that a bound socket listens on."""
    name = link.getsockopt(zmq.LAST_ENDPOINT)
    return int(bytes(name).rpartition(b":")[2])
