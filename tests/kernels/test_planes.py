"""Counters in bit planes: many voters at once and counts added to counts, against integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stream_cases import planes_of, same

from meshd.bits import layout, ops, reference

pytestmark = pytest.mark.usefixtures("isa")
each_example = settings(
    max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
seeds = st.integers(0, 2**32 - 1)
lengths = st.integers(0, 1300)


@each_example
@given(seed=seeds, n=lengths, voters=st.integers(0, 20), before=st.integers(0, 20))
def test_many_voters_at_once(seed: int, n: int, voters: int, before: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, before + 1, n)
    votes = rng.integers(0, 2, (voters, n), np.uint8)
    planes = planes_of(counts, layout.plane_count(before + voters))
    ops.planes_add_many(planes, reference.pack_bits(votes))
    wanted = planes_of(counts + votes.sum(axis=0, dtype=np.int64), len(planes))
    same(planes, wanted, (n, voters, before))


@each_example
@given(seed=seeds, n=lengths, here=st.integers(0, 300), there=st.integers(0, 300))
def test_counts_added_to_counts(seed: int, n: int, here: int, there: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, here + 1, n), rng.integers(0, there + 1, n)
    planes = planes_of(a, layout.plane_count(here + there))
    other = planes_of(b, layout.plane_count(there))
    ops.planes_sum(planes, other)
    same(planes, planes_of(a + b, len(planes)), (n, here, there))
    same(other, planes_of(b, len(other)), "not written")


@each_example
@given(seed=seeds, words=st.integers(1, 20), count=st.integers(0, 5), voters=st.integers(1, 18))
def test_many_voters_overflow_as_one_by_one(seed: int, words: int, count: int, voters: int) -> None:
    """Refused if and only if one counter, anywhere, has no room; the rest is what fits."""
    rng = np.random.default_rng(seed)
    planes = planes_of(rng.integers(0, 2**count, words * 64), count)
    bits = np.zeros((voters, words), np.uint64)
    for voter in bits:
        voter[rng.integers(words)] |= np.uint64(1) << np.uint64(rng.integers(64))
    counts = reference.planes_counts(planes, words * 64).astype(np.int64)
    counts += reference.unpack_bits(bits, words * 64).sum(axis=0, dtype=np.int64)
    if counts.max() >> count:
        with pytest.raises(ValueError, match=f"planes: a counter of {count} planes had no room"):
            ops.planes_add_many(planes, bits)
    else:
        ops.planes_add_many(planes, bits)
    same(planes, planes_of(counts, count), "modulo 2^count")


@pytest.mark.parametrize("words", [1, 3, 4, 5, 8, 9, 17])
def test_a_sum_that_overflows_is_refused(words: int) -> None:
    for at in range(words):
        for bit in (0, 63):
            counts = np.zeros(words * 64, np.int64)
            counts[at * 64 + bit] = 3
            one = np.zeros_like(counts)
            one[at * 64 + bit] = 1
            with pytest.raises(ValueError, match="planes: a counter of 2 planes had no room"):
                ops.planes_sum(planes_of(counts, 2), planes_of(one, 1))
            # A number of more planes than the counter has room only while these are empty.
            with pytest.raises(ValueError, match="planes: a counter of 2 planes had no room"):
                ops.planes_sum(planes_of(one, 2), planes_of(4 * one, 3))
            planes = planes_of(one, 2)
            ops.planes_sum(planes, planes_of(2 * one, 4))
            same(planes, planes_of(3 * one, 2), at)


def test_no_planes_hold_no_votes() -> None:
    planes = np.zeros((0, 3), np.uint64)
    ops.planes_sum(planes, np.zeros((2, 3), np.uint64))
    ops.planes_add_many(planes, np.zeros((9, 3), np.uint64))
    with pytest.raises(ValueError, match="planes: a counter of 0 planes had no room"):
        ops.planes_add(planes, np.ones(3, np.uint64))
