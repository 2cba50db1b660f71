"""Bulk links over real sockets: order, no copies, frames of strangers, links that break."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import zmq

from meshd.core.errors import FailureError, LocalProtocolError
from meshd.core.messages import RingMember
from meshd.net.bulk import HIGH_WATER, BulkLinks, LinkLost, Received
from meshd.net.options import connecting
from meshd.wire.bulk import BulkHeader, pack
from meshd.wire.limits import MAX_BULK_PAYLOAD_BYTES

Make = Callable[[str], Any]
HOST = "127.0.0.1"
WAITS = 600  # bounded waits of 0.1 s


@contextmanager
def links(*machines: Any) -> Iterator[list[BulkLinks]]:
    made = [BulkLinks(machine.keys, machine.roster, HOST) for machine in machines]
    try:
        yield made
    finally:
        for link in made:
            link.close(0)


def member(machine: Any, link: BulkLinks) -> RingMember:
    return RingMember(machine.key, machine.name, HOST, link.port)


def header(step: int, size: int) -> BulkHeader:
    return BulkHeader(1, 1, step, 0, 0, size, 77)


@contextmanager
def raw_push(server: Any, link: BulkLinks, machine: Any) -> Iterator[Any]:
    """A member's socket that sends what it likes."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    push = context.socket(zmq.PUSH)
    connecting(push, machine.keys, server.key, 100)
    push.linger = 0
    push.connect(f"tcp://{HOST}:{link.port}")
    yield push
    context.destroy(linger=0)


def until(link: BulkLinks, done: Callable[[], bool], *others: BulkLinks) -> list[Any]:
    """Events until `done`; the others' links are served meanwhile."""
    events: list[Any] = []
    for _ in range(WAITS):
        events.extend(link.wait(0.0 if others else 0.1))
        for other in others:
            other.wait(0.01)
        if done():
            return events
    raise AssertionError(f"it never came: {events}")


def some(link: BulkLinks, count: int, *others: BulkLinks) -> list[Any]:
    """The next `count` events."""
    events: list[Any] = []
    for _ in range(WAITS):
        events.extend(link.wait(0.0 if others else 0.1))
        for other in others:
            other.wait(0.01)
        if len(events) >= count:
            return events
    raise AssertionError(f"only {events}")


def test_all_to_all_keeps_order_and_content(machine: Make) -> None:
    machines = [machine(name) for name in ("ada", "bob", "eve")]
    for one in machines:
        one.trust(*machines)
    with links(*machines) as group:
        addresses = [member(one, link) for one, link in zip(machines, group, strict=True)]
        for link in group:
            link.expect({one.key for one in machines})
            link.reach(addresses)
        steps = 2 * HIGH_WATER
        failures: list[BaseException] = []

        def train(rank: int) -> None:
            try:
                for step in range(steps):
                    for to in range(3):
                        if to != rank:
                            mine = bytes([rank, step % 256]) * (1 + 97 * (step % 7))
                            group[rank].send(machines[to].key, header(step, len(mine)), mine)
                heard = {one.key: 0 for one in machines}
                deadline = time.monotonic() + 60
                while sum(heard.values()) < 2 * steps and time.monotonic() < deadline:
                    for event in group[rank].wait(0.1):
                        assert isinstance(event, Received)
                        step = heard[event.sender]
                        sender = [one.key for one in machines].index(event.sender)
                        wanted = bytes([sender, step % 256]) * (1 + 97 * (step % 7))
                        assert event.header.step == step and bytes(event.payload) == wanted
                        heard[event.sender] += 1
                assert sum(heard.values()) == 2 * steps
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=train, args=(rank,)) for rank in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert not any(link.refused for link in group)


def test_payloads_are_not_copied(machine: Make) -> None:
    ada, bob = machine("ada"), machine("bob")
    bob.trust(ada)
    with links(ada, bob) as (a, b):
        a.reach([member(bob, b)])
        b.expect({ada.key})
        size = 8 << 20
        memory = bytearray(b"\x05" * size)
        a.send(bob.key, header(0, size), memoryview(memory).cast("f").toreadonly())
        with pytest.raises(BufferError):
            memory.append(0)  # the memory itself is held, not a copy of it
        (event,) = some(b, 1, a)
        assert event.payload.readonly and len(event.payload) == size
        assert event.payload.cast("f")[0] == memoryview(memory).cast("f")[0]
        assert isinstance(event.payload.obj, zmq.Frame), "the view is of libzmq's message"
        assert event.header.tag == 77


def test_only_members_are_heard(machine: Make) -> None:
    ada, bob, eve = machine("ada"), machine("bob"), machine("eve")
    bob.trust(ada, eve)
    with links(ada, bob, eve) as (a, b, e):
        e.reach([member(bob, b)])
        b.expect({ada.key})
        e.send(bob.key, header(1, 3), b"bad")
        until(b, lambda: b.refused["stranger"] == 1, e)
        a.reach([member(bob, b)])
        a.send(bob.key, header(1, 4), b"good")
        assert [bytes(event.payload) for event in some(b, 1, a)] == [b"good"]
        bob.distrust(ada)  # also when it is a member: the roster is asked for each frame
        a.send(bob.key, header(2, 4), b"gone")
        until(b, lambda: b.refused["stranger"] == 2, a)


