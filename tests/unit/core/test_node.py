"""The node as a whole, in meshes of several: what a person would see who watched `status`."""

from __future__ import annotations

import re

import pytest

from meshd.core.errors import FailureError, UsageError
from meshd.core.events import WorkerExited
from meshd.core.messages import (
    CheckpointPart,
    Finished,
    JobProgress,
    JobUpdate,
    MemberResult,
    Progress,
    Propose,
    Refuse,
    RingAck,
    RingPlan,
    RingProposal,
    WorkerFailed,
)
from meshd.core.registry import MAX_JOBS
from meshd.core.types import BlobId, Generation, MachineKey, Step


def training(mesh, job, step=0):
    """Whether every machine says that the job trains, at least so far."""
    return all_in(mesh, job, "training") and all(
        machine.node.site.registry.get(job).step() >= step
        for machine in mesh.machines
        if machine.up
    )


def all_in(mesh, job, state):
    return set(mesh.states(job)) == {state}


@pytest.mark.parametrize(("count", "seed"), [(1, 1), (2, 2), (3, 3), (5, 4), (8, 5)])
def test_a_job_runs_from_submit_to_done_on_all_machines(make_mesh, make_spec, count, seed):
    mesh = make_mesh(count, seed)
    job = mesh.submit(mesh[count - 1], make_spec(least=count))
    mesh.run_until(lambda: all_in(mesh, job, "done"))
    records = {mesh.record(machine, job) for machine in mesh.machines}
    assert len(records) == 1
    record = records.pop()
    assert len(record.results) == count == len(record.members)
    assert record.step == record.steps == 100
    assert record.checkpoint.step == 100
    assert len(record.checkpoint.carried) == count
    assert all(machine.worker is None for machine in mesh.machines)
    assert all(machine.node.own_machine().available for machine in mesh.machines)
    for machine in mesh.machines:
        assert machine.disk[job] == record
        mine = [result for result in record.results if result.key == machine.key]
        assert mine[0].model in machine.pinned


def test_progress_reaches_every_machine_even_one_that_does_not_train(make_mesh, make_spec):
    mesh = make_mesh(4)
    job = mesh.submit(mesh[0], make_spec(least=3, most=3))
    mesh.run_until(lambda: training(mesh, job, step=10))
    members = {member.key for member in mesh.record(mesh[0], job).members}
    assert len(members) == 3
    for machine in mesh.machines:
        assert set(machine.node.site.registry.get(job).progress) == members


def test_a_killed_worker_of_a_job_that_needs_it_stops_it_with_a_sentence_and_resume_goes_on(
    make_mesh, make_spec
):
    mesh = make_mesh(1)
    job = mesh.submit(mesh[0], make_spec(least=1))
    mesh.run_until(lambda: training(mesh, job, step=55))
    before = mesh.now
    mesh.worker_says(mesh[0], WorkerExited("was killed by signal 9"))
    mesh.run_until(lambda: all_in(mesh, job, "stopped"))
    assert mesh.now - before < 0.1
    assert re.fullmatch(
        r"the worker on desk-1 was killed by signal 9 at step 5[05];"
        r" `meshd resume fashion` goes on from step 40",
        mesh.record(mesh[0], job).reason,
    )
    assert mesh[0].worker is None
    mesh[0].node.resume(job, mesh.now)
    mesh.perform(mesh[0])
    mesh.run_until(lambda: mesh[0].worker is not None)
    start = mesh[0].worker.start
    assert (start.step, start.generation, len(start.slices)) == (40, 2, 5)
    assert start.carried, "each member has its own carried error of step 40"
    mesh.run_until(lambda: all_in(mesh, job, "done"))


