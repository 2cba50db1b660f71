"""Buckets are runs from the flat vector's end; each slice travels in one chunk, its owner's."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from meshd.core.ring.agreement import NO_RING, Plan
from meshd.core.ring.layout import BUCKETS_MAX, cut_buckets, lay_out
from meshd.core.slices import SliceMap, TensorShape, cut_slices
from meshd.core.types import MachineKey

maps = st.lists(
    st.tuples(st.integers(1, 400), st.integers(1, 900), st.sampled_from([0, 0, 16, 64])),
    min_size=1,
    max_size=6,
).map(lambda rows: cut_slices([TensorShape(f"t{i}", *row) for i, row in enumerate(rows)], 64))


@given(maps)
def test_buckets_are_runs_and_the_last_layers_come_first(slice_map: SliceMap) -> None:
    buckets = cut_buckets(slice_map)
    assert len(buckets) == len(slice_map.slices)
    assert set(buckets) == set(range(max(buckets) + 1)), "no bucket is empty"
    assert list(buckets) == sorted(buckets, reverse=True)
    kinds = {(bucket, part.binary) for bucket, part in zip(buckets, slice_map.slices, strict=True)}
    assert len(kinds) == max(buckets) + 1, "dense slices have a bucket of their own"
    assert len({bucket for bucket, binary in kinds if binary}) <= BUCKETS_MAX


def test_a_large_networks_buckets_are_of_about_one_size() -> None:
    shapes = [TensorShape("in", 784, 512, 0), TensorShape("h", 2048, 2048, 64)]
    slice_map = cut_slices([*shapes, TensorShape("out", 2048, 1024, 64)], 64)
    buckets = cut_buckets(slice_map)
    sizes = [0] * (max(buckets) + 1)
    for part, bucket in zip(slice_map.slices, buckets, strict=True):
        sizes[bucket] += part.padded
    assert len(sizes) == 7
    assert max(sizes[:-1]) <= 1.35 * min(sizes[:-1])


def test_two_layers_are_two_buckets_however_small() -> None:
    slice_map = cut_slices([TensorShape("a", 8, 64, 16), TensorShape("b", 8, 64, 16)], 64)
    buckets = cut_buckets(slice_map)
    assert max(buckets) == 1
    assert buckets[-1] == 0


@given(maps, st.integers(1, 9), st.integers(1, 10), st.data())
def test_every_slice_is_in_exactly_one_chunk(
    slice_map: SliceMap, size: int, copies: int, data: st.DataObject
) -> None:
    count = len(slice_map.slices)
    owners = data.draw(st.lists(st.integers(0, size - 1), min_size=count, max_size=count))
    shared = frozenset(part.index for part in slice_map.slices if not part.binary)
    order = tuple(MachineKey(str(rank)) for rank in range(size))
    plan = Plan(NO_RING, order, 0, (), tuple(owners), copies, shared)
    buckets = cut_buckets(slice_map)
    layouts = [lay_out(plan, rank, buckets) for rank in range(size)]
    assert len({layout.chunks for layout in layouts}) == 1, "all members cut alike"
    chunks, route = layouts[0].chunks, layouts[0].route
    assert sorted(itertools.chain(*chunks)) == list(range(count))
    for chunk, slices in enumerate(chunks):
        assert list(slices) == sorted(slices)
        assert (chunk in route.empty) == (not slices)
        assert all(owners[i] == route.owner(chunk) for i in slices)
        assert all(buckets[i] == route.bucket(chunk) for i in slices)
    for rank, layout in enumerate(layouts):
        held = {i for i in plan.held_by(rank) if i not in shared}
        by_chunk = {
            i for c in layout.route.every_chunk() if layout.route.holds(c) for i in chunks[c]
        }
        assert held == by_chunk - shared, "votes reach exactly the holders"
