"""Rings that change while a job trains: real nodes, real ring members, a virtual clock."""

from __future__ import annotations

import itertools
import re

import pytest

from meshd.core.errors import UsageError
from meshd.core.events import WorkerExited
from meshd.core.job import captain_order
from meshd.core.messages import (
    JobUpdate,
    Progress,
    Propose,
    RingAck,
    RingComplaint,
    RingLeave,
    RingPlan,
    RingProposal,
    WorkerFailed,
)
from meshd.core.relay import LEAVE_S
from meshd.core.rings import STALL_PATIENCE_S
from meshd.core.types import BlobId


def all_in(mesh, job, state):
    return set(mesh.states(job)) == {state}


def trains(mesh, job, step=0):
    return all_in(mesh, job, "training") and all(
        machine.node.site.registry.get(job).step() >= step
        for machine in mesh.machines
        if machine.up
    )


def started(make_mesh, make_spec, count, least=1, most=8, step=30, **settings):
    mesh = make_mesh(count, **settings)
    job = mesh.submit(mesh[0], make_spec(least=least, most=most))
    for machine in mesh.machines:
        machine.blobs.add(BlobId("da" * 32))
    mesh.run_until(lambda: trains(mesh, job, step))
    return mesh, job


def record(mesh, job):
    """The record, once all living machines have the same."""
    records = {mesh.record(machine, job) for machine in mesh.machines if machine.up}
    assert len(records) == 1
    return records.pop()


def names(mesh, job):
    machine = next(machine for machine in mesh.machines if machine.up)
    return {member.name for member in mesh.record(machine, job).members}


def captain(mesh, job):
    """The machine that every living one takes for the ring's captain."""
    nodes = [machine.node for machine in mesh.machines if machine.up]
    (key,) = {n.standing.captain_of(n.site.registry.get(job).record) for n in nodes}
    assert [m.key for m in mesh.machines if m.up and m.node.rings.leads(job)] == [key]
    return mesh.by_key(key)


def by_order(mesh, job):
    """The machines, the captain first."""
    return sorted(mesh.machines, key=lambda machine: captain_order(job, machine.key))


def committed(mesh, machine):
    return machine.worker.step if machine.worker is not None else -1


def next_step_s(mesh, machines):
    """Seconds until each of these has committed a step more than the furthest one has now."""
    before, goal = mesh.now, max(committed(mesh, machine) for machine in machines) + 1
    mesh.run_until(lambda: all(committed(mesh, m) >= goal for m in machines), limit_s=30)
    return mesh.now - before


def isolate(mesh, machine):
    """Pull its cable: nothing breaks, everything is silence."""
    for other in mesh.machines:
        if other is not machine:
            mesh.cut |= {(machine.key, other.key), (other.key, machine.key)}


def test_the_captain_is_the_living_member_that_captain_order_puts_first(make_mesh, make_spec):
    mesh, job = started(make_mesh, make_spec, 4)
    order = by_order(mesh, job)
    assert captain(mesh, job) is order[0]
    mesh.kill(order[0])
    mesh.run_until(lambda: len(names(mesh, job)) == 3)
    mesh.run_for(0.5)
    assert captain(mesh, job) is order[1]
    ring = record(mesh, job).ring
    assert ring.captain == order[1].key and ring.generation > 1
    mesh.run_until(lambda: all_in(mesh, job, "done"))


@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_killed_worker_costs_less_than_a_second(make_mesh, make_spec, place):
    mesh, job = started(make_mesh, make_spec, 4)
    victim = by_order(mesh, job)[place]
    others = [machine for machine in mesh.machines if machine is not victim]
    mesh.worker_says(victim, WorkerExited("was killed by signal 9"))
    assert next_step_s(mesh, others) < 0.5
    mesh.run_until(lambda: len(names(mesh, job)) == 3)
    mesh.run_for(0.1)
    reason = record(mesh, job).reason
    assert re.search(
        rf"trains on .*; the worker on {victim.name} was killed by signal 9 at step \d+$", reason
    )
    asked = {m.worker.member.promised.generation for m in others}
    assert asked == {2}, "one captain asked for one ring"
    mesh.run_until(lambda: len(names(mesh, job)) == 4, limit_s=12)
    assert victim.worker.start.joins and not victim.worker.start.slices
    mesh.run_until(lambda: all_in(mesh, job, "done"))
    assert len(record(mesh, job).results) == 4


