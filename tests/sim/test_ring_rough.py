"""Machines worse than dead: lazy, deaf, lying; captains at odds; slices that are nobody's."""

from __future__ import annotations

import itertools
import random
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import ring_faults as faults
from ring_links import Weather
from ring_replay import check, check_nothing_lost
from ring_schedules import keys
from ring_toy import ToyJob
from ring_world import World

from meshd.core.ring.agreement import Plan, RingId
from meshd.core.ring.captain import BARRED_S
from meshd.core.ring.effects import FrameHead
from meshd.core.types import MachineKey

JOB = ToyJob((0, 0, 0, 1, 1, 1), frozenset({4}), copies=2, steps=60, batch=8)


def world_of(members: int, job: ToyJob = JOB, seed: int = 5) -> World:
    return World(seed, job, keys(members), Weather())


def finish(world: World, within_s: float) -> Plan:
    assert world.run(within_s), f"{world.now:.1f} s: {len(world.commits)} commits, {world.stalls}"
    finished = next(node for node in world.living() if node.finished)
    check(world, finished)
    check_nothing_lost(world, finished)
    return world.plans[world.newest()]


@pytest.mark.parametrize("key", ["m0", "m2"])
@pytest.mark.parametrize("members", [2, 4])
def test_who_answers_but_does_not_compute_loses_its_place(key: str, members: int) -> None:
    world = world_of(members)
    world.after(0.5, lambda: world.lazy.add(key if key in world.nodes else "m1"))
    lazy = key if key in world.nodes else "m1"
    plan = finish(world, BARRED_S)
    assert lazy not in plan.order
    assert len(plan.order) == members - 1
    assert not world.fired
    assert len(world.plans) <= 4  # two chances, then without it


def test_a_lazy_member_may_come_back_when_it_works_again() -> None:
    job = replace(JOB, steps=300)
    world = world_of(3, job)
    world.compute_s = 0.3
    world.after(0.5, lambda: world.lazy.add("m2"))
    world.after(20.0, lambda: world.lazy.discard("m2"))
    plan = finish(world, 300.0)
    assert set(plan.order) == {"m0", "m1", "m2"}


@pytest.mark.parametrize("key", ["m0", "m2"])
def test_who_sends_what_cannot_be_loses_its_place(key: str) -> None:
    world = world_of(4)
    world.after(0.4, lambda: setattr(world.nodes[key].holding, "own", lambda chunk: b"[[]]"))
    plan = finish(world, BARRED_S)
    assert key not in plan.order
    assert len(plan.order) == 3
    assert len(world.complaints) < 40


def test_who_hears_nobody_goes_and_not_the_others() -> None:
    """Frames to m2 are lost, the daemons hear each other: m2 complains of whom it should hear."""
    world = world_of(5)

    def deaf(what: str, a: str, b: str, head: FrameHead | None) -> str | None:
        return "lose" if head is not None and b == "m2" and world.now > 0.4 else None

    world.links.hook = deaf
    plan = finish(world, BARRED_S)
    assert "m2" not in plan.order
    assert len(plan.order) >= 4


def test_who_complains_of_every_ring_goes() -> None:
    world = world_of(4)

    def nag() -> None:
        ring = world.newest()
        for node in world.living():
            if node.captain:
                node.captain.complains(MachineKey("m3"), ring, MachineKey(""), "bad", world.now)
                world.act(node, lambda: None)
        world.after(0.005, nag)

    world.after(0.4, nag)
    plan = finish(world, BARRED_S)
    assert plan.order == ("m0", "m1", "m2")


def test_captains_that_do_not_see_each_other_do_not_stop_the_job() -> None:
    """m0 and m1 each take the other for lost and are heard by all the others, for ten seconds."""
    job = replace(JOB, copies=3, steps=200)
    world = world_of(5, job)

    def blind() -> None:
        for a, b in (("m0", "m1"), ("m1", "m0")):
            if world.now < 10.0:
                world.act(world.nodes[a], lambda a=a, b=b: world.sees(world.nodes[a], b, False))
        if world.now < 10.0:
            world.after(0.3, blind)
        else:
            faults._heal(world, frozenset({"m0"}))

    world.after(0.4, blind)
    finish(world, 60.0)
    assert len(world.plans) < 60
    times = [at for at, *_ in world.commits]
    assert max(b - a for a, b in itertools.pairwise(times)) < 5.0


@pytest.mark.parametrize("how", ["cable", "freeze"])
@pytest.mark.parametrize("seconds", [5.0, 40.0])
def test_a_stalled_job_goes_on_when_the_holder_comes_back(how: str, seconds: float) -> None:
    world = world_of(3, replace(JOB, copies=1))

    def strike() -> None:
        if how == "cable":
            faults.cut(world, {"m1"}, seconds, "cable")
        else:
            faults.freeze(world, "m1", seconds)

    world.after(0.4, strike)
    plan = finish(world, seconds + 10.0)
    assert world.stalls
    assert world.stalls[0].missing
    assert "m1" in plan.order
    assert world.now > seconds
    assert not any(plan.thrown_away for plan in world.plans.values())


def test_what_nobody_has_stays_away() -> None:
    world = world_of(3, replace(JOB, copies=1))
    world.after(0.4, lambda: faults.kill(world, "m1"))
    world.after(1.0, lambda: faults.restart(world, "m1"))
    assert not world.run(200.0)
    assert world.stalls[-1].missing


def test_a_leaver_is_gone_within_a_second() -> None:
    for seed in range(8):
        world = world_of(4, seed=seed)
        at = 0.3 + random.Random(seed).random() / 10
        world.after(at, lambda w=world: faults.leave(w, "m1"))
        finish(world, 30.0)
        assert world.left_at["m1"] - at < 1.0


def test_long_histories_are_cut_and_still_tell_states_apart() -> None:
    """A ring for each step: more rings than a member remembers."""
    job = ToyJob((0, 0, 0), frozenset(), 2, 90, 4)
    world = world_of(3, job)
    seen: set[RingId] = set()

    def each_step(what: str, a: str, b: str, head: FrameHead | None) -> str | None:
        ring = world.newest()
        stepped = any(r == ring for *_, r in world.commits[-3:])
        if what == "DECISION" and ring not in seen and stepped:
            seen.add(ring)
            faults.break_link(world, a, b)
            return "lose"
        return None

    world.links.hook = each_step
    assert world.run(200.0)
    histories = {node.member.history for node in world.nodes.values() if node.finished}
    assert all(len(history) == 64 for history in histories)
    assert len(world.plans) > 70
    digests = {(n.member.step, n.holding.digest()) for n in world.nodes.values()}
    assert len({step for step, _ in digests}) == len(digests)
