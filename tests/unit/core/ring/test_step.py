"""One step through all its members, in any order across links, against sums done in one place."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.ring.replica import BadPayloadError, Payload
from meshd.core.ring.route import Phase, Route
from meshd.core.ring.step import RingStep, StepFrame


class Tally:
    """Numbers that show who added what: a partial result is the sorted ranks of its voters."""

    def __init__(self, route: Route) -> None:
        self.route = route
        self.opened: list[int] = []
        self.decided: dict[int, bytes] = {}
        self.results: dict[int, bytes] = {}

    def open(self, bucket: int) -> None:
        self.opened.append(bucket)

    def own(self, chunk: int) -> bytes:
        assert self.route.bucket(chunk) in self.opened
        return bytes([self.route.rank])

    def add(self, chunk: int, payload: Payload, voters: int) -> bytes:
        return self.merge(chunk, payload, voters, self.own(chunk))

    def merge(self, chunk: int, total: Payload, voters: int, part: Payload) -> bytes:
        if len(total) != voters or len(part) != 1 or bytes(part) in bytes(total):
            raise BadPayloadError("votes that cannot be")
        return bytes(sorted([*total, *part]))

    def decide(self, chunk: int, payload: Payload) -> bytes:
        assert self.route.owner(chunk) == self.route.rank
        self.take_decision(chunk, b"d%d:" % chunk + bytes(payload))
        return self.decided[chunk]

    def take_decision(self, chunk: int, payload: Payload) -> None:
        assert chunk not in self.results
        self.decided[chunk] = bytes(payload)
        self.results[chunk] = self.finished(chunk)

    def finished(self, chunk: int) -> bytes:
        return b"f" + self.decided[chunk]

    def take_finished(self, chunk: int, payload: Payload) -> None:
        assert chunk not in self.results
        self.results[chunk] = bytes(payload)

    def commit(self) -> None: ...

    def abort(self) -> None: ...


def ring_of(size: int, buckets: int, copies: int, direct: bool, empty: set[int]) -> list[RingStep]:
    hops = min(copies, size) - 1
    routes = [Route(r, size, buckets, hops, direct, frozenset(empty)) for r in range(size)]
    return [RingStep(route, Tally(route)) for route in routes]


def tally(step: RingStep) -> Tally:
    assert isinstance(step._replica, Tally)
    return step._replica


@given(
    size=st.integers(1, 5),
    buckets=st.integers(1, 3),
    copies=st.integers(1, 5),
    direct=st.booleans(),
    data=st.data(),
)
def test_any_order_of_arrival_across_links(
    size: int, buckets: int, copies: int, direct: bool, data: st.DataObject
) -> None:
    empty = data.draw(st.sets(st.integers(0, size * buckets - 1), max_size=size * buckets - 1))
    ring = ring_of(size, buckets, copies, direct, empty)
    links: dict[tuple[int, int], list[StepFrame]] = {}
    to_open = {rank: list(range(buckets)) for rank in range(size)}
    sent = 0
    while any(to_open.values()) or any(links.values()):
        choices: list[tuple[int, int]] = [link for link, frames in links.items() if frames]
        choices += [(rank, -1) for rank, waiting in to_open.items() if waiting]
        rank, to = data.draw(st.sampled_from(choices))
        if to < 0:
            ring[rank].open(to_open[rank].pop(0))
            moved = rank
        else:
            frame, moved = links[rank, to].pop(0), to
            for _ in range(data.draw(st.integers(1, 2))):
                ring[to].receive(rank, frame.phase, frame.chunk, frame.hop, frame.payload)
        for frame in ring[moved].drain():
            links.setdefault((moved, frame.to), []).append(frame)
            sent += 1
    wanted = set(range(size * buckets)) - empty
    everybody = bytes(range(size))
    assert sent == 2 * (size - 1) * len(wanted)
    for step in ring:
        assert step.complete
        assert step.opened
        expected = {chunk: b"fd%d:" % chunk + everybody for chunk in wanted}
        assert tally(step).results == expected
        held = {c for c in wanted if (step.route.rank - c % size) % size < min(copies, size)}
        assert set(tally(step).decided) == held
        assert held == {c for c in wanted if step.route.holds(c)}


def test_whoever_has_what_is_finished_had_it_through_all_holders() -> None:
    for size, copies in itertools.product(range(2, 6), range(1, 6)):
        ring = ring_of(size, 1, copies, False, set())
        for owner in range(size):
            way = [(owner + hop) % size for hop in range(size)]
            phases = [ring[rank].route.gather_phase(hop) for hop, rank in enumerate(way[1:])]
            held = [ring[rank].route.holds(owner) for rank in way]
            assert held == sorted(held, reverse=True)
            assert [phase is Phase.DECISION for phase in phases] == held[1:]


@pytest.mark.parametrize(
    ("sender", "phase", "chunk", "hop"),
    [
        (2, Phase.REDUCE, 0, 0),  # not the predecessor
        (0, Phase.REDUCE, 0, 1),  # chunk 0 starts here
        (0, Phase.REDUCE, 1, 0),  # owner 1's comes here at its second hop
        (0, Phase.REDUCE, 3, 0),  # no such chunk
        (0, Phase.REDUCE, -1, 0),
        (0, Phase.DECISION, 1, 0),  # it is decided here
        (0, Phase.FINISHED, 0, 0),  # held here: it comes as a decision
        (0, Phase.DECISION, 2, 1),  # not held here: it comes finished
        (2, Phase.DECISION, 0, 0),  # not the predecessor
        (0, Phase.DECISION, 0, 1),  # wrong hop
        (0, Phase.PULSE, 0, 0),
        (0, Phase.SLICE, 0, 0),
    ],
)
def test_what_no_sound_member_sends_here(sender: int, phase: Phase, chunk: int, hop: int) -> None:
    step = ring_of(3, 1, 2, False, set())[1]
    step.open(0)
    with pytest.raises(BadPayloadError):
        step.receive(sender, phase, chunk, hop, b"?")
    assert not step.settled


@pytest.mark.parametrize(
    ("sender", "chunk", "hop"),
    [(1, 1, 1), (0, 1, 2), (0, 0, 0), (1, 0, 0)],
)
def test_direct_parts_come_from_their_members_to_the_owner(
    sender: int, chunk: int, hop: int
) -> None:
    step = ring_of(3, 1, 1, True, set())[1]
    step.open(0)
    with pytest.raises(BadPayloadError):
        step.receive(sender, Phase.REDUCE, chunk, hop, b"\0")


def test_the_sender_of_a_bad_part_is_named() -> None:
    step = ring_of(3, 1, 1, True, set())[1]
    step.open(0)
    step.receive(0, Phase.REDUCE, 1, 0, b"\x01")  # the owner's own vote again
    with pytest.raises(BadPayloadError) as caught:
        step.receive(2, Phase.REDUCE, 1, 2, b"\x02")
    assert caught.value.sender == 0


def test_a_result_before_the_own_part_cannot_be() -> None:
    step = ring_of(2, 1, 2, False, set())[0]
    with pytest.raises(BadPayloadError, match="without this member's part"):
        step.receive(1, Phase.DECISION, 1, 0, b"d")


def test_early_parts_wait_and_repeated_ones_are_counted() -> None:
    step = ring_of(3, 2, 1, False, set())[1]
    step.receive(0, Phase.REDUCE, 1, 1, b"\0")
    step.receive(0, Phase.REDUCE, 1, 1, b"\0")
    assert step.repeated == 1
    assert not step.drain()
    assert not step.opened
    with pytest.raises(BadPayloadError):
        step.open(0)  # one voter where two should be


@pytest.mark.parametrize("bucket", [-1, 0, 2])
def test_a_bucket_is_opened_once(bucket: int) -> None:
    step = ring_of(2, 2, 1, False, set())[0]
    step.open(0)
    with pytest.raises(ValueError, match=f"bucket {bucket}"):
        step.open(bucket)


@pytest.mark.parametrize(
    ("phase", "chunk", "enough"),
    [
        (Phase.DECISION, 0, True),
        (Phase.FINISHED, 0, False),  # a holder needs the decision
        (Phase.FINISHED, 2, True),
    ],
)
def test_what_brings_a_member_up_to_date(phase: Phase, chunk: int, enough: bool) -> None:
    step = ring_of(3, 1, 2, False, set())[1]
    step.open(0)
    assert step.can_settle(phase, chunk) is enough
    if enough:
        assert step.settle(phase, chunk, b"x")
        assert not step.settle(phase, chunk, b"x")
        assert step.can_settle(phase, chunk)
        assert {frame.phase for frame in step.drain()} == {Phase.REDUCE}  # nothing is sent on


@pytest.mark.parametrize(("phase", "chunk"), [(Phase.FINISHED, 3), (Phase.DECISION, 2)])
def test_what_cannot(phase: Phase, chunk: int) -> None:
    step = ring_of(3, 1, 2, False, set())[1]
    step.open(0)
    with pytest.raises(BadPayloadError):
        step.can_settle(phase, chunk)
