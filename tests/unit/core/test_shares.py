"""Every sample is used exactly once an epoch, whatever the batch, the ring and the weights."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.shares import cut, equal_weights, place_of, share_of, steps_per_epoch

some_weights = st.lists(st.integers(0, 1 << 20), min_size=1, max_size=9).filter(any)


@given(st.integers(1, 500), st.integers(1, 200), st.lists(some_weights, min_size=1))
def test_every_sample_once_an_epoch_whoever_comes_and_goes(
    samples: int, batch: int, rings: list[list[int]]
) -> None:
    seen: list[int] = []
    for step in range(2 * steps_per_epoch(samples, batch)):
        weights = rings[step % len(rings)]  # another ring and other speeds at every step
        place = place_of(step, samples, batch)
        for rank in range(len(weights)):
            start, stop = share_of(place, rank, weights)
            seen += [place.epoch * samples + sample for sample in range(start, stop)]
    assert sorted(seen) == list(range(2 * samples))


@given(st.integers(1, 500), st.integers(1, 200), st.integers(1, 9), st.integers(0, 50))
def test_equal_members_share_evenly(samples: int, batch: int, size: int, step: int) -> None:
    place = place_of(step, samples, batch)
    count = place.stop - place.start
    for rank in range(size):
        expected = tuple(place.start + r * count // size for r in (rank, rank + 1))
        assert share_of(place, rank, equal_weights(size)) == expected


@given(st.integers(0, 9), st.lists(st.integers(0, 30), min_size=1, max_size=4).filter(any))
def test_the_last_to_be_done_is_done_as_early_as_can_be(count: int, weights: list[int]) -> None:
    """Against every way to cut: a member of weight w takes part / w."""

    def longest(parts: tuple[int, ...]) -> Fraction:
        return max(
            Fraction(part, weight) for part, weight in zip(parts, weights, strict=True) if weight
        )

    everything = [
        parts
        for parts in itertools.product(range(count + 1), repeat=len(weights))
        if sum(parts) == count
        and not any(part for part, weight in zip(parts, weights, strict=True) if not weight)
    ]
    found = cut(count, weights)
    assert found in everything
    assert longest(found) == min(map(longest, everything))


@given(st.integers(0, 10_000), some_weights)
def test_nobody_gets_less_than_the_whole_samples_of_its_quota(count, weights) -> None:
    for part, weight in zip(cut(count, weights), weights, strict=True):
        assert part >= count * weight // sum(weights)
        assert weight or not part


@pytest.mark.parametrize("weights", [[], [0, 0], [3, -1]])
def test_weights_that_cut_nothing_are_refused(weights: list[int]) -> None:
    with pytest.raises(ValueError, match="none may be negative, nor all of them 0"):
        cut(10, weights)