def test_a_killed_daemon_is_named_within_five_seconds_and_the_others_go_on(make_mesh, make_spec):
    mesh = make_mesh(3)
    job = mesh.submit(mesh[0], make_spec(least=2))
    mesh.run_until(lambda: training(mesh, job, step=30))
    before = mesh.now
    mesh.kill(mesh[2])
    mesh.run_until(lambda: len(mesh.record(mesh[0], job).members) == 2)
    assert mesh.now - before < 5.0
    assert "trains on desk-1 and desk-2; desk-3" in mesh.record(mesh[0], job).reason
    mesh.run_until(lambda: not mesh[0].node.site.peers.is_alive(mesh[2].key), limit_s=4)
    assert mesh[0].node.site.peers.get(mesh[2].key).state() == "lost"
    assert mesh[0].worker is not None and mesh[1].worker is not None
    mesh.run_until(lambda: all_in(mesh, job, "done"))
    assert len(mesh.record(mesh[0], job).results) == 2


def test_a_daemon_that_restarts_faster_than_it_is_missed_comes_back_as_a_newcomer(
    make_mesh, make_spec
):
    mesh = make_mesh(3)
    job = mesh.submit(mesh[0], make_spec(least=2))
    mesh.run_until(lambda: training(mesh, job, step=30))
    mesh.kill(mesh[1])
    mesh.run_for(0.2)
    mesh.restart(mesh[1])
    mesh.run_until(lambda: len(mesh.record(mesh[0], job).members) == 2, limit_s=3)
    assert re.search("desk-2 (restarted|broke the link)", mesh.record(mesh[0], job).reason)
    mesh.run_until(lambda: len(mesh.record(mesh[0], job).members) == 3, limit_s=12)
    assert mesh[1].worker.start.joins
    mesh.run_until(lambda: all_in(mesh, job, "done"))
    assert len(mesh.record(mesh[0], job).results) == 3


def test_an_orderly_end_hands_over_within_a_second_and_is_told(make_mesh, make_spec):
    mesh = make_mesh(3)
    job = mesh.submit(mesh[0], make_spec(least=2))
    mesh.run_until(lambda: training(mesh, job, step=30))
    before = mesh.now
    mesh[1].node.leave("was shut down", mesh.now)
    mesh.perform(mesh[1])
    assert not mesh[1].node.left
    mesh.run_until(lambda: mesh[1].node.left, limit_s=1.0)
    mesh.kill(mesh[1])
    assert mesh.now - before < 0.5, "nothing was waited for"
    mesh.run_until(lambda: mesh.record(mesh[0], job).reason.endswith("desk-2 was shut down"))
    mesh.run_until(lambda: not mesh[0].node.site.peers.is_alive(mesh[1].key), limit_s=0.1)
    assert mesh[0].node.site.peers.get(mesh[1].key).state() == "lost"
    assert not any("is not heard" in line for machine in mesh.machines for line in machine.log)
    mesh.run_until(lambda: all_in(mesh, job, "done"))


def test_cancel_anywhere_ends_it_everywhere_and_for_good(make_mesh, make_spec):
    mesh = make_mesh(3)
    job = mesh.submit(mesh[0], make_spec())
    mesh.run_until(lambda: training(mesh, job, step=10))
    assert mesh[2].node.cancel(job, mesh.now).state == "cancelled"
    mesh.perform(mesh[2])
    mesh.run_until(lambda: all_in(mesh, job, "cancelled"), limit_s=0.1)
    assert all(machine.worker is None for machine in mesh.machines)
    mesh.run_for(30)
    assert all_in(mesh, job, "cancelled")
    with pytest.raises(UsageError, match="is cancelled"):
        mesh[1].node.resume(job, mesh.now)
    with pytest.raises(UsageError, match="nothing to cancel"):
        mesh[1].node.cancel(job, mesh.now)


def test_members_whose_weights_differ_fail_the_job_by_name(make_mesh, make_spec):
    mesh = make_mesh(3, weights={"desk-2": "bb" * 32})
    job = mesh.submit(mesh[0], make_spec())
    mesh.run_until(lambda: all_in(mesh, job, "failed"))
    reason = mesh.record(mesh[0], job).reason
    assert "weights differ" in reason and "desk-2 bbbbbbbbbbbb" in reason


