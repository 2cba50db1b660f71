"""Which rank owns each slice: the fewest copies first, then the evenest loads.

The copies of a slice lie at its owner o and the next c - 1 ranks: the window W(o). If the ranks H
hold its state already, owner o costs

    cost(o) = c - |W(o) & H|     copies of the slice.

Slices do not hinder one another, so the fewest bytes are reached by giving each slice to any rank
of least cost. There are often several, and the balance comes free within that choice (c = 2):

    ring ..O P X S.., X leaves     X's slices, left at {S}: to S (P.. no copy) or P, one copy each
                                   P's slices, left at {P}: to P or O, one copy each
    ring ..P S.., J between them   P's slices, at {P, S}: to P with J as backup, or to J with S

*Even* means that sum_r L_r^2 / v_r is small, L_r the load of rank r in bytes and v_r its speed: it
is least where L_r is in proportion to v_r. The same sum over each bucket's bytes is added, so every
bucket is spread too. A slice of w bytes adds 2 w (L_r + l_r + w) / v_r to the two sums, where
l_r is the bucket's load: the first placing takes the rank where that is least, largest slices
first, and then slices change places while that is better.

*Beyond the fewest* a slice moves only off a rank whose load exceeds its limit

    limit_r = tolerance * total * v_r / sum v + the largest slice.

Then it goes along the cheapest path of changes (r's slice to a, one of a's to b, ..) to a rank
with room. For slices of one size this is the successive shortest path method (Ahuja, Magnanti and
Orlin, Network Flows, 1993, section 9.7), and the bytes are the fewest that keep the limits. A rank
with no more than its fair share always has room for any slice, so this ends.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

PASSES = 8  # over the slices with a choice; loads are even to a slice after two or three


@dataclass(frozen=True)
class HolderClass:
    """All slices with the same holders, who cost the same everywhere."""

    overlap: dict[int, int]
    """Owner -> how many of its window hold the state already; owners not listed: none."""

    candidates: Sequence[int]
    """Owners of least cost, ascending."""

    least: int
    """Copies that a candidate costs."""


def holder_class(ranks: Sequence[int], size: int, copies: int) -> HolderClass:
    """The costs of slices that `ranks` hold (ascending, may be empty), `copies` <= size."""
    overlap: dict[int, int] = {}
    for rank in ranks:
        for back in range(copies):
            owner = (rank - back) % size
            overlap[owner] = overlap.get(owner, 0) + 1
    best = max(overlap.values(), default=0)
    candidates = sorted(owner for owner, held in overlap.items() if held == best)
    return HolderClass(overlap, candidates or range(size), copies - best)


class Placing:
    """Slices on their way to owners; `owners` is the result of `spread` and then `relieve`."""

    def __init__(
        self,
        weights: Sequence[int],
        buckets: Sequence[int],
        speeds: Sequence[float],
        classes: Sequence[HolderClass],
        class_of: Sequence[int],
        tolerance: float,
    ) -> None:
        """`classes[class_of[s]]` are slice s's costs; `speeds` by rank."""
        self.owners = [-1] * len(weights)
        self._weights = weights
        self._buckets = buckets
        self._speeds = speeds
        self._classes = classes
        self._class_of = class_of
        self._loads = [0] * len(speeds)
        self._bucket_loads = {bucket: [0] * len(speeds) for bucket in buckets}
        self.limits = load_limits(weights, speeds, tolerance)
        # [rank][class] -> (weight, slice), ascending: what a rank could give away; for `relieve`.
        self._owned: list[dict[int, list[tuple[int, int]]]] = []

    # --- the fewest bytes, evenly -------------------------------------------------------------

    def spread(self) -> None:
        """Give every slice to an owner of least cost, evenly."""
        chosen = []
        for index in range(len(self._weights)):
            candidates = self._classes[self._class_of[index]].candidates
            if len(candidates) == 1:
                self._give(index, candidates[0])
            else:
                chosen.append(index)
        chosen.sort(key=lambda index: (-self._weights[index], index))
        for index in chosen:
            self._give(index, self._evenest(index))
        for _ in range(PASSES):
            if not sum(self._reconsider(index) for index in chosen):
                break

    def _reconsider(self, index: int) -> bool:
        """Move a slice to where the loads are evener, at the same cost; whether it moved."""
        before = self.owners[index]
        self._take(index)
        better = self._evenest(index)
        if self._addition(index, better) < self._addition(index, before):
            self._give(index, better)
            return True
        self._give(index, before)
        return False

    def _evenest(self, index: int) -> int:
        loads, speeds = self._loads, self._speeds
        in_bucket = self._bucket_loads[self._buckets[index]]
        weight = self._weights[index]
        best, least = -1, float("inf")
        for rank in self._classes[self._class_of[index]].candidates:
            addition = (loads[rank] + in_bucket[rank] + weight) / speeds[rank]
            if addition < least:
                best, least = rank, addition
        return best

    def _addition(self, index: int, rank: int) -> float:
        in_bucket = self._bucket_loads[self._buckets[index]][rank]
        return (self._loads[rank] + in_bucket + self._weights[index]) / self._speeds[rank]

    def _give(self, index: int, rank: int) -> None:
        self.owners[index] = rank
        self._loads[rank] += self._weights[index]
        self._bucket_loads[self._buckets[index]][rank] += self._weights[index]

    def _take(self, index: int) -> None:
        rank = self.owners[index]
        self._loads[rank] -= self._weights[index]
        self._bucket_loads[self._buckets[index]][rank] -= self._weights[index]

    # --- beyond the fewest --------------------------------------------------------------------

    def relieve(self) -> list[int]:
        """Move slices off ranks beyond their limit, at the least cost; the ranks that were."""
        size = len(self._speeds)
        relieved = [rank for rank in range(size) if self._excess(rank) > 0]
        if not relieved:
            return []
        self._owned = [{} for _ in range(size)]
        for index, owner in enumerate(self.owners):
            self._file(index, owner)
        while True:
            worst = max(range(size), key=lambda rank: (self._excess(rank), -rank))
            if self._excess(worst) <= 0:
                return relieved
            path = self._cheapest_path(worst)
            moves = self._plan(path, self._excess(worst)) or self._one_move(worst)
            for index, rank in moves:
                self._move(index, rank)

    def _excess(self, rank: int) -> float:
        return self._loads[rank] - self.limits[rank]

    def _file(self, index: int, owner: int) -> None:
        owned = self._owned[owner].setdefault(self._class_of[index], [])
        insort(owned, (self._weights[index], index))

    def _move(self, index: int, rank: int) -> None:
        owned = self._owned[self.owners[index]]
        listed = owned[self._class_of[index]]
        del listed[bisect_left(listed, (self._weights[index], index))]
        if not listed:
            del owned[self._class_of[index]]
        self._take(index)
        self._give(index, rank)
        self._file(index, rank)

    def _cheapest_path(self, source: int) -> list[tuple[int, int, int]]:
        """Changes (from rank, class, to rank) from `source` to a rank with room; [] if none.

        Bellman and Ford's rounds. Lengths are copies; a change can cost less than nothing, if it
        undoes an earlier one. Ranks that a class's holders are far from are all alike to it: they
        are reached through one more node, the hub.
        """
        hub = len(self._speeds)
        far = hub * (hub + 2)
        length = [far] * (hub + 1)
        length[source] = 0
        came: list[tuple[int, int]] = [(-1, -1)] * (hub + 1)
        changed = [source]
        for _ in range(hub + 1):
            reached: dict[int, None] = {}
            for node in changed:
                if node == hub:
                    steps = [(-1, rank, 0) for rank in range(hub)]
                else:
                    steps = self._changes_from(node, hub)
                for kind, to, cost in steps:
                    if length[node] + cost < length[to]:
                        length[to] = length[node] + cost
                        came[to] = node, kind
                        reached[to] = None
            changed = list(reached)
        return self._trace(source, length, came)

    def _changes_from(self, rank: int, hub: int) -> list[tuple[int, int, int]]:
        """(class, rank to, copies) of every change of one of `rank`'s slices."""
        steps = []
        for kind in self._owned[rank]:
            overlap = self._classes[kind].overlap
            here = overlap.get(rank, 0)
            steps += [(kind, to, here - there) for to, there in overlap.items() if to != rank]
            steps.append((kind, hub, here))
        return steps

    def _trace(
        self, source: int, length: list[int], came: list[tuple[int, int]]
    ) -> list[tuple[int, int, int]]:
        hub = len(self._speeds)
        smallest = min(self._weights)
        ends = [
            (length[rank], self._loads[rank] / self._speeds[rank], rank)
            for rank in range(hub)
            if rank != source
            and length[rank] < hub * (hub + 2)
            and self._loads[rank] + smallest <= self.limits[rank]
        ]
        path: list[tuple[int, int, int]] = []
        at = min(ends)[2] if ends else source
        while at != source:
            before, kind = came[at]
            if before == hub:
                before, kind = came[hub]
            path.append((before, kind, at))
            at = before
            if len(path) > hub:
                return []  # a circle: sizes differ, and a move that was not the cheapest made it
        return path[::-1]

    def _plan(self, path: list[tuple[int, int, int]], need: float) -> list[tuple[int, int]]:
        """The slices to move along a path; [] if their sizes would overload somebody."""
        moves = []
        received: float = 0
        for rank, kind, to in path:
            index = self._pick(rank, kind, received or need)
            weight = self._weights[index]
            if received and received > weight and self._excess(rank) + received - weight > 0:
                return []
            moves.append((index, to))
            received = weight
        if path and self._excess(path[-1][2]) + received > 0:
            return []
        return moves

    def _one_move(self, source: int) -> list[tuple[int, int]]:
        """One slice to one rank with room, at the least cost."""
        options = []
        for kind in sorted(self._owned[source]):
            index = self._pick(source, kind, self._excess(source))
            overlap = self._classes[kind].overlap
            for rank, speed in enumerate(self._speeds):
                load = self._loads[rank] + self._weights[index]
                if rank != source and load <= self.limits[rank]:
                    copies = overlap.get(source, 0) - overlap.get(rank, 0)
                    options.append((copies, load / speed, rank, index))
        _, _, rank, index = min(options)
        return [(index, rank)]

    def _pick(self, rank: int, kind: int, need: float) -> int:
        """The smallest slice of at least `need` bytes, or else the largest; of a full bucket."""
        listed = self._owned[rank][kind]
        at = min(bisect_left(listed, (need, -1)), len(listed) - 1)
        weight = listed[at][0]
        alike = [index for size, index in listed if size == weight]
        return max(alike, key=lambda i: (self._bucket_loads[self._buckets[i]][rank], -i))


def load_limits(
    weights: Sequence[int], speeds: Sequence[float], tolerance: float
) -> tuple[float, ...]:
    """Bytes that each rank may own before slices move off it for balance alone."""
    unit = tolerance * sum(weights) / sum(speeds)
    return tuple(unit * speed + max(weights) for speed in speeds)
