"""How a job's slices lie in a ring's steps: which are ready together, which chunk each is part of.

Gradients appear from the last layer back to the first, so the flat vector is cut into buckets from
its end: each is a run of slices, opened when the gradient of all of it is there, and its frames
travel while the layers before it are still computed. Dense slices come first in the flat vector and
so are the last bucket: they hold the first layer, whose gradient is the last one.
"""

from __future__ import annotations

from dataclasses import dataclass

from meshd.core.ring.agreement import Plan
from meshd.core.ring.route import Route
from meshd.core.slices import Slice, SliceMap

BUCKET_ELEMENTS = 1 << 20
"""A bucket's frames are two for each hop: at a million parameters they have some kilobytes at
least, at which their handling costs less than their way."""

BUCKETS_MAX = 8
"""More would not fill the line any better, but cut owners' parts into single slices."""


def cut_buckets(slice_map: SliceMap) -> tuple[int, ...]:
    """The bucket of each slice; bucket 0 is opened first.

    Dense slices have a bucket of their own, binary ones as many as their size is worth.
    """
    dense = sum(part.padded for part in slice_map.slices if not part.binary)
    binary = slice_map.padded - dense
    count = min(BUCKETS_MAX, -(-binary // BUCKET_ELEMENTS))
    if binary and _tensors(slice_map.slices) > 1:
        count = max(2, count)  # so that at least the last layers travel while the first compute
    buckets = []
    for part in slice_map.slices:
        if part.binary:
            left = slice_map.padded - part.offset - part.padded
            buckets.append(min(left * count // binary, count - 1))
        else:
            buckets.append(count)
    used = sorted(set(buckets))
    return tuple(used.index(bucket) for bucket in buckets)


def _tensors(slices: tuple[Slice, ...]) -> int:
    return len({part.tensor.name for part in slices if part.binary})


@dataclass(frozen=True)
class Layout:
    """One ring's chunks. `chunks[c]`: indices of chunk c's slices, ascending."""

    route: Route
    chunks: tuple[tuple[int, ...], ...]


def lay_out(plan: Plan, rank: int, buckets: tuple[int, ...], direct: bool = False) -> Layout:
    """The chunks of a ring, as one of its members sees them."""
    size, count = len(plan.order), max(buckets) + 1
    chunks: list[list[int]] = [[] for _ in range(count * size)]
    for index, owner in enumerate(plan.owners):
        chunks[buckets[index] * size + owner].append(index)
    all_shared = len(plan.shared) == len(buckets)
    hops = (size if all_shared else min(plan.copies, size)) - 1
    empty = frozenset(chunk for chunk, slices in enumerate(chunks) if not slices)
    return Layout(Route(rank, size, count, hops, direct, empty), tuple(map(tuple, chunks)))
