"""Members come and go in any phase of a step, and what is committed is what one process computes.

Real networks, gradients and payloads on the simulated machines of tests/sim; every committed step
is compared with a replay of the members that committed it, bit for bit.
"""

from __future__ import annotations

import functools
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from meshd.core.jobspec import parse_spec
from meshd.core.ring.effects import FrameHead
from meshd.core.ring.route import Phase
from meshd.data.dataset import Dataset

sys.path.insert(0, str(Path(__file__).parent))
from real_world import RealJob, Weather, World, check, faults, watch

STEPS = 8
JOINED_STEPS = 40  # a newcomer is heard of after some tenths of a second
LIMIT_S = 1000.0  # virtual: a first step may stand still for two minutes, again and again


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def clusters(samples: int = 41, inputs: int = 19, classes: int = 3) -> Dataset:
    generator = np.random.default_rng(5)
    centres = generator.integers(0, 200, (classes, inputs))
    y = np.arange(samples) % classes
    x = np.clip(centres[y] + generator.normal(0, 30, (samples, inputs)), 0, 255).astype(np.uint8)
    return Dataset(x, y, x[:9], y[:9], classes, np.float32(1 / 255))


def job(kind: str, copies: int, optimizer: str = "adam", steps: int = STEPS) -> RealJob:
    training = {"epochs": 20, "batch": 12, "learning_rate": 1e-2, "optimizer": optimizer}
    spec = parse_spec(
        {
            "name": "elastic",
            "network": {"width": 33, "beta_w": 16, "beta_a": 16},
            "training": training,
            "exchange": {"kind": kind, "gamma": 64},
            "mesh": {"copies": copies},
        }
    )
    return RealJob(spec, clusters(), steps)


def finish(world: World) -> None:
    assert world.run(LIMIT_S), f"not ended: {dict(world.fired)}, {world.stalls[-1:]}"
    node = next(n for n in world.nodes.values() if n.finished)
    assert node.member.step == world.job.steps
    check(world, node)


def keys(count: int) -> list[str]:
    return [f"m{i}" for i in range(count)]


@pytest.mark.parametrize("kind", ["votes", "direct", "onebit"])
def test_undisturbed(kind: str) -> None:
    world = World(1, job(kind, 2), keys(3), Weather())
    finish(world)
    assert not world.complaints


STEP_PHASES = [Phase.REDUCE, Phase.DECISION, Phase.FINISHED, Phase.GATHER]
FAULTS = [(phase, fault) for phase in STEP_PHASES for fault in ("kill", "leave", "freeze")]
FAULTS += [(Phase.REDUCE, "restart"), (Phase.FINISHED, "join"), (Phase.GATHER, "join")]


@pytest.mark.parametrize(("phase", "fault"), FAULTS, ids=lambda part: getattr(part, "name", part))
def test_a_fault_in_each_phase_of_a_step(phase: Phase, fault: str) -> None:
    steps = JOINED_STEPS if fault in ("join", "restart") else STEPS
    world = World(STEP_PHASES.index(phase), job("votes", 2, steps=steps), keys(4), Weather())
    struck = []

    def frame(sender: str, receiver: str, head: FrameHead) -> None:
        if struck or head.phase is not phase or head.step < 2:
            return
        struck.append(receiver)
        if fault == "join":
            struck[0] = faults.join(world)
        elif fault == "leave":
            faults.leave(world, receiver)
        elif fault == "freeze":
            faults.freeze(world, receiver, 8.0)
        else:
            faults.kill(world, receiver)
            if fault == "restart":
                world.after(0.2, lambda: faults.restart(world, receiver))

    watch(world, frame)
    finish(world)
    assert struck
    rings = [ring for ring, _ in next(n for n in world.nodes.values() if n.finished).member.history]
    assert len(rings) > 1, "the ring has changed"
    if fault in ("join", "restart"):
        assert struck[0] in world.plans[rings[-1]].order
    else:
        assert struck[0] not in world.plans[rings[-1]].order


@pytest.mark.parametrize("end", ["sender", "receiver"])
@pytest.mark.parametrize(
    "phase",
    [Phase.SLICE, Phase.WEIGHTS, Phase.CARRIED, Phase.PAST_DECISION, Phase.PAST_FINISHED],
    ids=lambda phase: phase.name,
)
def test_a_member_dies_while_state_moves(phase: Phase, end: str) -> None:
    """Of five, two may go at once: first one is struck so that state moves, then another.

    Who is left behind by a step hears of it where the last frames to it were lost."""
    loss = 0.003 if phase in (Phase.PAST_DECISION, Phase.PAST_FINISHED) else 0.0
    for seed in range(12):
        weather = Weather(delay_s=0.005, frame_loss=loss)
        world = World(seed, job("votes", 3, steps=12), keys(5), weather)
        state = {"frames": 0, "struck": ""}
        watch(world, functools.partial(two_strikes, world, state, phase, end))
        finish(world)
        if state["struck"]:
            return
    raise AssertionError("no such frame was ever sent")


def two_strikes(
    world: World, state: dict, phase: Phase, end: str, sender: str, receiver: str, head: FrameHead
) -> None:
    state["frames"] += 1
    if state["frames"] == 25:
        if phase is Phase.CARRIED:
            faults.leave(world, receiver)
        elif not world.links.weather.frame_loss:
            faults.kill(world, receiver)
            world.after(0.1, lambda: faults.restart(world, receiver))
    if head.phase is phase and not state["struck"]:
        state["struck"] = sender if end == "sender" else receiver
        faults.kill(world, state["struck"])


@pytest.mark.parametrize("seed", range(10))
def test_random_schedules(seed: int) -> None:
    chance = random.Random(seed)
    kind, optimizer = chance.choice(["votes", "direct", "onebit"]), chance.choice(["adam", "sgd"])
    weather = Weather(control_loss=chance.choice([0, 0.1]), copies=chance.choice([0, 0.05]))
    world = World(seed, job(kind, chance.choice([2, 3]), optimizer, 12), keys(5), weather)
    planned = [chance.randint(5, 150) for _ in range(3)]
    frames = 0

    def frame(sender: str, receiver: str, head: FrameHead) -> None:
        nonlocal frames
        frames += 1
        if planned and frames >= planned[0]:
            planned.pop(0)
            frames = 0
            key = chance.choice([sender, receiver])
            strike = chance.choice(["leave", "freeze", "restart"])
            if strike == "leave" and sum(n.alive for n in world.nodes.values()) > 2:
                faults.leave(world, key)
            elif strike == "freeze":
                faults.freeze(world, key, chance.choice([0.1, 5.0]))
            else:
                faults.kill(world, key)
                world.after(chance.uniform(0.01, 2.0), lambda: faults.restart(world, key))

    watch(world, frame)
    ended = world.run(LIMIT_S)
    if not ended and world.stalls and world.stalls[-1].missing:
        assert world.fired["restart"] >= world.job.copies, "too few were away to lose a slice"
        return
    finish(world)
