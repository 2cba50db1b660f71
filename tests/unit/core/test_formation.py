"""How rings come to be: refusals, losses, two captains, and what arrives too late."""

from __future__ import annotations

import pytest

from meshd.core.errors import UsageError
from meshd.core.formation import FAILURES_MAX
from meshd.core.job import captain_order
from meshd.core.messages import Abort, Ready, WorkerFailed
from meshd.core.types import BlobId, Generation, MachineKey


def all_in(mesh, job, state):
    return set(mesh.states(job)) == {state}


def preparing(mesh):
    return [machine for machine in mesh.machines if machine.node.member.now]


def test_the_captain_is_the_lowest_digest_of_all_that_are_alive(make_mesh, make_spec):
    mesh = make_mesh(4)
    job = mesh.submit(mesh[0], make_spec(least=9, most=9))
    order = sorted((m.key for m in mesh.machines), key=lambda key: captain_order(job, key))
    assert {m.node.captain.captain_of(job) for m in mesh.machines} == {order[0]}
    mesh.kill(mesh.by_key(order[0]))
    mesh.run_for(5)
    alive = [m for m in mesh.machines if m.up]
    assert {m.node.captain.captain_of(job) for m in alive} == {order[1]}


def test_preparing_has_no_deadline_while_the_member_is_alive(make_mesh, make_spec):
    mesh = make_mesh(3, prepare_s={"desk-2": 3600.0})
    job = mesh.submit(mesh[0], make_spec())
    mesh.run_for(3000)
    assert all_in(mesh, job, "forming")
    assert mesh.record(mesh[0], job).generation == 1
    mesh.run_until(lambda: all_in(mesh, job, "done"), limit_s=700)


def test_a_member_lost_while_preparing_ends_the_generation_and_the_next_one_forms(
    make_mesh, make_spec
):
    mesh = make_mesh(4, prepare_s={"desk-2": 60.0})
    job = mesh.submit(mesh[0], make_spec(least=3))
    mesh.run_until(lambda: len(preparing(mesh)) == 4)
    mesh.kill(mesh[1])
    mesh.run_until(lambda: all_in(mesh, job, "done"))
    record = mesh.record(mesh[0], job)
    assert record.generation == 2 and len(record.members) == 3
    assert any("desk-2 was lost" in line for line in mesh[0].log)


def test_the_captain_lost_while_forming_leaves_the_job_to_the_next_one(make_mesh, make_spec):
    mesh = make_mesh(4, prepare_s={f"desk-{n}": 20.0 for n in range(1, 5)})
    job = mesh.submit(mesh[0], make_spec(least=3))
    mesh.run_until(lambda: len(preparing(mesh)) == 4)
    captain = mesh.by_key(mesh.record(mesh[0], job).captain)
    mesh.kill(captain)
    for machine in mesh.machines:
        machine.blobs.add(BlobId("da" * 32))
    mesh.run_until(lambda: all_in(mesh, job, "done"))
    assert mesh.record(preparing_or_first(mesh), job).captain != captain.key


def preparing_or_first(mesh):
    return next(machine for machine in mesh.machines if machine.up)


def test_a_captain_that_restarts_while_forming_begins_anew(make_mesh, make_spec):
    mesh = make_mesh(3, prepare_s={f"desk-{n}": 20.0 for n in range(1, 4)})
    job = mesh.submit(mesh[0], make_spec())
    mesh.run_until(lambda: len(preparing(mesh)) == 3)
    captain = mesh.by_key(mesh.record(mesh[0], job).captain)
    mesh.kill(captain)
    mesh.restart(captain)
    mesh.run_until(lambda: all_in(mesh, job, "done"), limit_s=200)
    assert mesh.record(mesh[0], job).generation > 1


def test_three_failed_rings_in_a_row_stop_the_job_with_the_reason(make_mesh, make_spec):
    mesh = make_mesh(3)
    job = mesh.submit(mesh[0], make_spec())
    failures = 0
    while not all_in(mesh, job, "stopped"):
        mesh.run_until(lambda: mesh[1].worker is not None or all_in(mesh, job, "stopped"))
        if mesh[1].worker is not None:
            failures += 1
            mesh.worker_says(mesh[1], WorkerFailed("cannot bind", False))
            mesh.run_until(lambda: not preparing(mesh))
    assert failures == FAILURES_MAX
    reason = mesh.record(mesh[0], job).reason
    assert reason.startswith("3 rings in a row could not be formed; the last one: desk-2:")
    assert "cannot bind" in reason and "`meshd resume fashion`" in reason
    mesh[0].node.resume(job, mesh.now)
    mesh.perform(mesh[0])
    mesh.run_until(lambda: all_in(mesh, job, "done"))