@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_killed_daemon_costs_less_than_a_second_and_a_half_where_its_links_break(
    make_mesh, make_spec, place
):
    """The worker dies with its daemon; what is known of it at once is that its links broke."""
    mesh, job = started(make_mesh, make_spec, 4)
    victim = by_order(mesh, job)[place]
    mesh.kill(victim)
    for machine in mesh.machines:
        if machine is not victim:
            machine.node.link(victim.key, False, mesh.now)
            mesh.perform(machine)
    assert next_step_s(mesh, [m for m in mesh.machines if m.up]) < 1.5
    mesh.run_until(lambda: all_in(mesh, job, "done"))


@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_pulled_cable_costs_less_than_three_seconds(make_mesh, make_spec, place):
    mesh, job = started(make_mesh, make_spec, 4)
    victim = by_order(mesh, job)[place]
    others = [machine for machine in mesh.machines if machine is not victim]
    isolate(mesh, victim)
    assert next_step_s(mesh, others) < 3.0
    mesh.cut = set()
    mesh.run_until(lambda: len(names(mesh, job)) == 4, limit_s=20)
    mesh.run_until(lambda: all_in(mesh, job, "done"))
    assert len(record(mesh, job).results) == 4


def test_a_link_that_comes_back_at_once_is_no_loss(make_mesh, make_spec):
    mesh, job = started(make_mesh, make_spec, 3)
    rings = [machine.worker.rings for machine in mesh.machines]
    for machine in mesh.machines[:2]:
        machine.node.link(mesh[2].key, False, mesh.now)
        mesh.perform(machine)
    mesh.run_for(0.2)
    for machine in mesh.machines[:2]:
        machine.node.link(mesh[2].key, True, mesh.now)
        mesh.perform(machine)
    mesh.run_for(2.0)
    assert [machine.worker.rings for machine in mesh.machines] == rings
    mesh.run_until(lambda: all_in(mesh, job, "done"))


def test_a_machine_that_becomes_free_joins_with_nothing_but_the_data(make_mesh, make_spec):
    mesh = make_mesh(4)
    object.__setattr__(mesh[3].node.site.me, "unable", "is used by its owner")
    mesh.run_for(2)
    job = mesh.submit(mesh[0], make_spec(least=3, most=8))
    mesh.run_until(lambda: trains(mesh, job, 20))
    assert len(names(mesh, job)) == 3
    object.__setattr__(mesh[3].node.site.me, "unable", "")
    mesh.run_until(lambda: len(names(mesh, job)) == 4, limit_s=5)
    worker = mesh[3].worker
    assert worker.start.joins and worker.start.slices == () and worker.start.carried == ""
    mesh.run_until(lambda: committed(mesh, mesh[3]) > 20)
    assert mesh.record(mesh[0], job).reason.endswith("; machines join")
    mesh.run_until(lambda: all_in(mesh, job, "done"))
    assert len(record(mesh, job).results) == 4


