"""Control links over real sockets: who gets in, who does not, and that bad frames hurt nobody."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import zmq
import zmq.asyncio
from zmq.utils.monitor import parse_monitor_message

from meshd.core.errors import FailureError, LocalProtocolError
from meshd.core.messages import Block, Goodbye, Heartbeat, Hello, LocalBody
from meshd.core.types import BlobId, MachineKey
from meshd.net.control import ControlLinks
from meshd.net.options import bound_port, connecting
from meshd.net.peer_link import WAITING_BYTES
from meshd.wire.codec import encode
from meshd.wire.limits import BLOCK_BYTES, MAX_CONTROL_FRAME_BYTES

Make = Callable[[str], Any]
BEAT = Heartbeat(1, 1, True, "idle")
HOST = "127.0.0.1"


class Node:
    """A machine's control links and the events of its links."""

    def __init__(self, machine: Any, port: int = 0, host: str = HOST) -> None:
        self.events: asyncio.Queue[tuple[MachineKey, bool]] = asyncio.Queue()
        self.machine = machine
        self.links = ControlLinks(
            machine.keys, machine.roster, host, port, lambda *event: self.events.put_nowait(event)
        )

    async def is_up(self, other: Node, up: bool = True) -> None:
        """Wait until the link to another node is up (or down)."""
        while self.links.is_up(other.machine.key) != up:
            await self.events.get()

    async def trouble(self, key: MachineKey, text: str) -> str:
        """Wait until the link has a trouble that says this."""
        while text not in self.links.trouble(key):
            await self.events.get()
        return self.links.trouble(key)

    async def reach(self, other: Node) -> None:
        self.links.connect(other.machine.key, HOST, other.links.port)
        await self.is_up(other)


@contextlib.asynccontextmanager
async def nodes(*machines: Any) -> AsyncIterator[list[Node]]:
    """Started nodes, closed in the end."""
    started = [Node(machine) for machine in machines]
    for node in started:
        await node.links.start()
    try:
        yield started
    finally:
        for node in started:
            await node.links.close()


@contextlib.contextmanager
def raw_dealer(server: Node, machine: Any | None) -> Iterator[tuple[Any, Any]]:
    """A socket that keeps to no protocol but ZMTP, and its monitor; without a machine, NULL."""
    context = zmq.asyncio.Context()
    dealer = context.socket(zmq.DEALER)
    if machine is not None:
        connecting(dealer, machine.keys, server.machine.key, 1000)
    dealer.linger = 0
    monitor = dealer.get_monitor_socket()
    dealer.connect(f"tcp://{HOST}:{server.links.port}")
    try:
        yield dealer, monitor
    finally:
        dealer.disable_monitor()
        context.destroy(linger=0)


async def event(monitor: Any, *kinds: zmq.Event) -> None:
    """Wait for one of these events."""
    while parse_monitor_message(await monitor.recv_multipart())["event"] not in kinds:
        pass