def test_holders_that_disagree_about_a_slice_fail_the_job_by_name(make_mesh, make_spec):
    mesh = make_mesh(3, slice_error={"desk-3"})
    job = mesh.submit(mesh[0], make_spec())
    mesh.run_until(lambda: all_in(mesh, job, "failed"))
    reason = mesh.record(mesh[0], job).reason
    assert "desk-3" in reason and "disagree about slice" in reason and "at step 20" in reason
    assert mesh.record(mesh[0], job).checkpoint.step in (0, 20), "20: two of them cover all"


def test_broken_data_fails_the_job_for_every_ring(make_mesh, make_spec):
    mesh = make_mesh(3)
    job = mesh.submit(mesh[0], make_spec())
    mesh.run_until(lambda: mesh[1].worker is not None)
    mesh.worker_says(mesh[1], WorkerFailed("the file has no array named train", True))
    mesh.run_until(lambda: all_in(mesh, job, "failed"), limit_s=1)
    assert "desk-2" in mesh.record(mesh[0], job).reason
    assert "no array named train" in mesh.record(mesh[0], job).reason


def test_a_worker_that_gives_up_and_blames_another_is_left_out_and_the_blame_is_a_complaint(
    make_mesh, make_spec
):
    mesh = make_mesh(3)
    job = mesh.submit(mesh[0], make_spec(least=2))
    mesh.run_until(lambda: training(mesh, job, step=30))
    mesh.worker_says(mesh[0], WorkerFailed("its votes cannot be", False, mesh[2].key))
    mesh.run_until(lambda: len(mesh.record(mesh[1], job).members) == 2, limit_s=2)
    members = {member.name for member in mesh.record(mesh[1], job).members}
    assert members == {"desk-2", "desk-3"}, "the blamed one answers, and may stay"
    assert "the worker on desk-1 gave up: its votes" in mesh.record(mesh[1], job).reason
    asked = "the ring does not go on: desk-3 is to blame: its votes cannot be"
    assert any(asked in machine.log for machine in mesh.machines)
    mesh.run_until(lambda: all_in(mesh, job, "done"))


def test_two_jobs_do_not_share_a_machine_and_the_second_says_what_it_waits_for(
    make_mesh, make_spec
):
    mesh = make_mesh(3)
    first = mesh.submit(mesh[0], make_spec("first", least=2, most=2))
    mesh.run_for(0.2)
    second = mesh.submit(mesh[1], make_spec("second", least=2))
    mesh.run_until(lambda: training(mesh, first, step=20))
    assert all_in(mesh, second, "waiting")
    mesh.run_for(1.5)
    captain = mesh[2].node.captain
    (decision,) = captain.decisions(mesh[2].node.own_machine())
    assert decision.reason.startswith("waits for 2 machines; 1 is available: desk-")
    assert decision.reason.count("trains first") == 2
    mesh.run_until(lambda: all_in(mesh, second, "done"))
    assert all_in(mesh, first, "done")


def test_jobs_submitted_everywhere_at_once_all_finish(make_mesh, make_spec):
    mesh = make_mesh(4, seed=11)
    jobs = [
        mesh.submit(machine, make_spec(f"job{index}", least=2, most=3))
        for index, machine in enumerate(mesh.machines)
    ]
    mesh.run_until(lambda: all(all_in(mesh, job, "done") for job in jobs), limit_s=300)


def test_lost_messages_are_repeated(make_mesh, make_spec):
    """A link that breaks and comes back may swallow any message once."""
    mesh = make_mesh(3)
    swallowed = set()

    def lose(sender, target, message):
        kind = (sender, target, type(message).__name__)
        if (
            isinstance(message, Propose | RingProposal | RingPlan | RingAck | Finished)
            and kind not in swallowed
        ):
            swallowed.add(kind)
            return True
        return False

    mesh.lose = lose
    job = mesh.submit(mesh[0], make_spec())
    mesh.run_until(lambda: all_in(mesh, job, "done"))
    assert {kind for _, _, kind in swallowed} >= {
        "Propose",
        "RingProposal",
        "RingPlan",
        "RingAck",
        "Finished",
    }


