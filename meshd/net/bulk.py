"""Bulk links of a worker: one PULL that all members send to, one PUSH for each that we send to.

A message is two frames: the header of `meshd.wire.bulk` and the payload, which is never copied in
Python: it goes out from the caller's memory and comes in as a memoryview of libzmq's. All links are
CURVE; the listening one asks the roster, and takes frames only from machines of the job's ring,
known by the User-Id of their handshake. Everything else is counted by code and dropped.

One thread uses a BulkLinks; only `wake` may be called from another. A link that breaks is reported
once: what was on it is lost, and libzmq would go on without it as if nothing had happened.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import zmq
from zmq.utils.monitor import parse_monitor_message

from meshd.core.errors import FailureError, LocalProtocolError, RemoteProtocolError
from meshd.core.messages import RingMember
from meshd.core.types import MachineKey
from meshd.net.counting import (
    Heartbeats,
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

HIGH_WATER = 1024
"""Messages that wait on either side of a link. A member is at most one step ahead, so what waits is
a step's chunks or a newcomer's slices."""

AT_ONCE = 64
"""Messages that are read before what they bring about is sent."""

COPIED_BYTES = 1 << 16
"""Shorter payloads are copied: to lend libzmq their memory, and to be told when it is done, costs
more (pyzmq's default, `zmq.COPY_THRESHOLD`)."""

LINGER_MS = 2_000
"""At an orderly end: time for the last chunks to reach those who need them."""

_EVENTS = zmq.Event.HANDSHAKE_FAILED_AUTH | zmq.Event.HANDSHAKE_SUCCEEDED | zmq.Event.DISCONNECTED


@dataclass(frozen=True)
class Received:
    """A message from a member; `payload`: a read-only view that keeps its memory alive."""

    sender: MachineKey
    header: BulkHeader
    payload: memoryview


@dataclass(frozen=True)
class LinkLost:
    """The link to a member broke, or was refused; `why` completes "desk-2 ..."."""

    key: MachineKey
    why: str


@dataclass
class _Peer:
    """The link to one member."""

    member: RingMember
    push: zmq.Socket[bytes]
    monitor: zmq.Socket[bytes]
    up: bool = False
    outbox: deque[tuple[bytes, memoryview]] = field(default_factory=deque)
    """What found no room in libzmq yet."""


class BulkLinks:
    """All bulk links of one worker."""

    def __init__(self, keys: KeyPair, roster: RosterFile, host: str) -> None:
        """Start the authenticator and listen on a free port of `host`.

        Raises:
            FailureError: the host is not this machine's.
        """
        self.refused: Counter[str] = Counter()
        """Dropped messages, by code."""
        self._keys = keys
        self._roster = roster
        self._expected: frozenset[MachineKey] = frozenset()
        self._peers: dict[MachineKey, _Peer] = {}
        self._wake_here, self._wake_there = socket.socketpair()
        self._wake_there.setblocking(False)
        self._sent = 0
        self._heard: set[MachineKey] = set()
        self._heartbeats = Heartbeats(HEARTBEAT_MS / 1000)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._zap = ZapThread(self._context, roster.name_of)
        self._zap.start()
        self._monitors = 0
        self._pull = self._context.socket(zmq.PULL)
        listening(self._pull, keys, host, HIGH_WATER, MAX_BULK_PAYLOAD_BYTES + 64)
        self._poller = zmq.Poller()
        self._poller.register(self._pull, zmq.POLLIN)
        self._poller.register(self._wake_there, zmq.POLLIN)
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
        return self._sent + self._heartbeats.bytes_sent(time.monotonic())

    # --- who -------------------------------------------------------------------------------------

    def expect(self, keys: Iterable[MachineKey]) -> None:
        """Take messages from these machines only."""
        self._expected = frozenset(keys)

    def reach(self, members: Iterable[RingMember]) -> None:
        """These are the members now, and where they listen: links to others are closed."""
        wanted = {member.key: member for member in members}
        for key, peer in list(self._peers.items()):
            known = wanted.get(key)
            if known is None or (known.host, known.port) != (peer.member.host, peer.member.port):
                self._drop(key, LINGER_MS)
        for key, member in wanted.items():
            if key not in self._peers:
                self._peers[key] = self._connect(member)

    def _connect(self, member: RingMember) -> _Peer:
        push = self._context.socket(zmq.PUSH)
        connecting(push, self._keys, member.key, HIGH_WATER)
        push.ipv6 = is_ipv6(member.host)
        self._monitors += 1
        name = f"inproc://meshd.monitor.{self._monitors}"
        push.monitor(name, int(_EVENTS))
        monitor = self._context.socket(zmq.PAIR)
        monitor.connect(name)
        self._poller.register(monitor, zmq.POLLIN)
        try:
            push.connect(endpoint(member.host, member.port))
        except zmq.ZMQError as error:
            raise FailureError(f"{_named(member)}: {os.strerror(error.errno or 0)}") from None
        return _Peer(member, push, monitor)

    def _drop(self, key: MachineKey, linger_ms: int) -> None:
        peer = self._peers.pop(key)
        self._heartbeats.down(("to", key), time.monotonic())
        self._poller.unregister(peer.monitor)
        if peer.outbox:
            self._poller.unregister(peer.push)
        peer.push.disable_monitor()
        peer.monitor.close(linger=0)
        peer.push.close(linger=linger_ms)

    # --- sending ---------------------------------------------------------------------------------

    def send(self, key: MachineKey, header: BulkHeader, payload: memoryview | bytes) -> None:
        """Send one message as soon as there is room; to a machine that is not reached: nothing.

        The payload is not copied: its memory must never change. A contiguous buffer of any item
        type will do.

        Raises:
            LocalProtocolError: the header does not fit.
        """
        data = memoryview(payload).cast("B")
        if header.payload_bytes != len(data):
            raise LocalProtocolError(f"payload of {len(data)} bytes for {header}")
        peer = self._peers.get(key)
        if peer is None:
            self.refused["unreached"] += 1
            return
        if not peer.outbox:
            if self._push(peer, pack(header), data):
                return
            self._poller.register(peer.push, zmq.POLLOUT)
        peer.outbox.append((pack(header), data))

    def _push(self, peer: _Peer, head: bytes, data: memoryview) -> bool:
        """Whether libzmq took it. Only the first frame can find no room."""
        try:
            peer.push.send(head, zmq.SNDMORE | zmq.NOBLOCK)
        except zmq.Again:
            return False
        if len(data) < COPIED_BYTES:
            peer.push.send(data, copy=True)
        else:
            peer.push.send(data, copy=False, track=False)
        self._sent += message_bytes(BULK_HEADER_BYTES, len(data))
        return True

    def _flush(self, peer: _Peer) -> None:
        while peer.outbox and self._push(peer, *peer.outbox[0]):
            peer.outbox.popleft()
        if not peer.outbox:
            self._poller.unregister(peer.push)

    # --- waiting ---------------------------------------------------------------------------------

    def wait(self, timeout_s: float) -> list[Received | LinkLost]:
        """What came within `timeout_s`, or at `wake`; messages of one sender in order.

        Raises:
            FailureError: the authenticator has died.
        """
        if not self._zap.alive:
            raise FailureError("the authenticator died; the ring cannot go on")
        ready = dict(self._poller.poll(max(0, int(timeout_s * 1000))))
        if self._wake_there.fileno() in ready:
            self._wake_there.recv(4096)
        events: list[Received | LinkLost] = []
        for peer in list(self._peers.values()):
            if peer.monitor in ready:
                events.extend(self._read_monitor(peer))
            if peer.push in ready and peer.outbox:
                self._flush(peer)
        if self._pull in ready:
            for _ in range(AT_ONCE):
                try:
                    frames = self._pull.recv_multipart(zmq.NOBLOCK, copy=False)
                except zmq.Again:
                    break
                try:
                    events.append(self._accept(frames))
                except RemoteProtocolError as error:
                    self.refused[error.code] += 1
        return events

    def _read_monitor(self, peer: _Peer) -> list[LinkLost]:
        lost = []
        key = peer.member.key
        while peer.monitor.poll(0):
            event: Any = parse_monitor_message(peer.monitor.recv_multipart())
            if event["event"] == zmq.Event.HANDSHAKE_SUCCEEDED:
                peer.up = True
                self._sent += client_handshake_bytes("PUSH")
                self._heartbeats.up(("to", key), time.monotonic())
            elif event["event"] == zmq.Event.HANDSHAKE_FAILED_AUTH:
                lost.append(LinkLost(key, "does not trust this machine; run `meshd trust` there"))
            elif peer.up:
                peer.up = False
                self._heartbeats.down(("to", key), time.monotonic())
                lost.append(LinkLost(key, "closed its link"))
        return lost

    def _accept(self, frames: list[zmq.Frame]) -> Received:
        """Check the sender, then the header, then the payload's length."""
        sender = MachineKey(str(frames[-1].get("User-Id")))
        if sender not in self._expected or self._roster.name_of(sender) is None:
            raise RemoteProtocolError("stranger", "a ring frame of a machine that is no member")
        if len(frames) != 2:
            raise RemoteProtocolError("extra-frames", f"a ring message of {len(frames)} frames")
        header = unpack(frames[0].buffer)
        payload = frames[1].buffer
        if len(payload) != header.payload_bytes:
            raise RemoteProtocolError(
                "malformed", f"{len(payload)} bytes where {header.payload_bytes} were announced"
            )
        if sender not in self._heard:
            self._heard.add(sender)
            self._sent += server_handshake_bytes("PULL")
            self._heartbeats.up(("from", sender), time.monotonic())
        return Received(sender, header, payload.toreadonly())

    def wake(self) -> None:
        """From any thread: let a `wait` return now."""
        with contextlib.suppress(BlockingIOError):  # so many wishes to wake are waiting already
            self._wake_here.send(b"!", socket.MSG_DONTWAIT)

    def close(self, linger_ms: int = LINGER_MS) -> None:
        """Close all links; what was sent may still leave for `linger_ms`."""
        for key in list(self._peers):
            self._drop(key, linger_ms)
        self._pull.close(linger=0)
        self._zap.close()
        self._context.term()
        self._wake_here.close()
        self._wake_there.close()


def _named(member: RingMember) -> str:
    return f"{member.name} ({member.host}, port {member.port})"
