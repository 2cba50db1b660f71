"""Every member's payload reaches every member, in the order of ranks, whatever is repeated."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshd.core.ring.gathering import Gathering


def ring_of(size: int) -> list[Gathering]:
    return [Gathering(7, rank, size, b"of %d" % rank) for rank in range(size)]


@given(size=st.integers(1, 6), data=st.data())
def test_any_order_of_links_and_repetitions(size: int, data: st.DataObject) -> None:
    ring = ring_of(size)
    links: list[list[tuple[int, bytes]]] = [member.drain() for member in ring]
    while any(links):
        rank = data.draw(st.sampled_from([r for r in range(size) if links[r]]))
        hop, payload = links[rank].pop(0)
        receiver = (rank + 1) % size
        for _ in range(data.draw(st.integers(1, 2))):
            ring[receiver].receive(hop, payload)
        links[receiver] += ring[receiver].drain()
    for member in ring:
        assert member.complete
        assert member.payloads() == tuple(b"of %d" % rank for rank in range(size))


def test_a_payload_travels_one_hop_less_than_there_are_members() -> None:
    ring = ring_of(3)
    assert ring[0].drain() == [(0, b"of 0")]
    ring[1].receive(0, b"of 0")
    assert ring[1].drain() == [(0, b"of 1"), (1, b"of 0")]
    ring[2].receive(1, b"of 0")
    assert ring[2].drain() == [(0, b"of 2")]


def test_impossible_hops_are_nothing() -> None:
    (first, *_) = ring_of(3)
    first.drain()
    for hop in (-1, 2, 99):
        first.receive(hop, b"?")
    assert not first.complete
    assert not first.drain()


def test_alone_it_is_complete_at_once() -> None:
    alone = Gathering(1, 0, 1, b"mine")
    assert alone.complete
    assert not alone.drain()
    assert alone.payloads() == (b"mine",)