def test_a_lost_update_heals(make_mesh, make_spec):
    mesh = make_mesh(2)
    lost = []

    def lose(sender, target, message):
        if isinstance(message, JobUpdate) and not lost:
            lost.append(message)
            return True
        return False

    mesh.lose = lose
    job = mesh.submit(mesh[0], make_spec(least=9, most=9))
    mesh.run_until(lambda: mesh[1].node.site.registry.get(job) is not None, limit_s=25)
    assert lost


def test_a_machine_that_comes_later_gets_all_records(make_mesh, make_spec):
    mesh = make_mesh(3, found=False)
    job = mesh.submit(mesh[0], make_spec(least=3))
    mesh.run_for(5)
    assert mesh[1].node.site.registry.get(job) is None
    mesh.discover()
    mesh.run_until(lambda: all_in(mesh, job, "done"))


def test_who_is_not_a_member_has_no_say(make_mesh, make_spec):
    mesh = make_mesh(4)
    job = mesh.submit(mesh[0], make_spec(least=3, most=3))
    mesh.run_until(lambda: training(mesh, job, step=10))
    record = mesh.record(mesh[0], job)
    outsider = next(m for m in mesh.machines if m.key not in {x.key for x in record.members})
    first = mesh.by_key(record.members[0].key).node
    progress = JobProgress(Step(90), 9, 0.0, 1.0, 0.0, 0)
    result = MemberResult(outsider.key, "x", 1.0, "aa" * 32, 0, BlobId("cc" * 32))
    for message in (
        Progress(job, record.generation, progress),
        CheckpointPart(job, record.generation, Step(90), (), BlobId(""), 5),
        Finished(job, record.generation, result),
        Propose(job, record.generation, (mesh[0].key,)),
        Refuse(job, record.generation, "no", True),
        Progress(job, Generation(99), progress),
    ):
        refused = first.site.refused.total()
        first.receive(outsider.key, message, mesh.now)
        assert first.site.refused.total() == refused + 1, message
        assert not [e for e in first.drain() if type(e).__name__ in ("SaveRecord", "StopWorker")]


def test_a_stranger_is_nobody(make_mesh):
    mesh = make_mesh(2)
    node = mesh[0].node
    stranger = MachineKey("zz" * 20)
    node.seen(stranger, "10.0.0.9", 7000, mesh.now)
    node.receive(stranger, Propose("00" * 16, Generation(1), (mesh[0].key,)), mesh.now)
    assert node.drain() == []
    assert node.site.refused["stranger"] == 1


def test_a_machine_taken_off_the_roster_is_disconnected_and_left_out(make_mesh, make_spec):
    mesh = make_mesh(3)
    job = mesh.submit(mesh[0], make_spec(least=2))
    mesh.run_until(lambda: training(mesh, job, step=10))
    for machine in mesh.machines[:2]:
        roster = dict(mesh.roster)
        del roster[mesh[2].key]
        machine.node.roster(roster, mesh.now)
        mesh.perform(machine)
        assert mesh[2].key not in machine.links
    mesh.run_until(lambda: len(mesh.record(mesh[0], job).members) == 2, limit_s=1)
    reason = mesh.record(mesh[0], job).reason
    assert reason == "trains on desk-1 and desk-2; desk-3 was taken off the roster"
    assert "desk-3 was taken off the roster" in mesh[0].notes
    mesh.run_until(lambda: mesh.record(mesh[0], job).state == "done")


def test_a_roster_that_cannot_be_used_is_named_as_the_cause(make_mesh, make_spec):
    mesh = make_mesh(3)
    job = mesh.submit(mesh[0], make_spec())
    mesh.run_until(lambda: training(mesh, job, step=10))
    trouble = "roster.toml cannot be used: not valid TOML; nobody is trusted"
    mesh[0].node.roster({}, mesh.now, trouble)
    mesh.perform(mesh[0])
    mesh.run_for(0.1)
    reason = mesh.record(mesh[0], job).reason
    assert re.match(
        rf"stalled: 1 of at least 3 machines are there; desk-2 is not trusted any more: {trouble}",
        reason,
    )
    assert mesh[0].node.member.availability() == (False, f"cannot train: {trouble}")
    mesh[0].node.roster(mesh.roster, mesh.now)
    assert mesh[0].node.member.availability() == (False, "trains fashion")
    mesh[0].node.roster({}, mesh.now, "x\n" * 5000)
    why = mesh[0].node.own_machine().why
    assert "\n" not in why and len(why) < 1100


