"""The ring's state machines under seeded schedules of faults; a failure names its seed.

python -m pytest tests/sim -k "seed-17"      one schedule again
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from ring_replay import check
from ring_toy import ToyJob
from ring_world import Weather, World

from meshd.core.ring.effects import FrameHead

LIMIT_S = 300.0


def some_job(chance: random.Random, members: int) -> ToyJob:
    buckets = chance.randint(1, 3)
    slices = tuple(sorted(chance.randrange(buckets) for _ in range(chance.randint(buckets, 7))))
    slices = tuple(sorted([*range(buckets), *slices]))
    shared = frozenset(i for i in range(len(slices)) if chance.random() < 0.3)
    return ToyJob(
        slices,
        shared,
        chance.choice([1, 2, 2, 2, 3]),
        chance.randint(4, 8),
        7,
        chance.random() < 0.3,
    )


def finish(world: World) -> None:
    assert world.run(LIMIT_S), f"not ended: {world.fired}, {world.stalled[-1:]}"
    node = next(n for n in world.nodes.values() if n.finished)
    check(world, node)


def keys(count: int) -> list[str]:
    return [f"m{i}" for i in range(count)]


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(3))
def test_undisturbed(size: int, seed: int) -> None:
    job = some_job(random.Random(seed), size)
    world = World(seed, job, keys(size), Weather())
    finish(world)
    assert not world.complaints


SCHEDULES = 400
FAULTS = ["kill", "kill", "freeze", "leave", "partition", "restart"]


class Faults:
    """What goes wrong in one schedule: after so many frames of a phase, or at a time."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self.world, self.chance = world, chance
        self.planned = [
            (chance.choice(FAULTS), chance.randint(1, 120)) for _ in range(chance.randint(1, 4))
        ]
        self.frames = 0
        world.on_frame = self.frame

    def frame(self, sender: str, receiver: str, head: FrameHead) -> None:
        self.world.phases[head.phase.name, ""] += 1
        self.frames += 1
        for fault, at in list(self.planned):
            if self.frames >= at:
                self.planned.remove((fault, at))
                self.planned = [(f, a + self.frames) for f, a in self.planned]
                self.frames = 0
                self.strike(fault, self.chance.choice([sender, receiver]), head)

    def strike(self, fault: str, key: str, head: FrameHead) -> None:
        world, chance = self.world, self.chance
        living = [n.key for n in world.nodes.values() if n.alive and not n.frozen]
        if chance.random() < 0.3:
            captains = [n.key for n in world.nodes.values() if n.captain and n.alive]
            key = captains[0] if captains else key
        world.phases[head.phase.name, fault] += 1
        if fault == "kill" and len(living) > 1:
            world.kill(key)
            if chance.random() < 0.5:
                world.after(chance.uniform(0.1, 3.0), lambda: world.restart(key))
        elif fault == "restart" and len(living) > 1:
            world.kill(key)
            world.after(chance.uniform(0.01, 0.5), lambda: world.restart(key))
        elif fault == "freeze":
            world.freeze(key, chance.choice([0.1, 1.0, 5.0, 30.0]))
        elif fault == "leave" and len(living) > 1:
            world.leave(key)
        elif fault == "partition" and len(living) > 1:
            side = {k for k in world.nodes if chance.random() < 0.5}
            world.partition(side or {key}, chance.uniform(0.5, 12.0))


def run_schedule(seed: int) -> World:
    chance = random.Random(seed)
    job = some_job(chance, 0)
    weather = Weather(
        frame_loss=chance.choice([0, 0, 0, 0.001]),
        control_loss=chance.choice([0, 0.05, 0.2]),
        copies=chance.choice([0, 0.05]),
        delay_s=chance.choice([0.0005, 0.005]),
    )
    world = World(seed, job, keys(chance.randint(2, 6)), weather)
    Faults(world, chance)
    ended = world.run(LIMIT_S)
    if not ended and world.stalled and world.stalled[-1].missing:
        return world
    assert ended, f"not ended: {dict(world.fired)}, {world.stalled[-1:]}"
    check(world, next(n for n in world.nodes.values() if n.finished))
    return world


@pytest.mark.parametrize("block", range(0, SCHEDULES, 100))
def test_schedules(block: int) -> None:
    for seed in range(block, block + 100):
        try:
            run_schedule(seed)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}") from error