async def test_members_of_the_roster_talk_both_ways(machine: Make) -> None:
    ada, bob = machine("ada"), machine("bob")
    ada.trust(bob)
    bob.trust(ada)
    async with nodes(ada, bob) as (a, b):
        await a.reach(b)
        await b.reach(a)
        block = Block(BlobId("ab" * 32), 0, bytes(range(256)) * (BLOCK_BYTES // 256))
        for message in (Hello(1, "ada", HOST, a.links.port, 7, "0.1"), BEAT, block):
            assert a.links.send(bob.key, message)
            assert await b.links.receive() == (ada.key, message)
        assert b.links.send(ada.key, BEAT)
        assert await a.links.receive() == (bob.key, BEAT)
        assert b.links.address_of(ada.key) == HOST
        assert a.links.trouble(bob.key) == "" and not b.links.refused


async def test_order_is_kept_and_cancelled_receives_lose_nothing(machine: Make) -> None:
    ada, bob = machine("ada"), machine("bob")
    bob.trust(ada)
    async with nodes(ada, bob) as (a, b):
        await a.reach(b)
        got = []
        for number in range(200):
            waiting = asyncio.create_task(b.links.receive())
            if number % 3 == 0:
                waiting.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await waiting
                waiting = asyncio.create_task(b.links.receive())
            assert a.links.send(bob.key, Heartbeat(1, number, True, ""))
            got.append((await waiting)[1].sequence)
        assert got == list(range(200))


async def test_a_stranger_is_refused_and_let_in_once_trusted(machine: Make) -> None:
    ada, bob = machine("ada"), machine("bob")
    async with nodes(ada, bob) as (a, b):
        a.links.connect(bob.key, HOST, b.links.port)
        trouble = await a.trouble(bob.key, "does not trust this one")
        assert "meshd trust" in trouble and "\n" not in trouble
        assert not a.links.send(bob.key, BEAT), "nothing queues for a link that is not up"
        assert b.links.strangers == {ada.key: HOST}
        bob.trust(ada)
        await a.is_up(b)  # libzmq itself would never try again
        assert a.links.send(bob.key, BEAT)
        assert await b.links.receive() == (ada.key, BEAT)
        assert b.links.refused["stranger"] >= 1


async def test_removal_from_the_roster_is_refused_per_message(machine: Make, net_log: Any) -> None:
    ada, bob, eve = machine("ada"), machine("bob"), machine("eve")
    bob.trust(ada, eve)
    async with nodes(ada, bob, eve) as (a, b, e):
        await a.reach(b)
        await e.reach(b)
        assert e.links.send(bob.key, BEAT)
        assert (await b.links.receive())[0] == eve.key
        bob.distrust(eve)
        assert e.links.is_up(bob.key), "a live connection survives its key's removal"
        assert e.links.send(bob.key, BEAT)
        await net_log.wait_for("stranger")
        assert b.links.refused == {"stranger": 1}
        bob.trust(eve)
        assert b.links.trouble(eve.key) == "", "a refusal under another roster is over"
        assert a.links.send(bob.key, BEAT)
        assert (await b.links.receive())[0] == ada.key


async def test_a_null_client_is_refused(machine: Make) -> None:
    ada, bob = machine("ada"), machine("bob")
    bob.trust(ada)
    async with nodes(ada, bob) as (a, b):
        with raw_dealer(b, None) as (dealer, monitor):
            await dealer.send(encode(BEAT))  # waits in the client for a link that never comes
            await event(monitor, zmq.Event.HANDSHAKE_FAILED_PROTOCOL)
            await a.reach(b)
            assert a.links.send(bob.key, Goodbye("first"))
            assert await b.links.receive() == (ada.key, Goodbye("first"))


async def test_an_oversize_frame_costs_its_sender_the_link_and_nobody_else(machine: Make) -> None:
    ada, bob, eve = machine("ada"), machine("bob"), machine("eve")
    bob.trust(ada, eve)
    async with nodes(ada, bob) as (a, b):
        await a.reach(b)
        with raw_dealer(b, eve) as (dealer, monitor):
            await event(monitor, zmq.Event.HANDSHAKE_SUCCEEDED)
            await dealer.send(bytes(MAX_CONTROL_FRAME_BYTES + 1000))
            await event(monitor, zmq.Event.DISCONNECTED)
        assert a.links.is_up(bob.key)
        assert a.links.send(bob.key, BEAT)
        assert await b.links.receive() == (ada.key, BEAT)


async def test_malformed_messages_are_counted_and_dropped(machine: Make, net_log: Any) -> None:
    ada, bob, eve = machine("ada"), machine("bob"), machine("eve")
    bob.trust(ada, eve)
    good = encode(BEAT)
    bad = {
        "not-meshd": [b""],
        "version": [b"mD\x02" + good[3:]],
        "malformed": [good[:-1]],
        "wrong-link": [encode(LocalBody(b""))],
        "extra-frames": [good, good],
    }
    async with nodes(ada, bob) as (a, b):
        await a.reach(b)
        with raw_dealer(b, eve) as (dealer, _):
            for frames in bad.values():
                await dealer.send_multipart(frames)
            await dealer.send_multipart([bytes(1000)] * 20_000)  # each below MAXMSGSIZE
            await net_log.wait_for("dropped a message from eve: extra-frames")
            assert "eve sent what cannot be read" in b.links.trouble(eve.key)
            await dealer.send(good)
            assert await b.links.receive() == (eve.key, BEAT), "the first good one"
        assert b.links.refused == {code: 1 for code in bad} | {"extra-frames": 2}
        assert b.links.trouble(eve.key) == "", "a good message ends the trouble"
        assert a.links.send(bob.key, BEAT)
        assert await b.links.receive() == (ada.key, BEAT)


async def test_a_roster_that_cannot_be_asked_refuses_and_recovers(machine: Make) -> None:
    """pyzmq's own authenticator dies of a callback that raises; ours refuses and lives."""
    ada, bob = machine("ada"), machine("bob")
    bob.trust(ada)
    b = Node(bob)
    answer = b.links._roster.name_of

    def broken(key: str) -> str | None:
        raise RuntimeError("no answer")

    b.links._zap.judge._name_of = broken
    await b.links.start()
    async with nodes(ada) as (a,):
        a.links.connect(bob.key, HOST, b.links.port)
        await a.trouble(bob.key, "does not trust this one")
        assert b.links._zap.alive
        b.links._zap.judge._name_of = answer
        await a.is_up(b)
    await b.links.close()


async def test_the_death_of_the_authenticator_ends_the_daemon(machine: Make) -> None:
    async with nodes(machine("ada")) as (a,):
        a.links._zap._socket.close()
        with pytest.raises(FailureError, match="authenticator died"):
            await a.links.receive()


async def test_without_an_authenticator_everybody_is_refused(machine: Make) -> None:
    """ZAP_ENFORCE_DOMAIN: libzmq's default would let everybody in."""
    ada, bob = machine("ada"), machine("bob")
    bob.trust(ada)
    async with nodes(ada, bob) as (a, b):
        await b.links._zap.close()
        a.links.connect(bob.key, HOST, b.links.port)
        with raw_dealer(b, ada) as (_, monitor):
            await event(
                monitor,
                zmq.Event.HANDSHAKE_FAILED_NO_DETAIL,
                zmq.Event.HANDSHAKE_FAILED_AUTH,
                zmq.Event.DISCONNECTED,
            )
        assert not a.links.is_up(bob.key)


async def test_a_port_in_use_is_one_line(machine: Make) -> None:
    async with nodes(machine("ada")) as (a,):
        with pytest.raises(FailureError) as caught:
            await Node(machine("bob"), a.links.port).links.start()
    assert "Address already in use" in str(caught.value) and "--port" in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_host_that_is_not_ours_is_one_line(machine: Make) -> None:
    with pytest.raises(FailureError, match=r"cannot listen on 192\.0\.2\.77"):
        await Node(machine("ada"), host="192.0.2.77").links.start()


async def test_why_a_link_is_not_up_is_said(machine: Make) -> None:
    ada, bob, eve = machine("ada"), machine("bob"), machine("eve")
    async with nodes(ada, bob) as (a, b):
        a.links.connect(eve.key, HOST, b.links.port)
        await a.trouble(eve.key, "another key")
        a.links.connect(eve.key, "localhost", 1)
        await a.trouble(eve.key, "nothing answers at localhost, port 1")
        a.links.connect(eve.key, "host.invalid", 1)
        await a.trouble(eve.key, "host.invalid does not resolve")
        a.links.connect(eve.key, HOST, a.links.port)
        a.links.disconnect(eve.key)
        assert not a.links.is_up(eve.key) and not a.links.send(eve.key, BEAT)


async def test_a_restarted_peer_is_met_again(machine: Make) -> None:
    ada, bob = machine("ada"), machine("bob")
    bob.trust(ada)
    async with nodes(ada, bob) as (a, b):
        await a.reach(b)
        port = b.links.port
        await b.links.close()
        await a.is_up(b, up=False)
        assert not a.links.send(bob.key, BEAT)
        again = Node(bob, port)
        await again.links.start()
        await a.is_up(again)
        assert a.links.send(bob.key, BEAT)
        assert await again.links.receive() == (ada.key, BEAT)
        await again.links.close()


async def test_a_goodbye_still_leaves_at_the_end(machine: Make) -> None:
    ada, bob = machine("ada"), machine("bob")
    bob.trust(ada)
    async with nodes(bob) as (b,):
        a = Node(ada)
        await a.links.start()
        await a.reach(b)
        assert a.links.send(bob.key, Goodbye("shutdown"))
        await a.links.close()
        assert await b.links.receive() == (ada.key, Goodbye("shutdown"))


async def test_sending_never_blocks_and_says_when_it_is_too_much(machine: Make) -> None:
    ada, bob = machine("ada"), machine("bob")
    bob.trust(ada)
    async with nodes(ada, bob) as (a, b):
        await a.reach(b)
        block = Block(BlobId("ab" * 32), 0, bytes(BLOCK_BYTES))
        sent = 0
        while a.links.send(bob.key, block):  # nobody receives
            sent += 1
            assert sent < 1500, "no limit holds"
        for _ in range(sent):
            assert (await b.links.receive())[1] == block


async def test_an_invalid_message_is_our_own_mistake(machine: Make) -> None:
    async with nodes(machine("ada")) as (a,):
        with pytest.raises(LocalProtocolError):
            a.links.send(MachineKey("x" * 40), "hello")


async def test_a_peer_that_asks_and_never_reads_costs_bounded_memory(machine: Make) -> None:
    ada, bob = machine("ada"), machine("bob")
    ada.trust(bob)
    context = zmq.asyncio.Context()
    deaf = context.socket(zmq.ROUTER)
    deaf.curve_server = True  # without an authenticator: it lets everyone in
    deaf.curve_publickey, deaf.curve_secretkey = bob.key.encode(), bob.keys.secret.encode()
    deaf.rcvhwm = 1
    deaf.bind(f"tcp://{HOST}:0")
    try:
        async with nodes(ada) as (a,):
            a.links.connect(bob.key, HOST, bound_port(deaf))
            while not a.links.is_up(bob.key):
                await a.events.get()
            block = Block(BlobId("ab" * 32), 0, bytes(BLOCK_BYTES))
            taken = 0
            while a.links.send(bob.key, block):
                taken += 1
                assert taken < 200
            # What waits here, and what fits into the sockets' own buffers on both sides.
            assert WAITING_BYTES // BLOCK_BYTES - 1 <= taken <= WAITING_BYTES // BLOCK_BYTES + 12
    finally:
        context.destroy(linger=0)
