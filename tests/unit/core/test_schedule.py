"""The schedule, played by N members with sets for payloads: everyone ends with what they must."""

from __future__ import annotations

import pytest

from meshd.core.schedule import (
    Phase,
    gather_hops,
    held_chunks,
    planes_of,
    reduce_hops,
    vote_gather_hops,
)

SIZES = [1, 2, 3, 4, 5, 8, 13]


@pytest.mark.parametrize("size", SIZES)
def test_reduce_brings_every_vote_to_the_owner_once(size: int) -> None:
    held = [{chunk: [rank] for chunk in range(size)} for rank in range(size)]
    hops = [reduce_hops(rank, size, Phase.VOTES) for rank in range(size)]
    for turn in range(size - 1):
        frames = [
            (hops[r][turn].send_chunk, held[r][hops[r][turn].send_chunk]) for r in range(size)
        ]
        for rank in range(size):
            chunk, voters = frames[(rank - 1) % size]
            assert chunk == hops[rank][turn].receive_chunk
            assert len(voters) == turn + 1
            held[rank][chunk] = [*voters, rank]
    for rank in range(size):
        assert sorted(held[rank][rank]) == list(range(size))


@pytest.mark.parametrize("size", SIZES)
def test_gather_brings_every_chunk_to_everyone(size: int) -> None:
    held = [{rank} for rank in range(size)]
    hops = [gather_hops(rank, size, Phase.GATHER_FINISHED) for rank in range(size)]
    for turn in range(size - 1):
        frames = [hops[rank][turn].send_chunk for rank in range(size)]
        assert all(frames[rank] in held[rank] for rank in range(size))
        for rank in range(size):
            assert frames[(rank - 1) % size] == hops[rank][turn].receive_chunk
            held[rank].add(frames[(rank - 1) % size])
    assert all(chunks == set(range(size)) for chunks in held)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("copies", [1, 2, 3, 20])
def test_votes_reach_exactly_the_holders(size: int, copies: int) -> None:
    for rank in range(size):
        by_votes = {rank} | {
            hop.receive_chunk
            for hop in vote_gather_hops(rank, size, copies)
            if hop.phase is Phase.GATHER_VOTES
        }
        assert by_votes == set(held_chunks(rank, size, copies))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("copies", [1, 2, 3])
def test_each_chunk_has_its_copies(size: int, copies: int) -> None:
    holders = [chunk for rank in range(size) for chunk in held_chunks(rank, size, copies)]
    assert all(holders.count(chunk) == min(copies, size) for chunk in range(size))


def test_votes_come_before_anything_finished() -> None:
    """Design section 6: on each link an owner's votes go before its finished bits."""
    for size in SIZES:
        phases = [hop.phase for hop in vote_gather_hops(0, size, 2)]
        assert phases == sorted(phases)


def test_planes_hold_the_count_and_no_more() -> None:
    for voters in range(1, 300):
        assert voters < 2 ** planes_of(voters) <= 2 * voters
