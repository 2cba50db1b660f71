"""One outgoing control link: a DEALER to a peer's ROUTER, pinned to the peer's key.

libzmq reconnects by itself while nothing answers, but gives up for ever once the peer has refused
the handshake (measured: after a ZAP refusal no further attempt). A machine that is trusted later
must get in without a restart, so a refused link is connected anew from here. The socket's monitor
also says why a link is not up, which is the question that status screens leave open.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import zmq
import zmq.asyncio
from zmq.utils.monitor import parse_monitor_message

from meshd.core.types import MachineKey
from meshd.net.counting import Heartbeats, client_handshake_bytes
from meshd.net.keys import KeyPair
from meshd.net.options import HEARTBEAT_MS, connecting, endpoint, is_ipv6

HIGH_WATER = 256
"""Messages that wait for one peer: gossip of that many jobs at once. More are not sent, and
`send` says so."""

WAITING_BYTES = 16 << 20
"""Bytes that wait for one peer. One that asks for blocks and does not read them would otherwise
hold HIGH_WATER blocks, 256 MiB, of this machine's memory; one that reads has two under way."""

RETRY_S = 2.0
"""After a refusal, and for a host name that does not resolve. Soon, because a person who has just
typed `meshd trust` waits for it; a refused handshake costs less than 1 kB."""

_EVENTS = (
    zmq.Event.HANDSHAKE_SUCCEEDED
    | zmq.Event.HANDSHAKE_FAILED_AUTH
    | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
    | zmq.Event.HANDSHAKE_FAILED_PROTOCOL
    | zmq.Event.CONNECTED
    | zmq.Event.CONNECT_RETRIED
    | zmq.Event.DISCONNECTED
)
_numbers = itertools.count()


class PeerLink:
    """The link to one peer. All methods belong to the event loop's thread."""

    def __init__(
        self,
        context: zmq.asyncio.Context,
        keys: KeyPair,
        key: MachineKey,
        host: str,
        port: int,
        changed: Callable[[], None],
    ) -> None:
        """Connect, and go on trying. `changed` is called when `up` or `trouble` changes."""
        self.address = (host, port)
        self._changed = changed
        self.up = False
        self.trouble = f"no answer yet from {host}, port {port}"
        """Why the link is not up, one line; empty while it is."""
        self.heartbeats = Heartbeats(HEARTBEAT_MS / 1000)
        self.handshake_bytes = 0
        self._endpoint = ""
        self._waiting: deque[tuple[zmq.MessageTracker, int]] = deque()
        self._waiting_bytes = 0
        self._met = False  # somebody accepted the TCP connection that is being tried
        self._retry: asyncio.TimerHandle | None = None
        self._resolving: asyncio.Task[None] | None = None
        plain: zmq.Context[zmq.Socket[bytes]] = zmq.Context.shadow(context)
        self._dealer = plain.socket(zmq.DEALER)
        connecting(self._dealer, keys, key, HIGH_WATER)
        name = f"inproc://meshd.monitor.{next(_numbers)}"
        self._dealer.monitor(name, int(_EVENTS))
        self._monitor = context.socket(zmq.PAIR)
        self._monitor.connect(name)
        self._watching = asyncio.create_task(self._watch(), name=f"monitor {host}:{port}")
        self._connect()

    def send(self, data: bytes) -> bool:
        """Hand over one frame; False if the link is not up or too much waits for it already.

        A tracker is done when libzmq has given the frame to the kernel; frames below pyzmq's copy
        threshold (64 KiB) are done at once, and HIGH_WATER bounds them well enough.
        """
        while self._waiting and self._waiting[0][0].done:
            self._waiting_bytes -= self._waiting.popleft()[1]
        if self._waiting_bytes + len(data) > WAITING_BYTES:
            return False
        try:
            tracker = self._dealer.send(data, zmq.NOBLOCK, copy=False, track=True)
        except zmq.ZMQError:
            return False
        if tracker is not None and not tracker.done:
            self._waiting.append((tracker, len(data)))
            self._waiting_bytes += len(data)
        return True

    def bytes_sent(self, now: float) -> int:
        """Handshakes and heartbeats; the messages are counted by the caller."""
        return self.handshake_bytes + self.heartbeats.bytes_sent(now)

    async def close(self, linger_ms: int) -> None:
        """Close; what waits may still go out for `linger_ms`."""
        if self._retry is not None:
            self._retry.cancel()
        tasks = [task for task in (self._watching, self._resolving) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._dealer.disable_monitor()
        self._monitor.close(linger=0)
        self._dealer.close(linger=linger_ms)

    def _connect(self) -> None:
        """Connect, or connect anew. Host names are resolved here: libzmq would do it in its one
        I/O thread, and a name server that does not answer would hold up every other link."""
        self._retry = None
        host, port = self.address
        if _is_address(host):
            self._connect_to(host, port)
        else:
            self._resolving = asyncio.create_task(self._resolve(host, port))

    async def _resolve(self, host: str, port: int) -> None:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_STREAM
            )
        except OSError as error:
            self._fail(f"{host} does not resolve: {error.strerror}")
            return
        # IPv4 first: it is what meshd announces and listens on by default.
        found.sort(key=lambda entry: entry[0] != socket.AF_INET)
        self._connect_to(str(found[0][4][0]), port)

    def _connect_to(self, host: str, port: int) -> None:
        if self._endpoint:
            with contextlib.suppress(zmq.ZMQError):  # gone already after a refusal
                self._dealer.disconnect(self._endpoint)
        self._endpoint = endpoint(host, port)
        try:
            self._dealer.ipv6 = is_ipv6(host)
            self._dealer.connect(self._endpoint)
        except zmq.ZMQError as error:
            self._fail(f"{host}, port {port}: {error.strerror}")

    def _fail(self, trouble: str) -> None:
        self._set(False, trouble)
        if self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(RETRY_S, self._connect)

    async def _watch(self) -> None:
        while True:
            self._note(parse_monitor_message(await self._monitor.recv_multipart()))

    def _set(self, up: bool, trouble: str) -> None:
        if (up, trouble) != (self.up, self.trouble):
            self.up, self.trouble = up, trouble
            self._changed()

    def _note(self, event: Any) -> None:
        host, port = self.address
        now = time.monotonic()
        kind = event["event"]
        if kind == zmq.Event.HANDSHAKE_SUCCEEDED:
            self._set(True, "")
            self.handshake_bytes += client_handshake_bytes("DEALER")
            self.heartbeats.up(self, now)
        elif kind == zmq.Event.HANDSHAKE_FAILED_AUTH:
            self._fail(
                f"the machine at {host}, port {port} does not trust this one;"
                " run `meshd trust` there with what `meshd key` prints here"
            )
        elif kind == zmq.Event.HANDSHAKE_FAILED_PROTOCOL:
            self._fail(f"what answers at {host}, port {port} is not meshd, or has another key")
        elif kind == zmq.Event.HANDSHAKE_FAILED_NO_DETAIL:
            # CURVE's answer to a client that expects another key is to close without a word.
            self._set(
                False, f"what answers at {host}, port {port} has another key, or is not meshd"
            )
        elif kind == zmq.Event.CONNECT_RETRIED:
            if not self._met:
                self._set(False, f"nothing answers at {host}, port {port}")
            self._met = False
        elif kind == zmq.Event.CONNECTED:
            self._met = True
        elif self.up:  # disconnected
            self._set(False, f"the link to {host}, port {port} broke")
            self.heartbeats.down(self, now)


def _is_address(host: str) -> bool:
    """Whether a host needs no resolving."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            socket.inet_pton(family, host.partition("%")[0])
            return True
    return False
