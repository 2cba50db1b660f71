"""Ring links of a worker: PULL for the predecessor, PUSH to the successor; blocking, one thread.

A message is two frames: the header of `meshd.wire.bulk` and the payload, which is never copied in
Python: it goes out from the caller's memory and comes in as a memoryview of libzmq's. Both links
are CURVE; the listening one asks the roster, and takes frames only from the predecessor, known by
the User-Id of its handshake. Everything else is counted by code and dropped.

One thread uses a BulkLink; only `interrupt` may be called from another.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import Counter
from typing import Any

import zmq
from zmq.utils.monitor import parse_monitor_message

from meshd.core.errors import FailureError, LocalProtocolError, RemoteProtocolError
from meshd.core.messages import RingMember
from meshd.core.types import MachineKey
from meshd.net.counting import (
    PING_BYTES,
    PONG_BYTES,
    client_handshake_bytes,
    message_bytes,
    server_handshake_bytes,
)
from meshd.net.keys import KeyPair
from meshd.net.options import (
    HEARTBEAT_MS,
    bound_port,
    connecting,
    endpoint,
    is_ipv6,
    listening,
)
from meshd.net.roster import RosterFile
from meshd.net.zap import ZapThread
from meshd.wire.bulk import BULK_HEADER_BYTES, BulkHeader, pack, unpack
from meshd.wire.limits import MAX_BULK_PAYLOAD_BYTES

HIGH_WATER = 32
"""Messages that wait on either side of a ring link. A member is at most one step ahead, so what
waits is a step's chunks; more back-pressure would only move the waiting."""

LINGER_MS = 2_000
"""At an orderly end: time for the last chunks to reach the successor, which needs them to commit
the last step."""


