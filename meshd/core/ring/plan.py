"""From what the members have to a new ring: a pure function of their ACKs.

1. T is the highest number of committed steps. Where histories differ (a partition has healed),
   one side's state is taken: the later one that is whole, but none below `floor`: while somebody
   is away that may have more, the ring waits rather than to begin again.
2. Who is at T has the results of the step before; a member of the same ring at T - 1 gets them
   and completes that step. Nobody invents state. The results go round in that ring's order, each
   completes the step before it hands them on: so whoever has a chunk finished has had it through
   all of its holders that live, now as in the step itself (`route`), and one more death in
   the middle of this loses nothing.
3. Everyone else brings nothing but its hands: it gets what it needs, as a newcomer does.
4. Slices keep their place as far as possible (`ownership`), and what is missing is copied from
   several members at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from meshd.core.ring.agreement import Ack, Cargo, Plan, RingId, Transfer
from meshd.core.ring.ownership import insert, own
from meshd.core.types import MachineKey

Acks = Mapping[MachineKey, Ack]


@dataclass(frozen=True)
class Shape:
    """What the captain knows of a job's slices, by index.

    sizes: bytes of a slice's state. buckets: the bucket of each. weights: bytes of its binarized
    form; 0 for slices whose state every member holds (`shared`).
    """

    sizes: tuple[int, ...]
    buckets: tuple[int, ...]
    weights: tuple[int, ...]
    copies: int
    statistics: bool = False
    """Whether the network has running statistics."""
    carries: bool = True
    """Whether members carry errors."""

    @property
    def shared(self) -> frozenset[int]:
        """Slices that every member holds."""
        return frozenset(index for index, size in enumerate(self.weights) if not size)


@dataclass(frozen=True)
class Stall:
    """No ring can go on from these answers; `missing`: slices that nobody has."""

    step: int
    missing: tuple[int, ...]


@dataclass(frozen=True)
class _World:
    """One state that some of the members share, and who can be brought to it at once."""

    step: int
    history: tuple[tuple[RingId, int], ...]
    current: tuple[MachineKey, ...]
    behind: tuple[MachineKey, ...]

    def members(self) -> tuple[MachineKey, ...]:
        return (*self.current, *self.behind)


def make_plan(
    ring: RingId,
    acks: Acks,
    before: tuple[MachineKey, ...],
    shape: Shape,
    floor: int = 0,
) -> Plan | Stall:
    """The ring of all that answered and do not leave, in the order `before` as far as it goes.

    floor: committed steps below which no state is taken.
    Returns a Stall when nobody's state is whole.
    """
    worlds = sorted(_worlds(acks), key=lambda world: (-world.step, _newest(world)))
    if worlds[0].step < floor:
        return Stall(floor, tuple(range(len(shape.sizes))))
    world, holders = worlds[0], _holders(acks, worlds[0], shape)
    for other in (world for world in worlds if world.step >= floor):
        found = _holders(acks, other, shape)
        if all(found):
            world, holders = other, found
            break
    missing = tuple(index for index, keys in enumerate(holders) if not keys)
    if missing:
        return Stall(world.step, missing)
    staying = [key for key in acks if not acks[key].leaving]
    if not staying:
        return Stall(world.step, ())
    old = tuple(key for key in before if key in staying)
    new = sorted(set(staying) - set(old))
    speeds = _speeds(acks, staying)
    order = insert(old, new, shape.copies, shape.sizes, speeds, holders if old else None)
    ownership, _ = own(order, shape.copies, shape.sizes, shape.buckets, speeds, holders)
    plan = Plan(
        ring=ring,
        order=order,
        step=world.step,
        history=world.history,
        owners=ownership.owners,
        copies=shape.copies,
        shared=shape.shared,
        thrown_away=_thrown_away(acks, world),
    )
    carried = _carried(plan, acks, world) if shape.carries else []
    transfers = (*_past(world, acks), *_cargo(plan, world, holders, shape), *carried)
    return replace(plan, transfers=transfers)


def _newest(world: _World) -> tuple[int, tuple[int, ...], tuple[MachineKey, ...]]:
    """Of two states of one step: more machines first, then the older captain's history, by name."""
    rings = tuple(-ring.generation for ring, _ in world.history)
    return -len(world.members()), rings, tuple(sorted(world.current))


def _worlds(acks: Acks) -> list[_World]:
    states = {(ack.step, ack.history) for ack in acks.values()}
    worlds = []
    for step, history in states:
        current = tuple(
            k for k in sorted(acks) if (acks[k].step, acks[k].history) == (step, history)
        )
        past = _past_order(acks, current)
        behind = tuple(
            key
            for key in sorted(set(past) & set(acks))
            if history and acks[key].step == step - 1 and acks[key].running == history[-1][0]
        )
        worlds.append(_World(step, history, current, behind))
    return worlds


