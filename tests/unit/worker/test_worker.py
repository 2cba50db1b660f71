"""Real workers over real CURVE links, driven as a daemon drives them, against the simulation."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from meshd.core.jobspec import JobSpec, canonical_json, parse_spec
from meshd.core.messages import (
    RingAck,
    RingComplaint,
    RingLeave,
    RingMember,
    SliceFile,
    WorkerCheckpoint,
    WorkerDismissed,
    WorkerFailed,
    WorkerFinished,
    WorkerPlan,
    WorkerProgress,
    WorkerReady,
)
from meshd.core.ring.agreement import Cargo, Plan, Proposal, RingId
from meshd.core.ring.plan import Shape, make_plan
from meshd.core.ring.wire_forms import ack_of, plan_message, proposal_message, shape_of
from meshd.core.types import Generation, JobId, Step
from meshd.data.load import load_npz
from meshd.hbnn.export import load_model, weight_hash
from meshd.net.keys import load_or_create_keys
from meshd.net.roster import ROSTER_FILE, add_to_roster
from meshd.net.worker_link import WorkerEnd

sys.path.insert(0, str(Path(__file__).parents[1] / "train"))
from oracle import Simulation

SEED = 11
JOB = JobId("0123456789abcdef" * 2)
PATIENCE_S = 60.0


MLP = {"width": 70}
CONVOLUTIONS = {
    "beta_w": 8,
    "beta_a": 8,
    "layers": [
        {"layer": "conv", "out": 8, "padding": 1},
        {"layer": "batchnorm"},
        {"layer": "ramp"},
        {"layer": "hadamard_conv", "out": 8, "padding": 1},
        {"layer": "batchnorm"},
        {"layer": "dropout", "rate": 0.1},
        {"layer": "flatten"},
        {"layer": "linear", "bias": True},
    ],
}
BOTH = pytest.mark.parametrize("network", [MLP, CONVOLUTIONS], ids=["mlp", "convolutions"])


def spec_of(kind: str = "votes", network: dict[str, object] = MLP, **training: float) -> JobSpec:
    print(f"seed {SEED}")
    settings = {"epochs": 3, "batch": 16, "learning_rate": 1e-2, "seed": SEED}
    return parse_spec(
        {
            "name": "test",
            "network": network,
            "training": settings | {"checkpoint_steps": 5} | training,
            "exchange": {"kind": kind, "gamma": 64},
            "mesh": {"shares": "equal"},
        }
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    generator = np.random.default_rng(SEED)
    x = generator.integers(0, 256, (75, 5, 6), np.uint8)
    y = (x.mean(axis=(1, 2)) > 127).astype(np.uint8)
    path = tmp_path / "data.npz"
    np.savez(path, x_train=x[:60], y_train=y[:60], x_test=x[60:], y_test=y[60:])
    return path


class Member:
    """A worker process and the daemon's end of its link."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.folder = folder
        folder.mkdir(mode=0o700)
        self.key = load_or_create_keys(folder).public
        self.address: RingMember
        self.shape: Shape
        ours, theirs = socket.socketpair()
        ours.settimeout(PATIENCE_S)
        self.link = WorkerEnd(ours.detach())
        self.process = subprocess.Popen(
            [sys.executable, "-m", "meshd.worker", "--fd", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stderr=subprocess.PIPE,
            text=True,
        )
        theirs.close()

    def plan(self, job: JobSpec, data: Path, **changes: object) -> None:
        scratch = self.folder / "scratch"
        scratch.mkdir(exist_ok=True)
        settings: dict[str, object] = {
            "job": JOB,
            "spec": canonical_json(job),
            "generation": Generation(1),
            "key": self.key,
            "state_folder": str(self.folder),
            "scratch_folder": str(scratch),
            "data_path": str(data),
            "bind_host": "127.0.0.1",
            "threads": 1,
            "step": Step(0),
            "slices": (),
            "carried_path": "",
            "joins": False,
        }
        self.link.send(WorkerPlan(**(settings | changes)))  # type: ignore[arg-type]

    def until(self, kind: type) -> list[object]:
        """Messages up to the first of `kind`."""
        heard: list[object] = []
        while True:
            message = self.link.receive()
            heard.append(message)
            if message is None or isinstance(message, (kind, WorkerFailed)):
                assert isinstance(message, kind), heard[-3:]
                return heard


@contextlib.contextmanager
def members(tmp_path: Path, count: int) -> Iterator[list[Member]]:
    """Workers that trust each other; whatever happens, none outlives the test."""
    group = [Member(tmp_path / f"m{i}", f"m{i}") for i in range(count)]
    try:
        for one in group:
            for other in group:
                add_to_roster(one.folder / ROSTER_FILE, other.name, other.key)
        yield group
    finally:
        for member in group:
            member.link.close()
            member.process.kill()
            member.process.wait()
            if member.process.stderr is not None:
                member.process.stderr.close()


def start_ring(group: list[Member]) -> Plan:
    """Be the daemons of all and the captain: ask for a ring, hear all, decide."""
    for member in group:
        ready = member.until(WorkerReady)[-1]
        assert isinstance(ready, WorkerReady)
        member.address = RingMember(member.key, member.name, "127.0.0.1", ready.port)
        member.shape = shape_of(ready.shape)
    return reform(group, 1)


def reform(group: list[Member], number: int, before: Sequence[Member] = ()) -> Plan:
    """A new ring of these members, with `number` as its generation."""
    ring = RingId(number, group[0].key)
    order = tuple(member.key for member in before or group)
    proposal = Proposal(ring, tuple(member.key for member in group))
    acks = {}
    for member in group:
        member.link.send(proposal_message(JOB, Generation(1), proposal))
    for member in group:
        ack = member.until(RingAck)[-1]
        while isinstance(ack, RingAck) and ack.ring.generation < number:  # repeated meanwhile
            ack = member.until(RingAck)[-1]
        assert isinstance(ack, RingAck) and ack.to == group[0].key
        acks[member.key] = ack_of(ack)
    plan = make_plan(ring, acks, order, group[0].shape)
    assert isinstance(plan, Plan), plan
    addresses = {member.key: member.address for member in group}
    for member in group:
        member.link.send(plan_message(JOB, Generation(1), plan, addresses))
    return plan


@pytest.mark.parametrize("count", [1, 3])
def test_workers_train_what_the_simulation_trains(tmp_path: Path, data: Path, count: int) -> None:
    spec = spec_of()
    simulation = Simulation(spec, load_npz(data), count)
    with members(tmp_path, count) as group:
        for member in group:
            member.plan(spec, data)
        plan = start_ring(group)
        heard = [member.until(WorkerFinished) for member in group]
        assert [member.process.wait(PATIENCE_S) for member in group] == [0] * count
    for step in range(simulation.steps):
        simulation.step(step, plan.owners)
    finished = [messages[-1] for messages in heard]
    assert {f.weight_hash for f in finished} == {weight_hash(simulation.net)}
    assert len({f.progress.accuracy for f in finished}) == 1
    for one in finished:
        assert weight_hash(load_model(one.model_path)[0]) == one.weight_hash
        assert (one.progress.bytes_sent > 0) == (count > 1)
        assert one.progress.step == simulation.steps
    assert any(isinstance(message, WorkerProgress) for message in heard[0])


@BOTH
def test_resume_from_files_equals_the_uninterrupted_run(
    tmp_path: Path, data: Path, network: dict[str, object]
) -> None:
    spec = spec_of(network=network)
    with members(tmp_path, 2) as group:
        for member in group:
            member.plan(spec, data)
        start_ring(group)
        heard = [member.until(WorkerFinished) for member in group]
    wanted = heard[0][-1].weight_hash  # type: ignore[attr-defined]
    parts = [
        next(m for m in messages if isinstance(m, WorkerCheckpoint) and m.step == 10)
        for messages in heard
    ]
    files = {file.slice: file for part in parts for file in part.slices}
    assert sorted(files) == list(range(parts[0].slice_count))
    slices = tuple(SliceFile(index, files[index].path) for index in sorted(files))
    (tmp_path / "again").mkdir()
    with members(tmp_path / "again", 2) as group:
        for member, part in zip(group, parts, strict=True):
            changes = {"step": Step(10), "slices": slices, "carried_path": part.carried_path}
            member.plan(spec, data, **changes)
        start_ring(group)
        again = [member.until(WorkerFinished)[-1].weight_hash for member in group]  # type: ignore[attr-defined]
    assert again == [wanted] * 2


def test_backups_write_the_same_bytes(tmp_path: Path, data: Path) -> None:
    """Running statistics in slice 0's file too."""
    with members(tmp_path, 3) as group:
        for member in group:
            member.plan(spec_of(network=CONVOLUTIONS), data)
        start_ring(group)
        contents: dict[int, set[bytes]] = {}
        holders: dict[int, int] = {}
        for member in group:
            heard = member.until(WorkerFinished)
            for message in heard:
                if isinstance(message, WorkerCheckpoint) and message.step == 5:
                    for file in message.slices:
                        contents.setdefault(file.slice, set()).add(Path(file.path).read_bytes())
                        holders[file.slice] = holders.get(file.slice, 0) + 1
    assert set(holders.values()) == {2}
    assert all(len(versions) == 1 for versions in contents.values())


@pytest.mark.parametrize(
    ("change", "sentence", "fatal"),
    [
        ({"data_path": "/nonexistent.npz"}, "no such file", True),
        ({"step": Step(5)}, "does not hold every slice", True),
        ({"spec": "{}"}, "name: needs", False),
        (
            {"spec": canonical_json(spec_of(network={"preset": "lenet"}))},
            "network: layer 3 has a window larger than its input (32, 1, 2)",
            True,
        ),
        ({"bind_host": "192.0.2.1"}, "cannot listen on 192.0.2.1", False),
    ],
)
def test_what_goes_wrong_is_one_sentence(
    tmp_path: Path, data: Path, change: dict[str, object], sentence: str, fatal: bool
) -> None:
    with members(tmp_path, 1) as (member,):
        member.plan(spec_of(), data, **change)
        failed = member.until(WorkerFailed)[-1]
        assert isinstance(failed, WorkerFailed)
        assert sentence in failed.reason and "\n" not in failed.reason
        assert failed.fatal is fatal
        assert member.process.wait(PATIENCE_S) == 1
        assert member.process.stderr is not None
        assert "Traceback" not in member.process.stderr.read()


@pytest.mark.parametrize("moment", ["before the plan", "waiting for the ring"])
def test_a_worker_ends_with_its_daemon(tmp_path: Path, data: Path, moment: str) -> None:
    with members(tmp_path, 1) as (member,):
        if moment == "waiting for the ring":
            member.plan(spec_of(), data)
            member.until(WorkerReady)
        member.link.close()
        assert member.process.wait(PATIENCE_S) != 0


def test_a_descriptor_that_is_no_link(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    command = [sys.executable, "-m", "meshd.worker", "--fd", str(read_end)]
    done = subprocess.run(
        command,
        pass_fds=[read_end],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    os.close(read_end)
    os.close(write_end)
    assert done.returncode == 1
    assert "no link to a daemon" in done.stderr and "Traceback" not in done.stderr


def test_a_killed_member_costs_the_others_nothing_but_its_part(tmp_path: Path, data: Path) -> None:
    spec = spec_of(epochs=40)
    with members(tmp_path, 3) as group:
        for member in group:
            member.plan(spec, data)
        start_ring(group)
        group[0].until(WorkerProgress)
        group[1].process.kill()
        complaint = group[0].until(RingComplaint)[-1]
        assert isinstance(complaint, RingComplaint)
        assert (complaint.about, complaint.why) == (group[1].key, "closed its link")
        rest = [group[0], group[2]]
        plan = reform(rest, 2, group)
        assert plan.step > 0 and plan.order == (group[0].key, group[2].key)
        assert not plan.thrown_away
        finished = [member.until(WorkerFinished)[-1] for member in rest]
    assert len({one.weight_hash for one in finished}) == 1  # type: ignore[attr-defined]
    assert {one.progress.step for one in finished} == {160}  # type: ignore[attr-defined]


def test_a_newcomer_is_given_what_it_needs(tmp_path: Path, data: Path) -> None:
    """Running statistics and dropout too: all train the same network from then on."""
    spec = spec_of(network=CONVOLUTIONS, epochs=40)
    with members(tmp_path, 3) as group:
        for member in group:
            member.plan(spec, data, joins=member is group[2])
        ready = group[2].until(WorkerReady)[-1]
        assert isinstance(ready, WorkerReady)
        group[2].address = RingMember(group[2].key, "m2", "127.0.0.1", ready.port)
        start_ring(group[:2])
        group[0].until(WorkerProgress)
        plan = reform(group, 2, group[:2])
        assert plan.step > 0 and group[2].key in plan.order
        finished = [member.until(WorkerFinished)[-1] for member in group]
    assert len({one.weight_hash for one in finished}) == 1  # type: ignore[attr-defined]


def test_a_leaver_hands_over_and_goes(tmp_path: Path, data: Path) -> None:
    spec = spec_of(epochs=40)
    with members(tmp_path, 3) as group:
        for member in group:
            member.plan(spec, data)
        start_ring(group)
        group[0].until(WorkerProgress)
        group[2].link.send(RingLeave(JOB, Generation(1), False, "the owner is back"))
        plan = reform(group, 2)
        assert plan.order == (group[0].key, group[1].key)
        assert {t.donor for t in plan.transfers if t.cargo is Cargo.CARRIED} == {group[2].key}
        group[2].until(WorkerDismissed)
        assert group[2].process.wait(PATIENCE_S) == 0
        finished = [member.until(WorkerFinished)[-1] for member in group[:2]]
    assert len({one.weight_hash for one in finished}) == 1  # type: ignore[attr-defined]