def test_a_full_ring_invites_nobody_and_a_waiting_job_comes_first(make_mesh, make_spec):
    mesh = make_mesh(4)
    object.__setattr__(mesh[2].node.site.me, "unable", "is used by its owner")
    object.__setattr__(mesh[3].node.site.me, "unable", "is used by its owner")
    mesh.run_for(2)
    first = mesh.submit(mesh[0], make_spec("first", least=2, most=3))
    mesh.run_until(lambda: trains(mesh, first, 5))
    for machine in mesh.machines:
        machine.blobs.add(BlobId("da" * 32))
    second = mesh.submit(mesh[0], make_spec("second", least=1, most=1))
    mesh.run_for(1)
    assert all_in(mesh, second, "waiting")
    object.__setattr__(mesh[2].node.site.me, "unable", "")
    mesh.run_until(lambda: len(names(mesh, second)) == 1, limit_s=5)
    assert names(mesh, first) == {"desk-1", "desk-2"} and names(mesh, second) == {"desk-3"}
    object.__setattr__(mesh[3].node.site.me, "unable", "")
    mesh.run_until(lambda: len(names(mesh, first)) == 3, limit_s=5)
    mesh.run_until(lambda: all_in(mesh, first, "done") and all_in(mesh, second, "done"))
    assert names(mesh, first) == {"desk-1", "desk-2", "desk-4"}


def test_a_machine_whose_worker_always_fails_is_asked_ever_more_rarely(make_mesh, make_spec):
    mesh, job = started(make_mesh, make_spec, 2, step=5)
    victim, asked = mesh[1], []
    lose = mesh.lose

    def watch(sender, target, message):
        if isinstance(message, Propose) and target == victim.key:
            asked.append(mesh.now)
        return lose(sender, target, message) or isinstance(message, RingAck)

    mesh.worker_says(victim, WorkerFailed("out of memory", False))
    mesh.run_until(lambda: len(names(mesh, job)) == 1)
    mesh.lose = watch  # from here on nothing is committed, so that the job does not end
    mesh.prepare_s = {victim.name: 0.01}
    end = mesh.now + 100
    while mesh.now < end:
        mesh.advance()
        mesh[0].worker.member.step = min(mesh[0].worker.member.step, 50)
        if victim.worker is not None and victim.worker.member.stage == "waiting":
            mesh.worker_says(victim, WorkerFailed("out of memory", False))
    gaps = [b - a for a, b in itertools.pairwise(asked)]
    assert len(asked) >= 3 and all(b > 1.5 * a for a, b in itertools.pairwise(gaps))
    told = [line for line in mesh[0].log if "desk-2 does not join" in line]
    assert told and "out of memory" in told[0]


@pytest.mark.parametrize("place", [0, 2])
def test_leaving_takes_no_time_and_loses_nothing(make_mesh, make_spec, place):
    mesh, job = started(make_mesh, make_spec, 3)
    leaver = by_order(mesh, job)[place]
    others = [machine for machine in mesh.machines if machine is not leaver]
    worker = leaver.worker
    leaver.node.leave("was shut down", mesh.now)
    mesh.perform(leaver)
    before = mesh.now
    mesh.run_until(lambda: leaver.node.left, limit_s=LEAVE_S)
    assert mesh.now - before < 0.5 and worker.member.stage == "dismissed"
    assert leaver.node.own_machine().why == "was shut down"
    mesh.kill(leaver)
    assert next_step_s(mesh, others) < 0.5
    assert any(entry[0] == "handed over" for entry in worker.holding.log)
    assert any(entry[0] == "given" for m in others for entry in m.worker.holding.log)
    mesh.run_until(lambda: all_in(mesh, job, "done"))
    assert len(record(mesh, job).results) == 2


def test_a_leaver_that_cannot_hand_over_is_gone_all_the_same(make_mesh, make_spec):
    mesh, job = started(make_mesh, make_spec, 3)
    leaver = by_order(mesh, job)[2]
    mesh.lose = lambda a, b, message: isinstance(message, RingPlan) and b == leaver.key
    leaver.node.leave("was shut down", mesh.now)
    mesh.perform(leaver)
    before = mesh.now
    mesh.run_until(lambda: leaver.node.left, limit_s=LEAVE_S + 0.01)
    assert mesh.now - before >= LEAVE_S and leaver.worker is None
    mesh.kill(leaver)
    mesh.run_until(lambda: all_in(mesh, job, "done"))