@pytest.mark.parametrize("name", ["fashion", "b", "c", "d"])
def test_one_sided_trust_is_named_by_who_does_not_trust(make_mesh, make_spec, name):
    """Whoever is captain, and sees all machines or not: the sentence reaches everyone."""
    mesh = make_mesh(3)
    roster = {key: who for key, who in mesh.roster.items() if who != "desk-2"}
    mesh[2].node.roster(roster, mesh.now)
    mesh.perform(mesh[2])
    mesh.cut = {(mesh[1].key, mesh[2].key)}
    mesh.run_for(5)
    job = mesh.submit(mesh[0], make_spec(name, least=3))
    for machine in mesh.machines:
        machine.blobs.add(BlobId("da" * 32))
    mesh.run_until(lambda: all_in(mesh, job, "stopped"))
    told = mesh.record(mesh[0], job).reason
    either = ("desk-3 does not trust desk-2", "desk-2 does not hear desk-3")
    assert any(f"the last one: {sentence}; `meshd" in told for sentence in either)


def test_a_member_waits_for_one_that_others_heard_a_moment_before(make_mesh, make_spec):
    mesh = make_mesh(3)
    mesh.cut = {(mesh[1].key, mesh[2].key), (mesh[2].key, mesh[1].key)}
    mesh.run_for(5)
    job = mesh.submit(mesh[0], make_spec("b", least=3))
    captain = mesh[0].node.captain
    captain.captain_of = lambda job: mesh[0].key
    mesh.run_until(lambda: len(preparing(mesh)) == 3)
    mesh.cut = set()
    mesh.run_until(lambda: all_in(mesh, job, "done"))
    assert mesh.record(mesh[0], job).generation == 1


def test_data_that_nobody_holds_stops_the_job_and_names_it(make_mesh, make_spec):
    mesh = make_mesh(3)
    job = mesh.submit(mesh[0], make_spec(least=3))
    mesh[0].blobs.clear()
    mesh.run_until(lambda: all_in(mesh, job, "stopped"))
    assert "no machine here holds the data" in mesh.record(mesh[1], job).reason


def test_a_slice_that_nobody_holds_stops_the_resumed_job(make_mesh, make_spec):
    mesh = make_mesh(3)
    job = mesh.submit(mesh[0], make_spec())
    mesh.run_until(lambda: mesh.record(mesh[0], job).checkpoint.step == 40)
    mesh.run_until(lambda: all(m.worker for m in mesh.machines))
    for machine in mesh.machines:
        mesh.worker_says(machine, WorkerFailed("out of memory", False))
    mesh.run_until(lambda: all_in(mesh, job, "stopped"))
    gone = mesh.record(mesh[0], job).checkpoint.slices[2].blob
    for machine in mesh.machines:
        machine.blobs.discard(gone)
    mesh[1].node.resume(job, mesh.now)
    mesh.perform(mesh[1])
    mesh.run_until(lambda: all_in(mesh, job, "stopped"))
    assert "3 rings in a row" in mesh.record(mesh[2], job).reason


def test_a_member_without_its_carried_error_says_so_and_starts_it_at_zero(make_mesh, make_spec):
    mesh = make_mesh(3)
    job = mesh.submit(mesh[0], make_spec())
    mesh.run_until(lambda: mesh.record(mesh[0], job).checkpoint.step == 40)
    mesh.run_until(lambda: len(mesh.record(mesh[0], job).checkpoint.carried) == 3)
    for machine in mesh.machines:
        mesh.worker_says(machine, WorkerFailed("out of memory", False))
    mesh.run_until(lambda: all_in(mesh, job, "stopped"))
    carried = {part.key: part.blob for part in mesh.record(mesh[0], job).checkpoint.carried}
    mesh[1].blobs.discard(carried[mesh[1].key])
    mesh[0].node.resume(job, mesh.now)
    mesh.perform(mesh[0])
    mesh.run_until(lambda: all(m.worker for m in mesh.machines))
    assert [bool(m.worker.start.carried) for m in mesh.machines] == [True, False, True]
    assert any("starts from zero" in line for line in mesh[1].log)


