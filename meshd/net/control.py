"""Control links between daemons: one listening ROUTER, and one DEALER for each peer we know.

Messages go out on our DEALER to the peer's ROUTER and come in on our ROUTER; nothing is ever sent
on a ROUTER. So each direction is authenticated by its own handshake: outgoing by the peer's pinned
key, incoming by the roster. Who sent a frame is the User-Id that the handshake left on it, never
what the frame or its routing id says, and it is looked up again for every message: taking a key
off the roster does not end a live connection.

Bad frames are counted by their code, dropped and logged once for each peer and code.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

import zmq
import zmq.asyncio
from zmq.utils.monitor import parse_monitor_message

from meshd.core.errors import FailureError, RemoteProtocolError
from meshd.core.types import MachineKey
from meshd.net.counting import (
    Heartbeats,
    message_bytes,
    refusal_bytes,
    server_handshake_bytes,
)
from meshd.net.keys import KeyPair
from meshd.net.options import HEARTBEAT_MS, bound_port, endpoint, listening
from meshd.net.peer_link import PeerLink
from meshd.net.roster import RosterFile
from meshd.net.zap import ZapTask
from meshd.wire.codec import decode, encode
from meshd.wire.limits import MAX_CONTROL_FRAME_BYTES
from meshd.wire.schema import Family

log = logging.getLogger(__name__)

CURVE_BYTES = 64
"""More than what CURVE adds to a frame (33) before MAXMSGSIZE is compared."""

HIGH_WATER_IN = 64
"""Messages that wait here for each peer, and once more in the inbox. The largest hold 2.3 MiB, so
this, not the peers, bounds the daemon's memory."""

LINGER_MS = 500
"""At the end: time for a Goodbye to leave."""

MAX_REFUSALS = 256
"""Last refusals that are remembered, by peer and code."""

_EVENTS = (
    zmq.Event.ACCEPTED
    | zmq.Event.DISCONNECTED
    | zmq.Event.HANDSHAKE_SUCCEEDED
    | zmq.Event.HANDSHAKE_FAILED_AUTH
)