def test_the_last_machine_that_leaves_stops_the_job_with_a_sentence(make_mesh, make_spec):
    mesh, job = started(make_mesh, make_spec, 1)
    mesh[0].node.leave("was shut down", mesh.now)
    assert mesh[0].node.left
    mesh.perform(mesh[0])
    reason = mesh.record(mesh[0], job).reason
    assert reason.startswith("desk-1 was shut down; `meshd resume fashion` goes on from step")


def test_a_ring_that_lacks_slices_stalls_says_so_and_goes_on_when_they_come_back(
    make_mesh, make_spec
):
    mesh, job = started(make_mesh, make_spec, 5)
    cut_off = mesh.machines[3:]
    for machine in cut_off:
        isolate(mesh, machine)
    mesh.run_for(8)
    sides = [names(mesh, job), {m.name for m in mesh.record(mesh[4], job).members}]
    assert mesh.record(mesh[4], job).reason.startswith("stalled: nobody who is there has ")
    assert "desk-1 was lost" in mesh.record(mesh[4], job).reason or len(sides[1]) == 5
    mesh.run_for(STALL_PATIENCE_S + 5)
    assert mesh.record(mesh[4], job).state == "training", "the lesser side ends nothing for all"
    mesh.cut = set()
    mesh.run_until(lambda: all_in(mesh, job, "done"), limit_s=60)


def test_the_greater_part_of_a_ring_that_stalls_for_too_long_stops_the_job(make_mesh, make_spec):
    mesh, job = started(make_mesh, make_spec, 3, least=3)
    mesh.kill(mesh[2])
    mesh.run_until(lambda: mesh.record(mesh[0], job).reason.startswith("stalled: "))
    began = mesh.now
    sentence = "stalled: 2 of at least 3 machines are there"
    assert mesh.record(mesh[0], job).reason.startswith(sentence)
    mesh.run_for(4)
    cause = "desk-3 was lost: not heard for 3 s"
    assert {mesh.record(m, job).reason for m in mesh.machines[:2]} == {f"{sentence}; {cause}"}
    mesh.run_until(lambda: all_in(mesh, job, "stopped"), limit_s=STALL_PATIENCE_S + 5)
    assert mesh.now - began >= STALL_PATIENCE_S - 1
    assert re.search(
        r"no ring could be formed: 2 of at least 3 machines are there;"
        r" `meshd resume fashion` goes on from step \d+$",
        mesh.record(mesh[0], job).reason,
    )
    mesh.restart(mesh[2])
    mesh.run_for(5)
    mesh[0].node.resume(job, mesh.now)
    mesh.perform(mesh[0])
    mesh.run_until(lambda: all_in(mesh, job, "done"))


def test_a_job_below_its_least_goes_on_as_soon_as_a_machine_comes(make_mesh, make_spec):
    mesh, job = started(make_mesh, make_spec, 3, least=3)
    mesh.worker_says(mesh[1], WorkerExited("was killed by signal 9"))
    mesh.run_until(lambda: mesh.record(mesh[0], job).reason.startswith("stalled: "))
    mesh.run_until(lambda: "trains on" in mesh.record(mesh[0], job).reason, limit_s=15)
    assert mesh.record(mesh[0], job).generation == 1
    mesh.run_until(lambda: all_in(mesh, job, "done"))
    assert len(record(mesh, job).results) == 3


def test_a_stalled_job_may_be_resumed_from_its_checkpoint_by_a_person(make_mesh, make_spec):
    mesh, job = started(make_mesh, make_spec, 3, least=1, step=45)
    with pytest.raises(UsageError, match="only a stopped job"):
        mesh[0].node.resume(job, mesh.now)
    order = by_order(mesh, job)
    for machine in order[1:]:
        mesh.kill(machine)
    survivor = order[0]
    mesh.run_until(lambda: mesh.record(survivor, job).reason.startswith("stalled: "))
    for machine in mesh.machines:
        survivor.blobs |= machine.blobs
    assert survivor.node.resume(job, mesh.now).generation == 2
    mesh.perform(survivor)
    mesh.run_until(lambda: mesh.record(survivor, job).state == "done")