def test_a_member_that_does_not_trust_us_is_named(machine: Make) -> None:
    ada, bob = machine("ada"), machine("bob")
    with links(ada, bob) as (a, b):
        a.reach([member(bob, b)])
        (lost,) = some(a, 1, b)
        assert lost == LinkLost(bob.key, "does not trust this machine; run `meshd trust` there")


def test_a_link_that_breaks_is_reported_once(machine: Make) -> None:
    ada, bob = machine("ada"), machine("bob")
    bob.trust(ada)
    with links(ada) as (a,):
        b = BulkLinks(bob.keys, bob.roster, HOST)
        b.expect({ada.key})
        a.reach([member(bob, b)])
        a.send(bob.key, header(0, 1), b"x")
        some(b, 1, a)
        b.close(0)
        assert some(a, 1) == [LinkLost(bob.key, "closed its link")]
        assert a.wait(0.5) == []


def test_a_member_that_moved_is_reached_where_it_is(machine: Make) -> None:
    """A worker that was started again listens on another port."""
    ada, bob = machine("ada"), machine("bob")
    bob.trust(ada)
    with links(ada, bob) as (a, b):
        a.reach([RingMember(bob.key, "bob", HOST, 1)])
        a.send(bob.key, header(0, 3), b"old")
        a.reach([member(bob, b)])
        b.expect({ada.key})
        a.send(bob.key, header(1, 3), b"new")
        assert [bytes(event.payload) for event in some(b, 1, a)] == [b"new"]


def test_what_finds_no_room_waits_and_keeps_its_order(machine: Make) -> None:
    ada, bob = machine("ada"), machine("bob")
    bob.trust(ada)
    with links(ada, bob) as (a, b):
        a.reach([member(bob, b)])
        b.expect({ada.key})
        for step in range(50):  # the handshake has not even begun
            a.send(bob.key, header(step, 1 << 16), bytes(1 << 16))
        assert [event.header.step for event in some(b, 50, a)] == list(range(50))


def test_a_machine_that_is_not_reached_gets_nothing(machine: Make) -> None:
    ada, bob = machine("ada"), machine("bob")
    with links(ada) as (a,):
        a.send(bob.key, header(0, 1), b"x")
        assert a.refused["unreached"] == 1 and a.bytes_sent == 0


def test_bad_messages_are_counted_and_dropped(machine: Make) -> None:
    ada, bob = machine("ada"), machine("bob")
    bob.trust(ada)
    good = pack(header(0, 4))
    bad = {
        "not-meshd": [b"junk", b"1234"],
        "version": [b"mB\x02" + good[3:], b"1234"],
        "malformed": [good, b"12345"],
        "extra-frames": [good, b"1234", b"1234"],
    }
    with links(bob) as (b,), raw_push(bob, b, ada) as push:
        b.expect({ada.key})
        for frames in bad.values():
            push.send_multipart(frames)
        push.send_multipart([good, b"1234"])
        (event,) = some(b, 1)
        assert bytes(event.payload) == b"1234"
        assert b.refused == {code: 1 for code in bad}


def test_an_oversize_payload_costs_its_sender_the_link(machine: Make) -> None:
    ada, bob = machine("ada"), machine("bob")
    bob.trust(ada)
    with links(bob) as (b,), raw_push(bob, b, ada) as push:
        b.expect({ada.key})
        monitor = push.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        push.send_multipart([pack(header(0, 4)), bytes(MAX_BULK_PAYLOAD_BYTES + 1000)])
        assert monitor.poll(30_000)
        assert b.wait(0) == [] and not b.refused
        monitor.close()


def test_wake_ends_a_wait(machine: Make) -> None:
    ada = machine("ada")
    with links(ada) as (a,):
        ends: list[Any] = []
        waiting = threading.Thread(target=lambda: ends.append(a.wait(3600)))
        waiting.start()
        a.wake()
        waiting.join(60)
        assert ends == [[]]
        for _ in range(100_000):  # more than the socket pair holds: none of them blocks
            a.wake()


def test_what_was_sent_still_leaves_at_the_end(machine: Make) -> None:
    ada, bob = machine("ada"), machine("bob")
    bob.trust(ada)
    with links(bob) as (b,):
        a = BulkLinks(ada.keys, ada.roster, HOST)
        a.reach([member(bob, b)])
        b.expect({ada.key})
        a.send(bob.key, header(0, 1), b"x")
        some(b, 1, a)
        for step in range(1, 11):
            a.send(bob.key, header(step, 1 << 20), bytes(1 << 20))
        closing = threading.Thread(target=a.close)
        closing.start()
        assert [event.header.step for event in some(b, 10)] == list(range(1, 11))
        closing.join(60)


def test_our_own_mistakes_are_ours(machine: Make) -> None:
    ada, bob = machine("ada"), machine("bob")
    with links(ada) as (a,):
        a.reach([RingMember(bob.key, "bob", HOST, 1)])
        with pytest.raises(LocalProtocolError):
            a.send(bob.key, header(0, 2), b"x")


def test_a_host_that_is_not_ours_is_one_line(machine: Make) -> None:
    ada = machine("ada")
    with pytest.raises(FailureError, match=r"cannot listen on 192\.0\.2\.77"):
        BulkLinks(ada.keys, ada.roster, "192.0.2.77")
