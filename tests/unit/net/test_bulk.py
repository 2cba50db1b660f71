"""Ring links over real sockets: order, no copies, and frames of anybody but the predecessor."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import zmq

from meshd.core.errors import FailureError, LocalProtocolError
from meshd.core.messages import RingMember
from meshd.net.bulk import HIGH_WATER, BulkLink
from meshd.net.options import connecting
from meshd.wire.bulk import BulkHeader, pack
from meshd.wire.limits import MAX_BULK_PAYLOAD_BYTES

Make = Callable[[str], Any]
HOST = "127.0.0.1"
WAIT_S = 30.0


@contextmanager
def links(*machines: Any) -> Iterator[list[BulkLink]]:
    made = [BulkLink(machine.keys, machine.roster, HOST) for machine in machines]
    try:
        yield made
    finally:
        for link in made:
            link.close(0)


def member(machine: Any, link: BulkLink) -> RingMember:
    return RingMember(machine.key, machine.name, HOST, link.port)


def header(step: int, size: int) -> BulkHeader:
    return BulkHeader(1, 1, step, 0, 0, size)


@contextmanager
def raw_push(server: Any, link: BulkLink, machine: Any) -> Iterator[Any]:
    """A member's socket that sends what it likes."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    push = context.socket(zmq.PUSH)
    connecting(push, machine.keys, server.key, 100)
    push.linger = 0
    push.connect(f"tcp://{HOST}:{link.port}")
    yield push
    context.destroy(linger=0)