def test_messages_of_another_generation_are_dropped_and_counted(make_mesh, make_spec):
    mesh = make_mesh(2, prepare_s={"desk-1": 30.0, "desk-2": 30.0})
    job = mesh.submit(mesh[0], make_spec(least=2))
    mesh.run_until(lambda: len(preparing(mesh)) == 2)
    captain = mesh.by_key(mesh.record(mesh[0], job).captain)
    member = next(m for m in mesh.machines if m is not captain)
    old = Generation(0)
    for machine, sender, message in (
        (captain, member, Ready(job, old, 1234, 100)),
        (captain, member, Ready(job, Generation(7), 1234, 100)),
        (member, captain, Abort(job, old, "", "old")),
    ):
        before = machine.node.site.refused["other-generation"]
        machine.node.receive(sender.key, message, mesh.now)
        mesh.perform(machine)
        assert machine.node.site.refused["other-generation"] == before + 1
    assert len(preparing(mesh)) == 2


def test_two_captains_that_do_not_see_each_other_end_with_one_ring(make_mesh, make_spec):
    """A partition lasts long enough for both sides to form a ring of the same generation."""
    mesh = make_mesh(4)
    job = mesh.submit(mesh[0], make_spec(least=9, most=9))
    mesh.run_for(2)
    mesh[0].node.cancel(job, mesh.now)
    mesh.perform(mesh[0])
    job = mesh.submit(mesh[0], make_spec("split", least=2, most=2))
    left, right = {mesh[0].key, mesh[1].key}, {mesh[2].key, mesh[3].key}
    for machine in mesh.machines:
        machine.blobs.add(BlobId("da" * 32))
    mesh.run_for(0.05)
    mesh.cut = {(a, b) for a in left for b in right} | {(b, a) for a in left for b in right}
    mesh.run_for(4.5)
    mesh.cut = set()
    mesh.run_until(lambda: all_in(mesh, job, "done") or all_in(mesh, job, "stopped"), limit_s=200)
    records = {mesh.record(machine, job) for machine in mesh.machines}
    assert len(records) == 1
    mesh.run_for(20)
    assert all(machine.worker is None for machine in mesh.machines)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_dies_the_mesh_comes_to_one_truth(make_mesh, make_spec, seed):
    """Seeded kills, restarts and resumes; in the end all replicas agree and nothing runs twice."""
    mesh = make_mesh(4, seed)
    job = mesh.submit(mesh[0], make_spec(least=2))
    for machine in mesh.machines:
        machine.blobs.add(BlobId("da" * 32))
    for _ in range(6):
        mesh.run_for(mesh.random.uniform(0.1, 8.0))
        victim = mesh.random.choice(mesh.machines)
        if mesh.random.random() < 0.5 and victim.up:
            mesh.kill(victim)
        elif not victim.up:
            mesh.restart(victim)
        elif victim.worker is not None:
            mesh.worker_says(victim, WorkerFailed("out of memory", False))
        running = {m.worker.start.generation for m in mesh.machines if m.worker and m.worker.ring}
        print(f"{mesh.now:.2f} killed/restarted {victim.name}; rings {running}")
    for machine in mesh.machines:
        if not machine.up:
            mesh.restart(machine)
    for _ in range(20):
        mesh.run_for(15)
        states = set(mesh.states(job))
        if states == {"done"}:
            break
        if states == {"stopped"}:
            try:
                mesh[0].node.resume(job, mesh.now)
            except UsageError:
                continue
            mesh.perform(mesh[0])
    assert all_in(mesh, job, "done")
    assert len({mesh.record(machine, job) for machine in mesh.machines}) == 1


def test_every_key_has_an_equal_chance_to_be_captain():
    keys = [MachineKey(f"{n:02d}" * 20) for n in range(4)]
    counts = dict.fromkeys(keys, 0)
    for number in range(2000):
        counts[min(keys, key=lambda key: captain_order(f"{number:032x}", key))] += 1
    assert min(counts.values()) > 400
