"""Which member owns and backs up which slice: a change of members moves the fewest bytes.

A slice has one owner; its state (latents, optimizer) lies at the owner and its copies - 1
successors in ring order. Everybody computes the same ownership from the same arguments: nothing
here depends on hash order, clocks or chance.

    least bytes = sum over slices of bytes x (c - the most of a window that hold it already)

`own` reaches that, unless somebody would own more than TOLERANCE times its fair share and one
slice; then it moves more, and says how much. See `placing.py` for the method.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from meshd.core.ring.placing import Placing, holder_class
from meshd.core.types import MachineKey

Holders = Sequence[AbstractSet[MachineKey]]
"""For each slice, who holds its state now."""

TOLERANCE = 1.25
"""An owner's load over its fair share, beyond which slices move for balance alone. Every hop of the
ring waits for its largest chunk, so 1.25 lengthens a step's exchange by a quarter at the most. A
copy of a slice (96 bits a parameter with Adam) costs what its exchange does in some 30 steps:
to move for less than a quarter would pay only in a ring whose members stay for long."""


@dataclass(frozen=True)
class Ownership:
    """Who owns and holds each slice of a job in one generation."""

    order: tuple[MachineKey, ...]
    owners: tuple[int, ...]
    """Rank of each slice's owner, 0 <= rank < len(order)."""

    copies: int
    """Members that hold a slice: the job's copies, or all members where they are fewer."""

    def holders(self, index: int) -> tuple[int, ...]:
        """Ranks that hold a slice: its owner, then its backups in ring order."""
        owner = self.owners[index]
        return tuple((owner + back) % len(self.order) for back in range(self.copies))

    def owned(self, rank: int) -> tuple[int, ...]:
        """Slices that a rank owns, ascending."""
        return tuple(index for index, owner in enumerate(self.owners) if owner == rank)

    def held(self, rank: int) -> tuple[int, ...]:
        """Slices that a rank owns or backs up, ascending."""
        size = len(self.order)
        return tuple(
            i for i, owner in enumerate(self.owners) if (rank - owner) % size < self.copies
        )

    def held_by(self) -> tuple[frozenset[MachineKey], ...]:
        """Who holds each slice once all moves are made: the next change's `holders`."""
        return tuple(
            frozenset(self.order[rank] for rank in self.holders(index))
            for index in range(len(self.owners))
        )


def lost(holders: Holders) -> tuple[int, ...]:
    """Slices whose state nobody holds: the ring stalls for them."""
    return tuple(index for index, keys in enumerate(holders) if not keys)


def moves(ownership: Ownership, holders: Holders) -> list[tuple[int, MachineKey]]:
    """Copies to make: (slice, receiver), by slice and then in ring order from its owner."""
    return [
        (index, ownership.order[rank])
        for index in range(len(ownership.owners))
        for rank in ownership.holders(index)
        if ownership.order[rank] not in holders[index]
    ]


def moved_bytes(ownership: Ownership, holders: Holders, weights: Sequence[int]) -> int:
    """Bytes of all copies to make."""
    return sum(weights[index] for index, _ in moves(ownership, holders))


def least_bytes(
    order: Sequence[MachineKey], copies: int, weights: Sequence[int], holders: Holders
) -> int:
    """The fewest bytes that any ownership in this ring order moves."""
    copies = min(copies, len(order))
    ranks, class_of = _classes(order, holders)
    least = [holder_class(one, len(order), copies).least for one in ranks]
    return sum(weight * least[kind] for weight, kind in zip(weights, class_of, strict=True))


def own(
    order: Sequence[MachineKey],
    copies: int,
    weights: Sequence[int],
    buckets: Sequence[int],
    speeds: Mapping[MachineKey, float],
    holders: Holders | None = None,
    tolerance: float = TOLERANCE,
) -> tuple[Ownership, str]:
    """Who owns which slice in the ring `order`, and why in one sentence.

    Args:
        order: the new ring's members.
        copies: members that hold each slice, the owner included; fewer in a smaller ring.
        weights: bytes of each slice's state, > 0.
        buckets: the bucket of each slice; each bucket's bytes are spread over all owners as the
            total is, as far as the fewest bytes allow.
        speeds: samples a second of each member, or any measure in proportion to it.
        holders: who holds each slice now; members that are leaving may be among them. None at a
            job's start: every member draws the first state itself, so nothing moves.
        tolerance: > 1, see TOLERANCE.

    Raises:
        ValueError: the arguments do not fit one another, or nobody holds some slice (`lost`).
    """
    _check(order, copies, weights, buckets, speeds, tolerance)
    copies = min(copies, len(order))
    ranks: list[tuple[int, ...]] = [()]
    class_of = [0] * len(weights)
    if holders is not None:
        if len(holders) != len(weights):
            raise ValueError(f"{len(holders)} holders for {len(weights)} slices")
        if missing := lost(holders):
            raise ValueError(f"nobody holds slices {missing}: they have no owner")
        ranks, class_of = _classes(order, holders)
    classes = [holder_class(one, len(order), copies) for one in ranks]
    by_rank = [float(speeds[key]) for key in order]
    placing = Placing(weights, buckets, by_rank, classes, class_of, tolerance)
    placing.spread()
    relieved = placing.relieve()
    owners = _in_runs(placing.owners, weights, buckets, class_of)
    ownership = Ownership(tuple(order), owners, copies)
    if holders is None:
        return ownership, "the job starts: nothing moves"
    moved = moved_bytes(ownership, holders, weights)
    more = moved - least_bytes(order, copies, weights, holders)
    if not more:
        return ownership, f"moves {moved} bytes, the fewest"
    return ownership, (
        f"moves {moved} bytes, {more} more than the fewest: {len(relieved)} of {len(order)} members"
        f" would own over {tolerance} times a fair share and one slice, {order[relieved[0]]} first"
    )


