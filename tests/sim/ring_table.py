"""Every fault at every kind of message, at the captain and at another member: one run for each.

The first matching message after the run's second step is struck as it arrives. Where such messages
only travel in a change of ring, a machine leaves and one joins before; PAST only follows a link
that broke under the end of a step.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from dataclasses import dataclass

import ring_faults as faults
from ring_links import Weather
from ring_replay import check, check_nothing_lost
from ring_schedules import LIMIT_S, keys, strike_link
from ring_toy import ToyJob
from ring_world import World

from meshd.core.ring.agreement import Cargo
from meshd.core.ring.effects import FrameHead
from meshd.core.ring.route import Phase

MEMBERS = 5
HOPS = [f"REDUCE {hop}" for hop in range(MEMBERS - 1)]
IN_STEPS = [*HOPS, "DECISION", "FINISHED 2", "FINISHED 3", "GATHER", "PULSE"]
IN_CHANGES = ["SLICE", "WEIGHTS", "CARRIED", "PROPOSE", "ACK", "COMMIT"]
IN_REPAIR = ["PAST_DECISION", "PAST_FINISHED"]
PHASES = [*IN_STEPS, *IN_CHANGES, *IN_REPAIR]

BOUNDS = {
    "kill": 3.0,
    "restart": 3.0,
    "two": 5.0,
    "freeze": 5.0,
    "pause": 3.0,
    "cable": 5.0,
    "partition": 5.0,
    "broken link": 3.0,
    "silent loss": 5.0,
    "delay": 5.0,
    "reorder": 5.0,
    "duplicate": 3.0,
    "leave": 3.0,
    "join": 3.0,
}
"""Fault -> the longest pause between two committed steps after it, in virtual seconds."""

LONG = ("freeze", "cable", "partition")
AWAY_S = 6.0


@dataclass
class Cell:
    """One run: what is struck, by what, where; and what came of it."""

    phase: str
    fault: str
    at_captain: bool
    pause_s: float = -1.0
    world: World | None = None
    struck: str = ""

    @property
    def name(self) -> str:
        return f"{self.fault} at {self.phase}, {'captain' if self.at_captain else 'member'}"


def cells(fault: str) -> list[Cell]:
    return [Cell(phase, fault, who) for phase in PHASES for who in (True, False)]


class Blow:
    """The one fault of a run; it waits for its message."""

    def __init__(self, world: World, cell: Cell, chance: random.Random) -> None:
        self.world, self.cell, self.chance = world, cell, chance
        self.struck_at: float | None = None
        self.prepared = cell.phase in IN_STEPS
        self.results: Counter[int] = Counter()
        self.reduced: Counter[int] = Counter()
        world.links.hook = self.message

    def message(self, what: str, a: str, b: str, head: FrameHead | None) -> str | None:
        if len(self.world.commits) < 2 * MEMBERS or a == b:
            return None
        if not self.prepared:
            return self.prepare(what, a, b, head)
        if self.struck_at is None and self.matches(what, head) and self.target(a, b):
            self.struck_at = self.world.now
            return self.strike(self.target(a, b), a, b)
        return None

    def matches(self, what: str, head: FrameHead | None) -> bool:
        phase, _, hop = self.cell.phase.partition(" ")
        if phase == "FINISHED" and hop:  # first of those without state, or the last one
            assert head is None or head.phase is not Phase.FINISHED or head.hop in range(1, 4)
        return what == phase and (not hop or (head is not None and head.hop == int(hop)))

    def target(self, a: str, b: str) -> str:
        """The machine to strike: on this link if there is one that fits."""
        captain = self.world.captain()
        living = [node.key for node in self.world.living() if not node.leaving]
        if self.cell.at_captain:
            return captain if captain in living else ""
        return next((k for k in (a, b, *living) if k != captain and k in living), "")

    def prepare(self, what: str, a: str, b: str, head: FrameHead | None) -> str | None:
        world = self.world
        if self.cell.phase in IN_CHANGES:
            if "join" not in world.fired:  # its wish reaches the captain before that of the leaver
                faults.join(world)
                world.after(0.7, self.leave)
        elif head is not None and head.phase in (Phase.REDUCE, Phase.DECISION, Phase.FINISHED):
            return self.leave_behind(a, b, head)
        return None

    def leave(self) -> None:
        self.prepared = True
        faults.leave(self.world, "m3")

    def leave_behind(self, a: str, b: str, head: FrameHead) -> str | None:
        """Break the link to m2 under the results of a step. Under the last one, m2 alone is left
        behind; under a decision, all are to whom it does not come, but for its owner."""
        if b != "m2" or world_plan(self.world).order.index(a) != 1:
            return None
        if head.phase is Phase.REDUCE:
            self.reduced[head.step] += 1
            return None
        seen = self.results[head.step] = self.results[head.step] + 1
        plan = world_plan(self.world)
        route = self.world.job.route(plan, plan.order.index(b))
        chunks = list(route.every_chunk())
        if self.cell.phase == "PAST_DECISION":
            due = sum(route.reduce_hop(chunk) >= 0 for chunk in chunks)
            done = head.phase is Phase.DECISION and self.reduced[head.step] == due
        else:
            done = seen == sum(route.gather_hop(chunk) >= 0 for chunk in chunks)
        if done:
            self.prepared = True
            faults.break_link(self.world, a, b)
            return "lose"
        return None

    def strike(self, key: str, a: str, b: str) -> str | None:
        world, fault, chance = self.world, self.cell.fault, self.chance
        self.cell.struck = key
        others = [node.key for node in world.living() if node.key != key]
        if fault in ("broken link", "silent loss", "delay", "duplicate", "reorder"):
            return strike_link(world, chance, fault, a, b)
        if fault in ("kill", "restart", "two"):
            faults.kill(world, key)
        if fault == "restart":
            world.after(0.05, lambda: faults.restart(world, key))
        elif fault == "two":
            second = [faults.kill, lambda w, k: faults.freeze(w, k, AWAY_S)][chance.random() < 0.5]
            second(world, chance.choice(others))
        elif fault in ("freeze", "pause"):
            faults.freeze(world, key, AWAY_S if fault == "freeze" else 0.7)
        elif fault == "cable":
            faults.cut(world, {key}, AWAY_S, "cable")
        elif fault == "partition":
            faults.cut(world, {key, chance.choice(others)}, AWAY_S)
        elif fault == "leave":
            faults.leave(world, key)
        elif fault == "join":
            faults.join(world)
        return None


def world_plan(world: World):
    return world.plans[world.newest()]


def run_cell(cell: Cell, seed: int) -> bool:
    """Run it and check it; False where the message to strike never came."""
    chance = random.Random(f"{cell.name} {seed}")
    copies = 2 + (cell.fault in ("two", "partition")) + (cell.phase in IN_CHANGES)
    buckets = tuple(sorted([0, 1, *(chance.randrange(2) for _ in range(8))]))
    shared = frozenset({chance.randrange(10)})
    slow = cell.fault in LONG or cell.phase in IN_CHANGES
    steps = 40 if cell.fault in LONG else 20 if slow else 10
    job = ToyJob(buckets, shared, copies, steps, 11)
    weather = Weather(delay_s=0.002)
    world = World(chance.randrange(1 << 30), job, keys(MEMBERS), weather, 0.1 if slow else 0.02)
    blow = Blow(world, cell, chance)
    ended = world.run(LIMIT_S)
    cell.world = world
    if blow.struck_at is None:
        return False
    assert ended, f"not ended: {dict(world.fired)}, {world.stalls[-1:]}"
    finished = next(node for node in world.living() if node.finished)
    check(world, finished)
    check_nothing_lost(world, finished)
    times = sorted(at for at, key, _, _ in world.commits if at > blow.struck_at)
    cell.pause_s = max(b - a for a, b in itertools.pairwise([blow.struck_at, *times]))
    return True


def transferred(world: World, cargo: Cargo) -> int:
    return sum(t.cargo is cargo for plan in world.plans.values() for t in plan.transfers)