def test_a_ring_of_three_keeps_order_and_content(machine: Make) -> None:
    machines = [machine(name) for name in ("ada", "bob", "eve")]
    for one in machines:
        one.trust(*machines)
    with links(*machines) as ring:
        for rank, link in enumerate(ring):
            after = (rank + 1) % 3
            link.connect(member(machines[after], ring[after]))
            link.expect(machines[rank - 1].key)
        steps = 3 * HIGH_WATER
        failures: list[BaseException] = []

        def train(rank: int) -> None:
            try:
                for step in range(steps):
                    mine = bytes([rank, step % 256]) * (1 + 997 * (step % 7))
                    ring[rank].send(header(step, len(mine)), mine, WAIT_S)
                    got = ring[rank].receive(WAIT_S)
                    assert got is not None and got[0].step == step
                    assert bytes(got[1]) == bytes([(rank - 1) % 3, step % 256]) * (len(mine) // 2)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=train, args=(rank,)) for rank in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert not any(link.refused for link in ring)


def test_payloads_are_not_copied(machine: Make) -> None:
    ada, bob = machine("ada"), machine("bob")
    bob.trust(ada)
    with links(ada, bob) as (a, b):
        a.connect(member(bob, b))
        b.expect(ada.key)
        size = 8 << 20
        memory = bytearray(b"\x05" * size)
        tracker = a.send(header(0, size), memoryview(memory).cast("f").toreadonly(), WAIT_S)
        with pytest.raises(BufferError):
            memory.append(0)  # libzmq holds the memory itself, not a copy of it
        got = b.receive(WAIT_S)
        assert got is not None
        payload = got[1]
        assert isinstance(payload, memoryview) and payload.readonly and len(payload) == size
        assert payload.cast("f")[0] == memoryview(memory).cast("f")[0]
        assert isinstance(payload.obj, zmq.Frame), "the view is of libzmq's message"
        tracker.wait(WAIT_S)
        assert tracker.done


def test_only_the_predecessor_is_heard(machine: Make) -> None:
    ada, bob, eve = machine("ada"), machine("bob"), machine("eve")
    bob.trust(ada, eve)
    with links(ada, bob, eve) as (a, b, e):
        e.connect(member(bob, b))
        b.expect(ada.key)
        e.send(header(1, 3), b"bad", WAIT_S)
        assert receive_refusal(b, "stranger")
        a.connect(member(bob, b))
        a.send(header(1, 4), b"good", WAIT_S)
        got = b.receive(WAIT_S)
        assert got is not None and bytes(got[1]) == b"good"
        bob.distrust(ada)  # also when it is the predecessor: the roster is asked for each frame
        a.send(header(2, 4), b"gone", WAIT_S)
        assert receive_refusal(b, "stranger", 2)


def receive_refusal(link: BulkLink, code: str, count: int = 1) -> bool:
    """Receive until something was refused; a bounded number of bounded waits."""
    for _ in range(300):
        assert link.receive(0.1) is None
        if link.refused[code] == count:
            return True
    return False


def test_a_successor_that_does_not_trust_us_is_named(machine: Make) -> None:
    ada, bob = machine("ada"), machine("bob")
    with links(ada, bob) as (a, b):
        a.connect(member(bob, b))
        with pytest.raises(FailureError, match=r"bob .* does not trust this machine"):
            a.send(header(0, 1), b"x", WAIT_S)


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
        b.expect(ada.key)
        for frames in bad.values():
            push.send_multipart(frames)
        push.send_multipart([good, b"1234"])
        got = b.receive(WAIT_S)
        assert got is not None and bytes(got[1]) == b"1234"
        assert b.refused == {code: 1 for code in bad}


def test_an_oversize_payload_costs_its_sender_the_link(machine: Make) -> None:
    ada, bob = machine("ada"), machine("bob")
    bob.trust(ada)
    with links(bob) as (b,), raw_push(bob, b, ada) as push:
        b.expect(ada.key)
        monitor = push.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        push.send_multipart([pack(header(0, 4)), bytes(MAX_BULK_PAYLOAD_BYTES + 1000)])
        assert monitor.poll(int(WAIT_S * 1000))
        assert b.receive(0) is None and not b.refused
        monitor.close()


def test_interrupting_ends_waits_at_once_and_for_good(machine: Make) -> None:
    ada, bob = machine("ada"), machine("bob")
    bob.trust(ada)
    with links(ada, bob) as (a, b):
        b.expect(ada.key)
        ends: list[Any] = []
        waiting = threading.Thread(target=lambda: ends.append(b.receive(3600)))
        waiting.start()
        b.interrupt()
        waiting.join(WAIT_S)
        assert ends == [None] and b.receive(3600) is None
        a.connect(RingMember(bob.key, "bob", HOST, 1))  # nobody listens there
        stuck: list[str] = []

        def send() -> None:
            try:
                a.send(header(0, 1), b"x", 3600)
            except FailureError as error:
                stuck.append(str(error))

        sending = threading.Thread(target=send)
        sending.start()
        a.interrupt()
        sending.join(WAIT_S)
        assert stuck == ["the exchange was interrupted"]


def test_a_successor_that_is_not_there_is_named(machine: Make) -> None:
    ada, bob = machine("ada"), machine("bob")
    with links(ada) as (a,):
        a.connect(RingMember(bob.key, "bob", HOST, 1))
        with pytest.raises(FailureError, match=r"bob .* took nothing"):
            a.send(header(0, 1), b"x", 0.1)
        assert a.bytes_sent == 0


def test_what_was_sent_still_leaves_at_the_end(machine: Make) -> None:
    ada, bob = machine("ada"), machine("bob")
    bob.trust(ada)
    with links(bob) as (b,):
        a = BulkLink(ada.keys, ada.roster, HOST)
        a.connect(member(bob, b))
        b.expect(ada.key)
        for step in range(10):
            a.send(header(step, 1 << 20), bytes(1 << 20), WAIT_S)
        a.close()
        for step in range(10):
            got = b.receive(WAIT_S)
            assert got is not None and got[0].step == step


def test_our_own_mistakes_are_ours(machine: Make) -> None:
    ada = machine("ada")
    with links(ada) as (a,):
        with pytest.raises(LocalProtocolError):
            a.receive(0)
        with pytest.raises(LocalProtocolError):
            a.send(header(0, 1), b"x")
        a.connect(RingMember(ada.key, "ada", HOST, a.port))
        with pytest.raises(LocalProtocolError):
            a.send(header(0, 2), b"x")
        with pytest.raises(LocalProtocolError):
            a.connect(RingMember(ada.key, "ada", HOST, a.port))


def test_a_host_that_is_not_ours_is_one_line(machine: Make) -> None:
    ada = machine("ada")
    with pytest.raises(FailureError, match=r"cannot listen on 192\.0\.2\.77"):
        BulkLink(ada.keys, ada.roster, "192.0.2.77")