def _classes(
    order: Sequence[MachineKey], holders: Holders
) -> tuple[list[tuple[int, ...]], list[int]]:
    """The different sets of ranks that hold a slice, and which of them each slice has."""
    rank_of = {key: rank for rank, key in enumerate(order)}
    known: dict[tuple[int, ...], int] = {}
    class_of = []
    for keys in holders:
        ranks = tuple(sorted(rank_of[key] for key in keys if key in rank_of))
        class_of.append(known.setdefault(ranks, len(known)))
    return list(known), class_of


def _in_runs(
    owners: Sequence[int],
    weights: Sequence[int],
    buckets: Sequence[int],
    class_of: Sequence[int],
) -> tuple[int, ...]:
    """Exchange slices that are alike, so that each owner's lie side by side: longer arrays.

    Slices of one bucket, size and set of holders cost the same wherever they go.
    """
    alike: dict[tuple[int, int, int], list[int]] = {}
    for index, facts in enumerate(zip(buckets, weights, class_of, strict=True)):
        alike.setdefault(facts, []).append(index)
    result = list(owners)
    for group in alike.values():
        for index, owner in zip(group, sorted(owners[i] for i in group), strict=True):
            result[index] = owner
    return tuple(result)


def _check(
    order: Sequence[MachineKey],
    copies: int,
    weights: Sequence[int],
    buckets: Sequence[int],
    speeds: Mapping[MachineKey, float],
    tolerance: float,
) -> None:
    if not order or len(set(order)) != len(order):
        raise ValueError("a ring has at least one member, and each of them once")
    if copies < 1:
        raise ValueError(f"a slice has at least one copy, not {copies}")
    if not weights or len(buckets) != len(weights) or min(weights) < 1:
        raise ValueError("a job has at least one slice, each of some bytes and in one bucket")
    if any(key not in speeds for key in order):
        raise ValueError("every member needs a speed")
    if not all(0 < speeds[key] < math.inf for key in order):
        raise ValueError("speeds must be positive and finite")
    if not 1 < tolerance < math.inf:
        raise ValueError(f"tolerance {tolerance} must be above 1: loads are of whole slices")


def insert(
    order: Sequence[MachineKey],
    newcomers: Collection[MachineKey],
    copies: int,
    weights: Sequence[int],
    speeds: Mapping[MachineKey, float],
    holders: Holders | None = None,
) -> tuple[MachineKey, ...]:
    """Ring order with the newcomers where they cost the fewest bytes, then give the best balance.

    One after the other, the fastest first. A newcomer behind rank p cuts the windows that reach
    beyond p; each slice in them needs one more copy, whoever will own it. Among the cheapest
    places it goes behind the member with most bytes for its speed, whose slices it shares.

    Raises:
        ValueError: a newcomer is in the ring already, or the arguments do not fit one another.
    """
    if set(order) & set(newcomers) or len(set(newcomers)) != len(newcomers):
        raise ValueError("a newcomer cannot be in the ring already, nor come twice")
    ring = list(order)
    coming = sorted(newcomers, key=lambda key: (-speeds[key], key))
    if holders is None or not ring:
        return (*ring, *coming)
    start, _ = own(ring, copies, weights, [0] * len(weights), speeds, holders)
    load = dict.fromkeys(ring, 0.0)
    for index, owner in enumerate(start.owners):
        load[ring[owner]] += weights[index]
    for key in coming:
        added = _bytes_by_gap(ring, copies, weights, holders)
        behind = min(
            range(len(ring)), key=lambda rank: (added[rank], -load[ring[rank]] / speeds[ring[rank]])
        )
        shared = ring[behind]
        load[key] = load[shared] * speeds[key] / (speeds[key] + speeds[shared])
        load[shared] -= load[key]
        ring.insert(behind + 1, key)
    return tuple(ring)


def _bytes_by_gap(
    ring: Sequence[MachineKey], copies: int, weights: Sequence[int], holders: Holders
) -> list[int]:
    """Bytes that one more member behind each rank adds to the fewest."""
    size = len(ring)
    copies = min(copies, size + 1)
    ranks, class_of = _classes(ring, holders)
    totals = [0] * len(ranks)
    for weight, kind in zip(weights, class_of, strict=True):
        totals[kind] += weight
    added = [0] * size
    for held, total in zip(ranks, totals, strict=True):
        before = _most_in_window(held, size, copies)
        # Only a gap within some holder's window can part holders.
        gaps = sorted({(rank + on) % size for rank in held for on in range(copies - 1)})
        for gap in gaps:
            shifted = [rank + (rank > gap) for rank in held]
            added[gap] += total * (before - _most_in_window(shifted, size + 1, copies))
    return added


def _most_in_window(ranks: Sequence[int], size: int, copies: int) -> int:
    """The most of `ranks` that lie in one window of `copies` successive ranks."""
    most = 0
    for first in ranks:
        most = max(most, sum((rank - first) % size < copies for rank in ranks))
        if most == min(copies, len(ranks)):
            break
    return most
