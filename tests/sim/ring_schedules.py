"""Random schedules of faults: job, network, what goes wrong and when, all from one seed."""

from __future__ import annotations

import random

import ring_faults as faults
from ring_links import Weather
from ring_replay import check, check_nothing_lost
from ring_toy import ToyJob
from ring_world import World

from meshd.core.ring.agreement import NO_RING
from meshd.core.ring.effects import FrameHead
from meshd.core.ring.plan import Stall, make_plan

LIMIT_S = 400.0
"""Virtual seconds; the first step of a network alone may stand still for 120."""

FAULTS = ["kill", "kill", "freeze", "leave", "partition", "restart", "cable", "join", "delay"]
FAULTS += ["two", "broken link", "silent loss"]


def some_job(chance: random.Random) -> ToyJob:
    buckets = chance.randint(1, 3)
    slices = [chance.randrange(buckets) for _ in range(chance.randint(buckets, 7))]
    slices = sorted([*range(buckets), *slices])
    every = chance.random() < 0.1  # local steps: every member holds all
    shared = frozenset(i for i in range(len(slices)) if every or chance.random() < 0.3)
    copies = chance.choice([1, 2, 2, 2, 3])
    steps, direct = chance.randint(4, 8), chance.random() < 0.3
    return ToyJob(tuple(slices), shared, copies, steps, 7, direct)


def keys(count: int) -> list[str]:
    return [f"m{i}" for i in range(count)]


class Trouble:
    """What goes wrong in one schedule: each fault after so many messages since the one before."""

    def __init__(self, world: World, chance: random.Random, most: int) -> None:
        self.world, self.chance = world, chance
        self.planned = [
            (chance.choice(FAULTS), chance.choice([chance.randint(1, 12), chance.randint(1, 150)]))
            for _ in range(chance.randint(1, most))
        ]
        self.fates: list[str] = []
        self.count = 0
        world.links.hook = self.message

    def message(self, what: str, a: str, b: str, head: FrameHead | None) -> str | None:
        if what in ("NEWS", "JOIN", "LEAVE") or a == b:
            return None
        self.count += 1
        if self.planned and self.count >= self.planned[0][1]:
            fault, _ = self.planned.pop(0)
            self.count = 0
            return strike(self.world, self.chance, fault, self.whom(a, b), a, b)
        return None

    def whom(self, a: str, b: str) -> str:
        return self.world.captain() if self.chance.random() < 0.3 else self.chance.choice([a, b])


def strike(world: World, chance: random.Random, fault: str, key: str, a: str, b: str) -> str | None:
    """Let a fault happen to a machine, or to what is on the link from a to b."""
    others = [node.key for node in world.living() if node.key != key]
    if fault in ("broken link", "silent loss", "delay", "duplicate", "reorder"):
        return strike_link(world, chance, fault, a, b)
    if fault == "join":
        faults.join(world)
    elif fault == "freeze":
        faults.freeze(world, key, chance.choice([0.1, 1.0, 5.0, 30.0]))
    elif not others:
        return None
    elif fault == "kill":
        faults.kill(world, key)
        if chance.random() < 0.5:
            world.after(chance.uniform(0.1, 3.0), lambda: faults.restart(world, key))
    elif fault == "restart":
        faults.kill(world, key)
        world.after(chance.uniform(0.01, 0.5), lambda: faults.restart(world, key))
    elif fault == "leave":
        if not all(world.nodes[other].leaving for other in others):
            faults.leave(world, key)
    elif fault == "partition":
        side = {k for k in world.nodes if chance.random() < 0.5}
        faults.cut(world, side, chance.uniform(0.5, 12.0))
    elif fault == "cable":
        faults.cut(world, {key}, chance.uniform(0.5, 12.0), "cable")
    elif fault == "two":
        faults.kill(world, key)
        other = chance.choice(others)
        if len(others) > 1 and chance.random() < 0.5:
            faults.kill(world, other)
        else:
            faults.freeze(world, other, 5.0)
    else:
        raise ValueError(fault)
    return None


def strike_link(world: World, chance: random.Random, fault: str, a: str, b: str) -> str | None:
    if fault == "broken link":
        faults.break_link(world, a, b)
        return "lose"
    world.fired[fault] += 1
    if fault == "silent loss":
        return "lose"
    if fault == "duplicate":
        return "twice"
    living = [node.key for node in world.nodes.values()]
    for one in living:
        for other in living:
            if one != other and (fault == "reorder" or (one, other) == (a, b)):
                world.links.hold(one, other, chance.uniform(0.0, 1.0))
    return None


def some_weather(chance: random.Random) -> Weather:
    return Weather(
        frame_loss=chance.choice([0, 0, 0, 0.001]),
        control_loss=chance.choice([0, 0.05, 0.2]),
        copies=chance.choice([0, 0.05]),
        delay_s=chance.choice([0.0005, 0.005]),
    )


def run_schedule(seed: int, most: int = 4) -> World:
    """One schedule of at most so many faults, checked. It ends unless slices are nobody's."""
    chance = random.Random(seed)
    job = some_job(chance)
    world = World(seed, job, keys(chance.randint(1, 6)), some_weather(chance))
    Trouble(world, chance, most)
    if world.run(LIMIT_S):
        finished = next(node for node in world.living() if node.finished)
        check(world, finished)
        check_nothing_lost(world, finished)
    else:
        check_stalled(world)
    return world


def check_stalled(world: World) -> None:
    """A job may stand still for ever only where slices are nobody's that lives."""
    if all(node.leaving for node in world.living()):
        return
    told = f"{dict(world.fired)}, {world.stalls[-1:]}"
    assert world.stalls, f"not ended: {told}"
    acks = {node.key: node.member.answer() for node in world.living()}
    whole = make_plan(NO_RING, acks, (), world.job.shape())
    assert isinstance(whole, Stall), f"it could go on from step {whole.step}: {told}"
