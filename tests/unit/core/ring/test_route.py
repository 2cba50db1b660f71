"""A step's frames, played by N members whose numbers are sets: everyone ends with what it must."""

from __future__ import annotations

import json
import random

import pytest

from meshd.core.ring.replica import BadPayloadError
from meshd.core.ring.route import Phase, Route
from meshd.core.ring.step import RingStep

SIZES = [1, 2, 3, 4, 5, 8, 13]


class Names:
    """A replica whose part of a chunk is its name: what was added up is who voted, in order."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.opened: set[int] = set()
        self.decided: dict[int, list[int]] = {}
        self.finished_as: dict[int, list[int]] = {}

    def open(self, bucket: int) -> None:
        self.opened.add(bucket)

    def own(self, chunk: int) -> bytes:
        return json.dumps([self.rank]).encode()

    def add(self, chunk: int, payload: bytes, voters: int) -> bytes:
        return self.merge(chunk, payload, voters, self.own(chunk))

    def merge(self, chunk: int, total: bytes, voters: int, part: bytes) -> bytes:
        names = json.loads(total)
        assert len(names) == voters, "the hop says how many have voted"
        return json.dumps(names + json.loads(part)).encode()

    def decide(self, chunk: int, payload: bytes) -> bytes:
        self.take_decision(chunk, payload)
        return payload

    def take_decision(self, chunk: int, payload: bytes) -> None:
        assert chunk not in self.decided
        self.decided[chunk] = json.loads(payload)

    def finished(self, chunk: int) -> bytes:
        return json.dumps(["finished", *self.decided[chunk]]).encode()

    def take_finished(self, chunk: int, payload: bytes) -> None:
        assert chunk not in self.finished_as
        self.finished_as[chunk] = json.loads(payload)


def play(size: int, copies: int, direct: bool, buckets: int = 2, seed: int = 0):
    """One step; links keep their order, and which one moves next is drawn."""
    chance = random.Random(seed)
    empty = frozenset({size - 1}) if size > 1 else frozenset()
    replicas = [Names(rank) for rank in range(size)]
    hops = min(copies, size) - 1
    steps = [
        RingStep(Route(rank, size, buckets, hops, direct, empty), replicas[rank])
        for rank in range(size)
    ]
    links: dict[tuple[int, int], list] = {}
    to_open = [(rank, bucket) for rank in range(size) for bucket in range(buckets)]
    log = []
    while to_open or any(links.values()):
        choice = chance.choice([*to_open, *(link for link in links if links[link])])
        if choice in to_open and (chance.random() < 0.5 or not links.get(choice)):
            rank, bucket = choice
            to_open.remove(choice)
            steps[rank].open(bucket)
        elif links.get(choice):
            frame = links[choice].pop(0)
            rank = frame.to
            log.append((choice[0], frame))
            arrived = choice[0], frame.phase, frame.chunk, frame.hop, frame.payload
            steps[rank].receive(*arrived)
            if chance.random() < 0.2:
                steps[rank].receive(*arrived)  # a repetition changes nothing
        else:
            continue
        for frame in steps[rank].drain():
            links.setdefault((rank, frame.to), []).append(frame)
    return steps, replicas, log


@pytest.mark.parametrize("direct", [False, True], ids=["ring", "direct"])
@pytest.mark.parametrize("copies", [1, 2, 3, 20])
@pytest.mark.parametrize("size", SIZES)
def test_every_vote_counts_once_and_everyone_hears_the_result(
    size: int, copies: int, direct: bool
) -> None:
    steps, replicas, log = play(size, copies, direct, seed=size * 100 + copies)
    assert all(step.complete and step.opened for step in steps)
    for rank, replica in enumerate(replicas):
        route = steps[rank].route
        assert set(replica.decided) | set(replica.finished_as) == set(route.every_chunk())
        assert not set(replica.decided) & set(replica.finished_as)
        for chunk, names in replica.decided.items():
            first = route.owner(chunk) + (0 if direct else 1)
            assert names == [(first + k) % size for k in range(size)], "in the order of the ring"
        held = {c for c in route.every_chunk() if (rank - route.owner(c)) % size < copies}
        assert set(replica.decided) == held, "decisions reach exactly the holders"
    for sender, frame in log:
        if not (direct and frame.phase is Phase.REDUCE):
            assert frame.to == (sender + 1) % size, "all else goes to the successor"
    sent = [sum(1 for who, _ in log if who == rank) for rank in range(size)]
    assert sum(sent) == 2 * (size - 1) * (2 * size - (size > 1))


def test_what_is_finished_comes_after_every_backup_had_the_decision() -> None:
    """So whoever has what is finished knows that each holder can finish the step."""
    for copies in (1, 2, 3):
        _, _, log = play(5, copies, direct=False, seed=copies)
        for chunk in {frame.chunk for _, frame in log}:
            phases = [f.phase for _, f in log if f.chunk == chunk and f.phase is not Phase.REDUCE]
            assert phases == sorted(phases)
            assert phases.count(Phase.DECISION) == copies - 1


@pytest.mark.parametrize("direct", [False, True], ids=["ring", "direct"])
def test_frames_that_do_not_come_here_are_refused(direct: bool) -> None:
    """Every (sender, phase, chunk, hop) but the route's own."""
    _, _, log = play(4, 2, direct)
    sound = {
        (sender, frame.phase, frame.chunk, frame.hop) for sender, frame in log if frame.to == 1
    }
    refused = 0
    for sender in range(4):
        for phase in (*Phase,):
            for chunk in range(9):
                for hop in range(5):
                    if (sender, phase, chunk, hop) in sound:
                        continue
                    step = RingStep(Route(1, 4, 2, 1, direct, frozenset({3})), Names(1))
                    step.open(0)
                    step.open(1)
                    with pytest.raises(BadPayloadError):
                        step.receive(sender, phase, chunk, hop, b"[0]")
                    refused += 1
    assert refused > 1000


def test_a_decision_without_this_members_part_is_refused() -> None:
    step = RingStep(Route(1, 3, 1, 1), Names(1))
    with pytest.raises(BadPayloadError, match="without this member's part"):
        step.receive(0, Phase.DECISION, 0, 0, b"[0]")


def test_a_bucket_is_opened_once() -> None:
    step = RingStep(Route(0, 2, 2, 1), Names(0))
    step.open(1)
    for bucket in (1, 2, -1):
        with pytest.raises(ValueError, match="opened already, or there is none"):
            step.open(bucket)
