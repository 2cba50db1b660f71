"""The ring's rules for frames, with a link that hands out what a test puts in."""

from __future__ import annotations

import dataclasses
from collections import deque

import pytest

from meshd.core.errors import FailureError
from meshd.core.messages import RingMember
from meshd.core.schedule import Hop, Phase
from meshd.core.types import Generation, MachineKey
from meshd.train.errors import RingBrokenError
from meshd.wire.bulk import BulkHeader
from meshd.worker.collective import ZmqRing

MEMBERS = tuple(RingMember(MachineKey(f"key-{i}"), f"m{i}", "h", 1) for i in range(3))
HOP = Hop(Phase.VOTES, 1, send_chunk=2, receive_chunk=0)
GOOD = BulkHeader(int(Phase.VOTES), 5, 40, 0, 1, 3)


class Link:
    def __init__(self) -> None:
        self.inbox: deque[tuple[BulkHeader, memoryview] | None] = deque()
        self.sent: list[BulkHeader] = []
        self.refuses = False

    def connect(self, member: RingMember) -> None:
        self.successor = member

    def expect(self, key: MachineKey) -> None:
        self.predecessor = key

    def send(self, header: BulkHeader, payload: object, timeout_s: float) -> None:
        if self.refuses:
            raise FailureError("m2 does not trust this machine")
        self.sent.append(header)

    def receive(self, timeout_s: float) -> tuple[BulkHeader, memoryview] | None:
        return self.inbox.popleft()


def ring() -> tuple[ZmqRing, Link]:
    link = Link()
    return ZmqRing(link, Generation(5), MEMBERS, 1), link


def test_neighbours_and_headers() -> None:
    zmq_ring, link = ring()
    link.inbox.append((GOOD, memoryview(b"abc")))
    assert bytes(zmq_ring.swap(40, HOP, b"xy", 3)) == b"abc"
    assert (link.successor.name, link.predecessor) == ("m2", "key-0")
    assert link.sent == [BulkHeader(int(Phase.VOTES), 5, 40, 2, 1, 2)]


def test_older_generations_are_dropped_and_counted_and_silence_is_waited_out() -> None:
    zmq_ring, link = ring()
    old = dataclasses.replace(GOOD, generation=4)
    link.inbox.extend([None, (old, memoryview(b"old")), None, (GOOD, memoryview(b"new"))])
    assert bytes(zmq_ring.swap(40, HOP, b"", 3)) == b"new"
    assert zmq_ring.stale == 1


@pytest.mark.parametrize(
    "change",
    [
        {"generation": 6},
        {"step": 41},
        {"hop": 0},
        {"chunk": 1},
        {"phase": int(Phase.GATHER_VOTES)},
        {"payload_bytes": 4},
    ],
)
def test_anything_else_breaks_the_ring_and_names_the_predecessor(change: dict[str, int]) -> None:
    zmq_ring, link = ring()
    header = dataclasses.replace(GOOD, **change)
    link.inbox.append((header, memoryview(b"x" * header.payload_bytes)))
    with pytest.raises(RingBrokenError, match="m0 sent phase") as caught:
        zmq_ring.swap(40, HOP, b"", 3)
    assert caught.value.blames == "key-0"


def test_a_refused_send_blames_the_successor() -> None:
    zmq_ring, link = ring()
    link.refuses = True
    with pytest.raises(RingBrokenError, match="does not trust") as caught:
        zmq_ring.swap(40, HOP, b"", 3)
    assert caught.value.blames == "key-2"