def test_another_protocol_version_is_named_and_never_alive(make_mesh):
    mesh = make_mesh(2, found=False)
    object.__setattr__(mesh[1].node.site.me, "protocol", 9)
    mesh.discover()
    mesh.run_for(5)
    peer = mesh[0].node.site.peers.get(mesh[1].key)
    assert not peer.alive
    assert peer.why == "speaks protocol 9, this machine 1"


def test_a_machine_that_cannot_train_only_submits_and_watches(make_mesh, make_spec):
    mesh = make_mesh(3)
    object.__setattr__(mesh[0].node.site.me, "unable", "has no torch installed")
    mesh.run_for(2)
    job = mesh.submit(mesh[0], make_spec(least=1))
    mesh.run_until(lambda: all_in(mesh, job, "done"))
    assert mesh[0].key not in {member.key for member in mesh.record(mesh[0], job).members}


def test_records_are_bounded_and_finished_ones_are_forgotten_oldest_first(make_mesh, make_record):
    mesh = make_mesh(2)
    node = mesh[0].node
    records = [make_record(f"j{n}", at=1.7e9 + n, state="done") for n in range(MAX_JOBS + 5)]
    for record in records:
        node.receive(mesh[1].key, JobUpdate(record), mesh.now)
    mesh.perform(mesh[0])
    assert len(node.site.registry) == MAX_JOBS == len(mesh[0].disk)
    assert records[4].job not in mesh[0].disk and records[5].job in mesh[0].disk
    node.receive(mesh[1].key, JobUpdate(records[0]), mesh.now)
    assert records[0].job not in mesh[0].disk and len(node.site.registry) == MAX_JOBS


def test_two_hundred_unfinished_jobs_are_enough(make_mesh, make_spec):
    mesh = make_mesh(1)
    for n in range(MAX_JOBS):
        mesh.submit(mesh[0], make_spec(f"j{n}", least=9, most=9))
    with pytest.raises(FailureError, match="cancel some"):
        mesh.submit(mesh[0], make_spec("last", least=9, most=9))


def test_a_sleeping_laptop_does_not_take_its_own_sleep_for_the_others_death(make_mesh):
    mesh = make_mesh(2)
    mesh[0].node.handle_timer(mesh.now + 3600)
    assert mesh[0].node.site.peers.is_alive(mesh[1].key)


def test_a_job_whose_members_are_all_gone_can_be_resumed_elsewhere(make_mesh, make_spec):
    mesh = make_mesh(3)
    job = mesh.submit(mesh[0], make_spec(least=1, most=1))
    mesh.run_until(lambda: training(mesh, job, step=10))
    (member,) = mesh.record(mesh[0], job).members
    other = next(m for m in mesh.machines if m.key != member.key)
    with pytest.raises(UsageError, match="only a stopped job"):
        other.node.resume(job, mesh.now)
    other.blobs.add(BlobId("da" * 32))
    mesh.kill(mesh.by_key(member.key))
    mesh.run_for(5)
    assert other.node.resume(job, mesh.now).state in ("waiting", "forming")
    mesh.perform(other)
    mesh.run_until(lambda: all_in(mesh, job, "done"))


def test_equal_inputs_give_equal_histories(make_mesh, make_spec):
    """The core reads no clock and draws no chance."""

    def history():
        mesh = make_mesh(3, seed=5)
        job = mesh.submit(mesh[0], make_spec())
        mesh.run_until(lambda: all_in(mesh, job, "done"))
        return [(machine.log, machine.notes, machine.disk) for machine in mesh.machines]

    assert history() == history()
