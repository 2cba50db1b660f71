"""Every sample is used exactly once an epoch, whatever the batch and the ring."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshd.core.shares import place_of, share_of, steps_per_epoch


@given(st.integers(1, 500), st.integers(1, 200), st.lists(st.integers(1, 9), min_size=1))
def test_every_sample_once_an_epoch_whoever_comes_and_goes(
    samples: int, batch: int, sizes: list[int]
) -> None:
    seen: list[int] = []
    for step in range(2 * steps_per_epoch(samples, batch)):
        size = sizes[step % len(sizes)]  # another ring at every step
        place = place_of(step, samples, batch)
        for rank in range(size):
            start, stop = share_of(place, rank, size)
            seen += [place.epoch * samples + sample for sample in range(start, stop)]
    assert sorted(seen) == list(range(2 * samples))


@given(st.integers(1, 500), st.integers(1, 200), st.integers(1, 9), st.integers(0, 50))
def test_shares_differ_by_one_at_most(samples: int, batch: int, size: int, step: int) -> None:
    place = place_of(step, samples, batch)
    shares = [stop - start for start, stop in (share_of(place, r, size) for r in range(size))]
    assert max(shares) - min(shares) <= 1