class ControlLinks:
    """All control links of a daemon. Everything here belongs to the event loop's thread."""

    def __init__(
        self,
        keys: KeyPair,
        roster: RosterFile,
        host: str,
        port: int,
        on_link: Callable[[MachineKey, bool], None] | None = None,
    ) -> None:
        """Nothing listens before `start`.

        Args:
            keys: ours.
            roster: who is trusted, asked again for every message.
            host: an address of this machine, or a wildcard.
            port: 0 takes a free one.
            on_link: called on the event loop when the link to a peer comes up, goes down, or has
                another trouble: its key, and whether it is up.
        """
        self.host = host
        self.port = port
        self.refused: Counter[str] = Counter()
        """Dropped frames by code; `stranger` counts frames and handshakes."""
        self.bytes_by_kind: Counter[str] = Counter()
        """Bytes sent, by message, and `links` for handshakes and heartbeats that ended links
        sent."""
        self._on_link = on_link
        self._keys = keys
        self._roster = roster
        self._context = zmq.asyncio.Context()
        self._zap = ZapTask(self._context, roster.name_of)
        self._router = self._context.socket(zmq.ROUTER)
        self._monitor = self._context.socket(zmq.PAIR)
        self._peers: dict[MachineKey, PeerLink] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._closing: set[asyncio.Task[None]] = set()
        self._inbox: asyncio.Queue[tuple[MachineKey, Any] | FailureError] = asyncio.Queue(
            HIGH_WATER_IN
        )
        self._heartbeats = Heartbeats(HEARTBEAT_MS / 1000)
        self._addresses: dict[MachineKey, str] = {}
        self._refusals: OrderedDict[MachineKey, tuple[int, str]] = OrderedDict()
        """The roster's version and the error of each machine's last refused message, until a good
        one comes."""
        self._logged: OrderedDict[tuple[MachineKey, str], None] = OrderedDict()

    async def start(self) -> None:
        """Start the authenticator, then listen.

        Raises:
            FailureError: the port is in use, or the host is not this machine's.
        """
        self._zap.start(self._ended)
        listening(
            self._router,
            self._keys,
            self.host,
            HIGH_WATER_IN,
            MAX_CONTROL_FRAME_BYTES + CURVE_BYTES,
        )
        self._router.monitor("inproc://meshd.monitor.listen", int(_EVENTS))
        self._monitor.connect("inproc://meshd.monitor.listen")
        self._tasks.append(asyncio.create_task(self._watch(), name="control monitor"))
        try:
            self._router.bind(endpoint(self.host, self.port))
        except zmq.ZMQError as error:
            await self.close()
            raise FailureError(
                f"cannot listen on {self.host}, port {self.port}: {os.strerror(error.errno or 0)};"
                " choose others with --host and --port"
            ) from None
        self.port = bound_port(self._router)
        reader = asyncio.create_task(self._read(), name="control reader")
        reader.add_done_callback(self._ended)
        self._tasks.append(reader)

    @property
    def bytes_sent(self) -> int:
        """Bytes put on the wire by this side: messages, framing, CURVE, handshakes, heartbeats."""
        now = time.monotonic()
        links = sum(peer.bytes_sent(now) for peer in self._peers.values())
        return self.bytes_by_kind.total() + links + self._heartbeats.bytes_sent(now)

    @property
    def strangers(self) -> dict[MachineKey, str]:
        """Address by key of the last machines that knocked and are not on the roster."""
        return dict(self._zap.judge.strangers)

    def connect(self, key: MachineKey, host: str, port: int) -> None:
        """Keep a link to a peer there; the link that led elsewhere ends. Returns at once."""
        peer = self._peers.get(key)
        if peer is not None and peer.address == (host, port):
            return
        self.disconnect(key)
        self._peers[key] = PeerLink(
            self._context, self._keys, key, host, port, lambda: self._link_changed(key)
        )

    def disconnect(self, key: MachineKey) -> None:
        """End the link to a peer, if there is one. What it sends us still comes in."""
        peer = self._peers.pop(key, None)
        if peer is not None:
            self.bytes_by_kind["links"] += peer.bytes_sent(time.monotonic())
            task = asyncio.create_task(peer.close(linger_ms=0))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def send(self, key: MachineKey, message: Any) -> bool:
        """Send one message without waiting.

        Returns:
            False if there is no link, it is not up, or too much waits for it already.

        Raises:
            LocalProtocolError: not a valid message: a defect of ours.
        """
        data = encode(message)
        peer = self._peers.get(key)
        if peer is None or not peer.send(data):
            return False
        self.bytes_by_kind[type(message).__name__] += message_bytes(len(data))
        return True

    async def receive(self) -> tuple[MachineKey, Any]:
        """The next good message and the key of the machine that sent it; safe to cancel.

        Raises:
            FailureError: the authenticator or the reader has died; the daemon must end.
        """
        item = await self._inbox.get()
        if isinstance(item, FailureError):
            raise item
        return item

    def is_up(self, key: MachineKey) -> bool:
        """Whether our link to a peer is up, as far as the transport knows."""
        peer = self._peers.get(key)
        return peer is not None and peer.up

    def trouble(self, key: MachineKey) -> str:
        """Why a peer cannot be reached, or what was wrong with what it sent last; else empty.
        A refusal under another roster says nothing any more."""
        peer = self._peers.get(key)
        if peer is not None and peer.trouble:
            return peer.trouble
        name = self._roster.name_of(key) or "the machine"
        version, what = self._refusals.get(key, (-1, ""))
        return f"{name} sent what cannot be read: {what}" if version == self._roster.version else ""

    def address_of(self, key: MachineKey) -> str | None:
        """The IP address that a peer's last message came from."""
        return self._addresses.get(key)

    async def close(self) -> None:
        """End all links; messages that were just sent get LINGER_MS to leave. Twice is once."""
        if self._router.closed:
            return
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._closing, return_exceptions=True)
        for peer in self._peers.values():
            self.bytes_by_kind["links"] += peer.bytes_sent(time.monotonic())
            await peer.close(LINGER_MS)
        self._peers.clear()
        self._router.disable_monitor()
        self._monitor.close(linger=0)
        self._router.close(linger=0)
        await self._zap.close()
        await asyncio.to_thread(self._context.term)

    async def _read(self) -> None:
        """The one reader of the ROUTER. A plain receive that nobody cancels but `close`: cancelling
        one can lose a message (pyzmq issue 1925)."""
        while True:
            frames = await self._router.recv_multipart(copy=False)
            try:
                item = self._accept(frames)
            except RemoteProtocolError as error:
                self._refuse(_user_id(frames[-1]), error)
            else:
                await self._inbox.put(item)

    def _accept(self, frames: list[zmq.Frame]) -> tuple[MachineKey, Any]:
        """Routing id and one frame, from a machine that is on the roster now."""
        sender = _user_id(frames[-1])
        if sender is None or self._roster.name_of(sender) is None:
            raise RemoteProtocolError("stranger", "a message from a machine that is not trusted")
        if len(frames) != 2:
            raise RemoteProtocolError("extra-frames", f"a message of {len(frames) - 1} frames")
        message = decode(frames[1].buffer, Family.MACHINE)
        address = frames[1].get("Peer-Address")
        if isinstance(address, str):
            self._addresses[sender] = address
        self._refusals.pop(sender, None)
        return sender, message

    def _refuse(self, sender: MachineKey | None, error: RemoteProtocolError) -> None:
        self.refused[error.code] += 1
        who = MachineKey("") if sender is None else sender
        name = self._roster.name_of(who) or who or "an unknown machine"
        if (who, error.code) not in self._logged:
            log.warning("dropped a message from %s: %s: %s", name, error.code, error)
        _remember(self._logged, (who, error.code), None)
        _remember(self._refusals, who, (self._roster.version, str(error)))

    async def _watch(self) -> None:
        """Counts what the listening side sends in handshakes and heartbeats."""
        while True:
            event = parse_monitor_message(await self._monitor.recv_multipart())
            now = time.monotonic()
            if event["event"] == zmq.Event.ACCEPTED:
                self._heartbeats.up(event["value"], now)  # the link's file descriptor
            elif event["event"] == zmq.Event.DISCONNECTED:
                self._heartbeats.down(event["value"], now)
            elif event["event"] == zmq.Event.HANDSHAKE_SUCCEEDED:
                self.bytes_by_kind["links"] += server_handshake_bytes("ROUTER")
            elif event["event"] == zmq.Event.HANDSHAKE_FAILED_AUTH:
                self.bytes_by_kind["links"] += refusal_bytes()
                self.refused["stranger"] += 1

    def _link_changed(self, key: MachineKey) -> None:
        if self._on_link is not None:
            self._on_link(key, self.is_up(key))

    def _ended(self, task: asyncio.Task[None]) -> None:
        """The reader or the authenticator is over: say so to whoever receives."""
        if task.cancelled():
            return
        error = FailureError(f"the {task.get_name()} died: {task.exception()}; restart the daemon")
        notice = asyncio.create_task(self._inbox.put(error))
        self._closing.add(notice)
        notice.add_done_callback(self._closing.discard)


def _remember(memory: OrderedDict[Any, Any], key: object, value: object) -> None:
    """Note it as the newest of the last MAX_REFUSALS."""
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > MAX_REFUSALS:
        memory.popitem(last=False)


def _user_id(frame: zmq.Frame) -> MachineKey | None:
    """The public key that the sender proved in the handshake."""
    with contextlib.suppress(zmq.ZMQError):
        user = frame.get("User-Id")
        return MachineKey(user) if isinstance(user, str) and user else None
    return None