def test_cancel_in_the_middle_of_a_change_ends_it_everywhere(make_mesh, make_spec):
    mesh, job = started(make_mesh, make_spec, 4)
    mesh.worker_says(mesh[2], WorkerExited("was killed by signal 9"))
    asked = lambda: any(m.worker and m.worker.member.stage == "stopped" for m in mesh.machines)  # noqa: E731
    mesh.run_until(asked, limit_s=1)
    mesh[1].node.cancel(job, mesh.now)
    mesh.perform(mesh[1])
    mesh.run_until(lambda: all_in(mesh, job, "cancelled"), limit_s=0.2)
    mesh.run_for(10)
    assert all_in(mesh, job, "cancelled")
    assert all(machine.worker is None for machine in mesh.machines)
    assert all(machine.node.own_machine().available for machine in mesh.machines)


def test_a_record_whose_news_are_lost_costs_no_ring(make_mesh, make_spec):
    """Gossip of records fails for one machine for some time; the ring changes all the same."""
    mesh, job = started(make_mesh, make_spec, 4)
    order = by_order(mesh, job)
    deaf = order[2]
    mesh.lose = lambda a, b, message: isinstance(message, JobUpdate) and b == deaf.key
    mesh.kill(order[0])
    mesh.run_until(lambda: len(mesh.record(order[1], job).members) == 3)
    assert len(mesh.record(deaf, job).members) == 4
    assert next_step_s(mesh, [m for m in mesh.machines if m.up]) < 3
    mesh.lose = lambda a, b, message: False
    mesh.worker_says(order[1], WorkerExited("was killed by signal 9"))
    mesh.run_until(lambda: all_in(mesh, job, "done"))


def test_two_captains_for_a_while_end_with_one_ring(make_mesh, make_spec):
    """Two of four machines lose sight of the captain's daemon, though all workers are linked."""
    mesh, job = started(make_mesh, make_spec, 4)
    order = by_order(mesh, job)
    lost = {(a.key, b.key) for a in order[2:] for b in order[:1]}
    lost |= {(b, a) for a, b in lost}
    mesh.lose = lambda a, b, message: (a, b) in lost
    mesh.run_for(6)
    mesh.lose = lambda a, b, message: False
    mesh.run_until(lambda: all_in(mesh, job, "done"))
    assert len({m.worker is None for m in mesh.machines}) == 1


def test_a_lost_proposal_ack_or_plan_is_said_again(make_mesh, make_spec):
    mesh, job = started(make_mesh, make_spec, 4)
    swallowed = set()

    def lose(sender, target, message):
        kind = (sender, target, type(message).__name__)
        if isinstance(message, RingProposal | RingAck | RingPlan) and kind not in swallowed:
            swallowed.add(kind)
            return True
        return False

    mesh.lose = lose
    mesh.worker_says(mesh[3], WorkerExited("was killed by signal 9"))
    assert next_step_s(mesh, mesh.machines[:3]) < 4
    assert {kind for _, _, kind in swallowed} == {"RingProposal", "RingAck", "RingPlan"}
    mesh.run_until(lambda: all_in(mesh, job, "done"))


