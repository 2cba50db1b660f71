"""Members come and go while the ring exchanges one bit, or changes of local steps.

The simulated machines of tests/sim with real networks; hashes of all members' weights are compared
after every few steps by the members themselves, and at the end.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
import torch

from meshd.core.ring.effects import FrameHead
from meshd.core.shares import equal_weights, place_of, share_of
from meshd.train.local_steps import LocalSteps
from meshd.train.trainer import step_samples

sys.path.insert(0, str(Path(__file__).parent))
from bare_ring import job, small_data
from hands import compute
from real_world import RealHolding, RealJob, Weather, World, faults, watch

LIMIT_S = 1000.0
STEPS = 12


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Holding(RealHolding):
    """One that takes local steps where the job says so."""

    def prepare(self, plan, rank: int, step: int) -> None:
        trainer, holding = self.trainer, self.holding
        holding.step = step
        if not isinstance(holding, LocalSteps):
            compute(trainer, rank, len(plan.order))
            return
        place = place_of(step, len(trainer._data.y_train), step_samples(trainer.spec))
        start, stop = share_of(place, rank, equal_weights(len(plan.order)))
        holding.weight = (stop - start) / (place.stop - place.start)
        trainer._steps_alone(holding, trainer._order_of(place.epoch)[start:stop], place)


class Job(RealJob):
    def holding(self) -> Holding:
        return Holding(self)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("kind", "local_steps"), [("onebit", 1), ("votes", 3), ("direct", 2), ("onebit", 2)]
)
def test_random_schedules(kind: str, local_steps: int, seed: int) -> None:
    chance = random.Random(seed)
    spec = job(kind, local_steps, width=33, copies=2, epochs=20)
    world = World(seed, Job(spec, small_data(41, 19, 3), STEPS), keys(4), Weather())
    planned = [chance.randint(5, 100) for _ in range(3)]
    frames, struck = 0, []

    def frame(sender: str, receiver: str, head: FrameHead) -> None:
        nonlocal frames
        frames += 1
        if planned and frames >= planned[0]:
            planned.pop(0)
            frames = 0
            key = chance.choice([sender, receiver])
            struck.append(chance.choice(["leave", "freeze", "restart"]))
            if struck[-1] == "leave" and sum(n.alive for n in world.nodes.values()) > 2:
                faults.leave(world, key)
            elif struck[-1] == "freeze":
                faults.freeze(world, key, chance.choice([0.1, 5.0]))
            else:
                faults.kill(world, key)
                world.after(chance.uniform(0.01, 2.0), lambda: faults.restart(world, key))

    watch(world, frame)
    ended = world.run(LIMIT_S)
    assert struck
    if not ended and world.stalls and world.stalls[-1].missing:
        assert world.fired["restart"] >= world.job.copies, "too few were away to lose a slice"
        return
    assert ended, f"not ended: {dict(world.fired)}, {world.stalls[-1:]}"
    finished = [node for node in world.nodes.values() if node.finished]
    assert {node.member.step for node in finished} == {STEPS}
    assert len({node.holding.digest() for node in finished}) == 1


def keys(count: int) -> list[str]:
    return [f"m{i}" for i in range(count)]