class BulkLink:
    """The two links of one ring member."""

    def __init__(self, keys: KeyPair, roster: RosterFile, host: str) -> None:
        """Start the authenticator and listen on a free port of `host`.

        Raises:
            FailureError: the host is not this machine's.
        """
        self.refused: Counter[str] = Counter()
        """Dropped messages, by code."""
        self._keys = keys
        self._roster = roster
        self._expected: MachineKey | None = None
        self._interrupted = threading.Event()
        self._wake_here, self._wake_there = socket.socketpair()
        self._sent = 0
        self._successor_ups = 0  # handshakes with the successor that the monitor has told of
        self._successor_since: float | None = None
        self._predecessor_since: float | None = None
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._zap = ZapThread(self._context, roster.name_of)
        self._zap.start()
        self._push: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._successor = ""
        self._pull = self._context.socket(zmq.PULL)
        listening(self._pull, keys, host, HIGH_WATER, MAX_BULK_PAYLOAD_BYTES + 64)
        try:
            self._pull.bind(endpoint(host, 0))
        except zmq.ZMQError as error:
            self.close(0)
            raise FailureError(
                f"cannot listen on {host}: {os.strerror(error.errno or 0)}"
            ) from None
        self.port = bound_port(self._pull)

    @property
    def bytes_sent(self) -> int:
        """Bytes put on the wire by this side: messages, framing, CURVE, handshakes, heartbeats."""
        now = time.monotonic()
        total = self._sent
        ups = max(self._successor_ups, self._successor_since is not None)
        total += ups * client_handshake_bytes("PUSH")
        total += (self._predecessor_since is not None) * server_handshake_bytes("PULL")
        for since in (self._successor_since, self._predecessor_since):
            if since is not None:
                rounds = int((now - since) * 1000 / HEARTBEAT_MS)
                total += rounds * (PING_BYTES + PONG_BYTES)
        return total

    def connect(self, member: RingMember) -> None:
        """Link to the successor. Returns at once; `send` waits until the link is up."""
        if self._push is not None:
            raise LocalProtocolError("a bulk link has one successor")
        self._successor = f"{member.name} ({member.host}, port {member.port})"
        self._push = self._context.socket(zmq.PUSH)
        connecting(self._push, self._keys, member.key, HIGH_WATER)
        self._push.ipv6 = is_ipv6(member.host)
        events = zmq.Event.HANDSHAKE_FAILED_AUTH | zmq.Event.HANDSHAKE_SUCCEEDED
        self._push.monitor("inproc://meshd.monitor.push", int(events))
        self._monitor = self._context.socket(zmq.PAIR)
        self._monitor.connect("inproc://meshd.monitor.push")
        try:
            self._push.connect(endpoint(member.host, member.port))
        except zmq.ZMQError as error:
            raise FailureError(f"{self._successor}: {os.strerror(error.errno or 0)}") from None

    def expect(self, key: MachineKey) -> None:
        """Take messages from this predecessor only."""
        self._expected = key

    def send(
        self, header: BulkHeader, payload: memoryview | bytes, timeout_s: float = 60.0
    ) -> zmq.MessageTracker:
        """Send one message, waiting while the successor is not there or is behind.

        The payload is not copied: its memory must not change before the answered tracker says
        `done`. A contiguous buffer of any item type will do.

        Raises:
            LocalProtocolError: the header does not fit, or no successor is connected.
            FailureError: interrupted, refused by the successor, or not taken within `timeout_s`.
        """
        if self._push is None:
            raise LocalProtocolError("connect to a successor before sending")
        data = memoryview(payload).cast("B")
        if header.payload_bytes != len(data):
            raise LocalProtocolError(f"payload of {len(data)} bytes for {header}")
        head = pack(header)
        deadline = time.monotonic() + timeout_s
        while True:
            if self._interrupted.is_set():
                raise FailureError("the exchange was interrupted")
            try:
                # Only the first frame can find no room: the second follows where it went.
                self._push.send(head, zmq.SNDMORE | zmq.NOBLOCK)
                break
            except zmq.Again:
                self._wait_for_room(deadline, timeout_s)
        tracker = self._push.send(data, copy=False, track=True)
        self._sent += message_bytes(BULK_HEADER_BYTES, len(data))
        if self._successor_since is None:  # what was sent went to a link that is up (IMMEDIATE)
            self._successor_since = time.monotonic()
        self._read_monitor()
        assert tracker is not None  # noqa: S101 - track=True
        return tracker

    def _wait_for_room(self, deadline: float, timeout_s: float) -> None:
        assert self._push is not None  # noqa: S101 - send checks
        left = deadline - time.monotonic()
        if left <= 0:
            raise FailureError(f"{self._successor} took nothing for {timeout_s:g} s")
        poller = zmq.Poller()
        poller.register(self._push, zmq.POLLOUT)
        poller.register(self._monitor, zmq.POLLIN)
        poller.register(self._wake_there, zmq.POLLIN)
        poller.poll(int(left * 1000) + 1)
        self._read_monitor()

    def _read_monitor(self) -> None:
        """Count the handshake; a refusal is final for this ring, and libzmq would not try again."""
        assert self._monitor is not None  # noqa: S101 - made with the successor's link
        while self._monitor.poll(0):
            event: Any = parse_monitor_message(self._monitor.recv_multipart())
            if event["event"] == zmq.Event.HANDSHAKE_FAILED_AUTH:
                raise FailureError(
                    f"{self._successor} does not trust this machine; run `meshd trust` there"
                )
            self._successor_ups += 1

    def receive(self, timeout_s: float) -> tuple[BulkHeader, memoryview] | None:
        """The next message from the predecessor, in the order it was sent.

        Returns:
            Header and payload (a read-only view that keeps its memory alive), or None after
            `timeout_s` or an interruption.

        Raises:
            LocalProtocolError: no predecessor is expected yet.
            FailureError: the authenticator has died.
        """
        if self._expected is None:
            raise LocalProtocolError("expect a predecessor before receiving")
        if not self._zap.alive:
            raise FailureError("the authenticator died; the ring cannot go on")
        deadline = time.monotonic() + timeout_s
        poller = zmq.Poller()
        poller.register(self._pull, zmq.POLLIN)
        poller.register(self._wake_there, zmq.POLLIN)
        while not self._interrupted.is_set():
            left = deadline - time.monotonic()
            ready = dict(poller.poll(max(0, int(left * 1000))))
            message = self._take() if self._pull in ready else None
            if message is not None:
                return message
            if left <= 0:
                return None
        return None

    def _take(self) -> tuple[BulkHeader, memoryview] | None:
        """One message, or None where it is refused or is not there: a link that ends within a
        message leaves its socket readable with nothing to read (libzmq 4.3.5, measured)."""
        try:
            return self._accept(self._pull.recv_multipart(zmq.NOBLOCK, copy=False))
        except zmq.Again:
            return None
        except RemoteProtocolError as error:
            self.refused[error.code] += 1
            return None

    def _accept(self, frames: list[zmq.Frame]) -> tuple[BulkHeader, memoryview]:
        """Check the sender, then the header, then the payload's length."""
        sender = frames[-1].get("User-Id")
        if sender != self._expected or self._roster.name_of(str(sender)) is None:
            raise RemoteProtocolError("stranger", "a ring frame that is not the predecessor's")
        if len(frames) != 2:
            raise RemoteProtocolError("extra-frames", f"a ring message of {len(frames)} frames")
        header = unpack(frames[0].buffer)
        payload = frames[1].buffer
        if len(payload) != header.payload_bytes:
            raise RemoteProtocolError(
                "malformed", f"{len(payload)} bytes where {header.payload_bytes} were announced"
            )
        if self._predecessor_since is None:
            self._predecessor_since = time.monotonic()
        return header, payload.toreadonly()

    def interrupt(self) -> None:
        """From any thread: end a `receive` that waits (None) and a `send` (FailureError), now and
        from now on."""
        self._interrupted.set()
        self._wake_here.send(b"!")

    def close(self, linger_ms: int = LINGER_MS) -> None:
        """Close both links; what was sent may still leave for `linger_ms`."""
        if self._push is not None and self._monitor is not None:
            self._push.disable_monitor()
            self._monitor.close(linger=0)
            self._push.close(linger=linger_ms)
            self._push = None
        self._pull.close(linger=0)
        self._zap.close()
        self._context.term()
        self._wake_here.close()
        self._wake_there.close()