def test_what_a_stranger_to_the_ring_says_moves_nothing(make_mesh, make_spec):
    mesh, job = started(make_mesh, make_spec, 4, least=3, most=3)
    inside = {member.key for member in mesh.record(mesh[0], job).members}
    outsider = next(machine for machine in mesh.machines if machine.key not in inside)
    leader = captain(mesh, job)
    member = next(m for m in mesh.machines if m.key in inside and m is not leader)
    plan, generation = leader.node.member.now.plan, mesh.record(mesh[0], job).generation
    nothing = {"history": (), "held": (), "going": (), "past": (), "waits": False}
    nothing |= {"speed": 0.0, "leaving": False}
    ack = RingAck(job, generation, plan.ring, step=-1, running=plan.ring, to=leader.key, **nothing)
    for target, message in (
        (leader, ack),
        (leader, RingComplaint(job, generation, plan.ring, leader.key, "is silent")),
        (leader, RingLeave(job, generation, False, "goes")),
        (leader, RingLeave(job, 99, True, "is gone")),
        (member, RingProposal(job, generation, plan.ring, plan.machines)),
        (member, plan),
        (member, Progress(job, 99, None)),
    ):
        refused = target.node.site.refused.total()
        target.node.receive(outsider.key, message, mesh.now)
        assert target.node.site.refused.total() > refused, message
        kinds = {type(effect).__name__ for effect in target.node.drain()}
        assert not kinds & {"SaveRecord", "StopWorker", "TellWorker"}, message
    mesh.run_until(lambda: all_in(mesh, job, "done"))


def test_what_was_thrown_away_is_in_every_members_log(make_mesh, make_spec):
    """Two machines with two copies of all: cut off, both go on alone, until they meet again."""
    mesh, job = started(make_mesh, make_spec, 2, step=20)
    isolate(mesh, mesh[1])
    alone = lambda: all(len(mesh.record(m, job).members) == 1 for m in mesh.machines)  # noqa: E731
    mesh.run_until(alone, limit_s=10)
    mesh.run_for(1.0)
    mesh.cut = set()
    mesh.run_until(lambda: len(names(mesh, job)) == 2, limit_s=6)
    mesh.run_for(0.1)
    told = [line for machine in mesh.machines for line in machine.log if "thrown away" in line]
    assert len(told) == 2 and told[0] == told[1]
    assert re.fullmatch(
        r"desk-[12] goes back to the others' state: \d+ committed steps of its own"
        r" are thrown away",
        told[0],
    )
    mesh.run_until(lambda: all_in(mesh, job, "done"))
    weights = {result.weight_hash for result in record(mesh, job).results}
    assert len(record(mesh, job).results) == 2 and len(weights) == 1


@pytest.mark.parametrize("seed", range(10))
def test_kills_joins_leaves_and_cuts_in_one_job(make_mesh, make_spec, seed):
    """Whatever happens to machines one after the other, the job ends in its first attempt."""
    mesh, job = started(make_mesh, make_spec, 5, seed=seed, step=5)
    for _ in range(5):
        mesh.run_for(mesh.random.uniform(0.5, 2.5))
        victim = mesh.random.choice(mesh.machines)
        what = mesh.random.choice(["worker", "daemon", "cable", "leave"])
        print(f"{mesh.now:.2f} {what} {victim.name}")
        if what == "worker" and victim.worker is not None:
            mesh.worker_says(victim, WorkerExited("was killed by signal 9"))
        elif what == "daemon":
            mesh.kill(victim)
            mesh.run_for(mesh.random.uniform(0.1, 5.0))
            mesh.restart(victim)
        elif what == "cable":
            isolate(mesh, victim)
            mesh.run_for(mesh.random.uniform(0.1, 5.0))
            mesh.cut = set()
        elif what == "leave":
            victim.node.leave("was shut down", mesh.now)
            mesh.perform(victim)
            mesh.run_until(lambda node=victim.node: node.left, limit_s=1.1)
            mesh.kill(victim)
            mesh.restart(victim)
        mesh.run_until(lambda: len(names(mesh, job)) == 5 or all_in(mesh, job, "done"), limit_s=30)
    mesh.run_until(lambda: all_in(mesh, job, "done"))
    assert record(mesh, job).generation == 1
    assert len({result.weight_hash for result in record(mesh, job).results}) == 1
    mesh.run_for(15)
    assert all(machine.worker is None for machine in mesh.machines)
