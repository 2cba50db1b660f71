"""Counted bytes against the bytes that really pass: a TCP proxy between the two sockets counts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.messages import Goodbye, Heartbeat, RingMember
from meshd.net.bulk import BulkLinks, LinkLost, Received
from meshd.net.control import ControlLinks
from meshd.net.counting import (
    PING_BYTES,
    PONG_BYTES,
    Heartbeats,
    frame_bytes,
    message_bytes,
)
from meshd.net.options import HEARTBEAT_MS
from meshd.wire.bulk import BulkHeader

Make = Callable[[str], Any]
HOST = "127.0.0.1"
PAYLOADS = (0, 1, 100, 221, 222, 223, 255, 256, 1000, 65_535, 65_536, 1_000_000)


class CountingProxy:
    """Passes TCP bytes on, both ways, and counts them."""

    def __init__(self, port: int) -> None:
        self.to_server = 0
        self.to_client = 0
        self._target = port
        self._news = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._pass, HOST, 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await self._pass_on(reader, writer)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(HOST, self._target)
        try:
            await asyncio.gather(
                self._pump(reader, far_writer, "to_server"),
                self._pump(far_reader, writer, "to_client"),
            )
        finally:
            writer.close()
            far_writer.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, counter: str
    ) -> None:
        while data := await reader.read(1 << 16):
            setattr(self, counter, getattr(self, counter) + len(data))
            self._news.set()
            writer.write(data)
            await writer.drain()

    async def settle(self, to_server: Callable[[], int], to_client: Callable[[], int]) -> None:
        """Wait until exactly the counted bytes have passed. The counts may come a moment after
        the bytes, so they are asked again; if they never agree, the test's own limit ends it."""
        while (self.to_server, self.to_client) != (to_server(), to_client()):
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), 0.05)

    async def close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def test_control_bytes_are_exact_handshake_included(machine: Make) -> None:
    ada, bob = machine("ada"), machine("bob")
    bob.trust(ada)
    up = asyncio.Event()
    a = ControlLinks(ada.keys, ada.roster, HOST, 0, lambda key, is_up: is_up and up.set())
    b = ControlLinks(bob.keys, bob.roster, HOST, 0)
    await a.start()
    await b.start()
    proxy = CountingProxy(b.port)
    a.connect(bob.key, HOST, await proxy.start())
    await up.wait()
    for length in (0, 1, 100, 170, 171, 172, 173, 200, 1000):
        message = Goodbye("x" * length)
        assert a.send(bob.key, message)
        assert await b.receive() == (ada.key, message)
        await proxy.settle(lambda: a.bytes_sent, lambda: b.bytes_sent)
    assert a.send(bob.key, Heartbeat(1, 1, True, "x"))
    await b.receive()
    await proxy.settle(lambda: a.bytes_sent, lambda: b.bytes_sent)
    assert a.bytes_by_kind["Heartbeat"] == 2 + 33 + 5 + 34, "framing, box, header, fields"
    await a.close()
    await b.close()
    await proxy.close()


async def test_a_refused_handshake_is_counted_by_who_refuses(machine: Make) -> None:
    ada, bob = machine("ada"), machine("bob")
    refused = asyncio.Event()
    a = ControlLinks(ada.keys, ada.roster, HOST, 0, lambda key, is_up: refused.set())
    b = ControlLinks(bob.keys, bob.roster, HOST, 0)
    await a.start()
    await b.start()
    proxy = CountingProxy(b.port)
    a.connect(bob.key, HOST, await proxy.start())
    await refused.wait()
    assert "does not trust" in a.trouble(bob.key)
    await proxy.settle(lambda: proxy.to_server, lambda: b.bytes_sent)
    assert b.bytes_sent == 64 + 170 + 12
    await a.close()
    await b.close()
    await proxy.close()


async def test_bulk_bytes_are_exact_handshake_included(machine: Make) -> None:
    ada, bob = machine("ada"), machine("bob")
    bob.trust(ada)
    a = BulkLinks(ada.keys, ada.roster, HOST)
    b = BulkLinks(bob.keys, bob.roster, HOST)
    proxy = CountingProxy(b.port)
    a.reach([RingMember(bob.key, "bob", HOST, await proxy.start())])
    b.expect({ada.key})
    for size in PAYLOADS:
        a.send(bob.key, BulkHeader(0, 1, 0, 0, 0, size), bytes(size))
        came: list[Received | LinkLost] = []
        while not came:
            await asyncio.to_thread(a.wait, 0.05)
            came = await asyncio.to_thread(b.wait, 0.05)
        assert isinstance(came[0], Received) and len(came[0].payload) == size
        await proxy.settle(lambda: a.bytes_sent, lambda: b.bytes_sent)
    assert a.bytes_sent > sum(PAYLOADS) and b.bytes_sent > 64
    await asyncio.to_thread(a.close, 0)
    await asyncio.to_thread(b.close, 0)
    await proxy.close()


async def test_heartbeats_are_counted(machine: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each side sends a PING an interval, and a PONG for each of the other's."""
    monkeypatch.setattr("meshd.net.options.HEARTBEAT_MS", 100)
    ada, bob = machine("ada"), machine("bob")
    bob.trust(ada)
    up = asyncio.Event()
    a = ControlLinks(ada.keys, ada.roster, HOST, 0, lambda key, is_up: is_up and up.set())
    b = ControlLinks(bob.keys, bob.roster, HOST, 0)
    await a.start()
    await b.start()
    proxy = CountingProxy(b.port)
    a.connect(bob.key, HOST, await proxy.start())
    await up.wait()
    base_a, base_b = a.bytes_sent, b.bytes_sent
    rounds = 0
    while rounds < 3:  # the proxy's counters grow by whole PINGs and PONGs, and by nothing else
        proxy._news.clear()
        await proxy._news.wait()
        for extra in (proxy.to_server - base_a, proxy.to_client - base_b):
            assert any(
                extra == pings * PING_BYTES + pongs * PONG_BYTES
                for pings in range(99)
                for pongs in range(99)
            )
        rounds = (proxy.to_server - base_a) // (PING_BYTES + PONG_BYTES)
    await a.close()
    await b.close()
    await proxy.close()


def test_heartbeats_are_a_function_of_time() -> None:
    beats = Heartbeats(HEARTBEAT_MS / 1000)
    each = PING_BYTES + PONG_BYTES
    beats.up("a", 0.0)
    assert beats.bytes_sent(4.9) == 0 and beats.bytes_sent(5.0) == each
    beats.up("b", 5.0)
    assert beats.bytes_sent(10.0) == 3 * each
    beats.down("a", 12.0)
    beats.down("a", 99.0)
    assert beats.bytes_sent(12.0) == 3 * each and beats.bytes_sent(15.0) == 4 * each
    beats.up("b", 20.0)  # a new link under an old name
    assert beats.bytes_sent(20.0) == 5 * each


@given(st.lists(st.integers(0, 100_000), max_size=5))
def test_a_message_is_the_sum_of_its_frames(sizes: list[int]) -> None:
    assert message_bytes(*sizes) == sum(frame_bytes(size) for size in sizes)


@given(st.integers(0, 2**31))
def test_overhead_is_35_or_42_bytes_a_frame(size: int) -> None:
    assert frame_bytes(size) - size == (35 if size <= 222 else 42)