def _past_order(acks: Acks, current: tuple[MachineKey, ...]) -> tuple[MachineKey, ...]:
    """Ring order of the last step that these have committed, if any of them has its results; who
    was no member of that ring has none, whatever it says."""
    return next((acks[key].past for key in current if key in acks[key].past), ())


def _holders(acks: Acks, world: _World, shape: Shape) -> list[set[MachineKey]]:
    holders: list[set[MachineKey]] = [set() for _ in shape.sizes]
    for key in world.members():
        gone = set(acks[key].going) if key in world.behind else set()
        for index in acks[key].held:
            if 0 <= index < len(holders) and index not in gone:
                holders[index].add(key)
    return holders


def _speeds(acks: Acks, staying: list[MachineKey]) -> dict[MachineKey, float]:
    """Measured speeds; who has none yet counts as the mean of the others."""
    known = {key: acks[key].speed for key in staying if 0 < acks[key].speed < math.inf}
    mean = sum(known.values()) / len(known) if known else 1.0
    return {key: known.get(key, mean) for key in staying}


def _past(world: _World, acks: Acks) -> list[Transfer]:
    """Each that was left behind hears the step's results from who precedes it in that ring."""
    order = _past_order(acks, world.current)
    chain = [
        k for k in order if k in world.behind or (k in world.current and acks[k].past == order)
    ]
    return [
        Transfer(Cargo.PAST, 0, chain[place - 1], key)
        for place, key in enumerate(chain)
        if key in world.behind
    ]


def _cargo(
    plan: Plan, world: _World, holders: list[set[MachineKey]], shape: Shape
) -> list[Transfer]:
    """Slices for those who will hold them; for who comes anew, the rest as weights."""
    known = set(world.members())
    load = dict.fromkeys(sorted(known), 0)
    transfers = []

    def ask(cargo: Cargo, index: int, size: int, donors: set[MachineKey], to: MachineKey) -> None:
        donor = min(sorted(donors), key=lambda key: load[key])
        load[donor] += size
        transfers.append(Transfer(cargo, index, donor, to))

    for index, size in enumerate(plan.owners):
        size = shape.sizes[index]
        ranks = plan.holders(index)
        for rank, key in enumerate(plan.order):
            if rank in ranks:
                if key not in holders[index]:
                    ask(Cargo.SLICE, index, size, holders[index], key)
            elif key not in known:
                ask(Cargo.WEIGHTS, index, shape.weights[index], known, key)
    if shape.statistics:
        for key in plan.order:
            if key not in known:
                ask(Cargo.STATISTICS, 0, 0, known, key)
    return transfers


def _carried(plan: Plan, acks: Acks, world: _World) -> list[Transfer]:
    """A leaver of this state gives its carried error to who follows it among those who stay."""
    staying = [key for key in plan.order if key in world.members()] or list(plan.order)
    return [
        Transfer(Cargo.CARRIED, index, key, heir)
        for key in world.members()
        if acks[key].leaving
        for heir in [min((k for k in staying if k > key), default=min(staying))]
        for index in range(len(plan.owners))
    ]


def _thrown_away(acks: Acks, world: _World) -> tuple[tuple[MachineKey, int], ...]:
    """(machine, steps): what members of another history have committed beyond the common part."""
    gone = []
    for key in sorted(acks):
        ack = acks[key]
        if key not in world.members() and ack.step > 0:
            common = common_steps(ack.step, ack.history, world.step, world.history)
            if common < ack.step:
                gone.append((key, ack.step - common))
    return tuple(gone)


def common_steps(
    step: int,
    history: tuple[tuple[RingId, int], ...],
    other_step: int,
    other: tuple[tuple[RingId, int], ...],
) -> int:
    """Committed steps that two histories share: all up to the end of the last ring that is in both.

    Without such a ring both began with the same state at step 0 or the same checkpoint, which no
    ring committed; or more than `HISTORY_MAX` rings ago, and then this is the most it can be.
    """
    ends = [first for _, first in history[1:]] + [step]
    stops = [first for _, first in other[1:]] + [other_step]
    stop_of = dict(zip(other, stops, strict=True)) if other else {}
    for entry, end in zip(reversed(history), reversed(ends), strict=False):
        if entry in stop_of:
            return min(end, stop_of[entry])
    return min(history[0][1] if history else step, other[0][1] if other else other_step)
