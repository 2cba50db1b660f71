"""Jobs on three real daemons: trained, cancelled, killed, resumed, fetched."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from meshd.cli.fleet import Fleet
from meshd.hbnn.export import load_model, weight_hash

sys.path.insert(0, str(Path(__file__).parent))
from mesh import PATIENCE_S, Mesh

LONG = 10_000  # epochs of a job that a test ends


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    with Fleet(tmp_path, 3) as fleet:
        try:
            yield Mesh(fleet, tmp_path)
        finally:
            for desk in fleet.desks:  # shown by pytest when the test fails
                print(f"--- {desk.name}", *desk.tail(), sep="\n")


def test_three_machines_train_one_network_and_anyone_fetches_it(mesh: Mesh, tmp_path: Path) -> None:
    job = mesh.submit(30)
    done = mesh.wait_for(job, state="done")
    assert len(done["results"]) == len(done["members"]) == 3
    hashes = {result["weight_hash"] for result in done["results"]}
    assert len(hashes) == 1
    assert done["accuracy"] > 0.7
    assert all(result["bytes_sent"] > 0 for result in done["results"])
    for desk in ("desk-1", "desk-3"):
        path = tmp_path / f"{desk}.safetensors"
        fetched = mesh.cli("fetch", "job", "-o", str(path), desk=desk)
        assert fetched.returncode == 0, fetched.stderr
        assert weight_hash(load_model(path)[0]) in hashes
    logs = mesh.cli("logs", "job")
    assert "test accuracy" in logs.stdout
    assert mesh.cli("cancel", "job").returncode != 0  # done is done


def test_a_killed_worker_costs_no_step_and_its_machine_comes_back(mesh: Mesh) -> None:
    """The job asks for three: for a moment it waits, says so, and goes on in the same attempt."""
    job = mesh.submit(LONG)
    before = mesh.wait_for(job, checkpoint_step=lambda step: step >= 20)
    workers = [mesh.worker_of(f"desk-{number}") for number in (1, 2, 3)]
    workers[1].kill()
    again = mesh.wait_for(
        job,
        "desk-3",
        state="training",
        stalled=False,
        ring=lambda ring: ring > before["ring"],
        members=lambda members: len(members) == 3,
        step=lambda step: step > before["step"] + 20,
    )
    assert again["generation"] == before["generation"]
    assert workers[0].is_running() and workers[2].is_running()
    for desk in ("desk-1", "desk-3"):
        told = mesh.cli("logs", "job", desk=desk).stdout
        assert "the worker on desk-2 was killed by signal 9" in told
    assert mesh.cli("cancel", "job").returncode == 0
    for desk in ("desk-1", "desk-2", "desk-3"):
        mesh.wait_for(job, desk, state="cancelled")


def test_a_killed_daemon_is_named_and_the_others_go_on_without_it(mesh: Mesh) -> None:
    """The survivors hold every slice between them: copies = 2."""
    pair = mesh.submit(LONG, name="pair", least=2)
    before = mesh.wait_for(pair, checkpoint_step=lambda step: step >= 20)
    orphan = mesh.worker_of("desk-2")
    mesh.desk("desk-2").process.kill()
    for desk in ("desk-1", "desk-3"):
        left = mesh.wait_for(
            pair,
            desk,
            state="training",
            members=lambda members: len(members) == 2,
            step=lambda step: step > before["step"] + 20,
        )
        assert "desk-2" in left["why"] and left["generation"] == before["generation"]
        mesh.wait(
            lambda desk=desk: mesh.machine("desk-2", desk)["state"] == "lost", mesh.status, desk
        )
    _, alive = psutil.wait_procs([orphan], timeout=PATIENCE_S)
    assert not alive
    assert mesh.cli("cancel", "pair").returncode == 0


def test_a_daemon_that_is_shut_down_hands_over_and_the_job_ends_on_the_others(mesh: Mesh) -> None:
    pair = mesh.submit(60, name="pair", least=2)  # 600 steps
    mesh.wait_for(pair, checkpoint_step=lambda step: step >= 20)
    leaver = mesh.desk("desk-3").process
    leaver.terminate()
    assert leaver.wait(PATIENCE_S) == 0
    done = mesh.wait_for(pair, state="done")
    assert [result["name"] for result in sorted(done["results"], key=lambda r: r["name"])] == [
        "desk-1",
        "desk-2",
    ]
    assert len({result["weight_hash"] for result in done["results"]}) == 1
    assert "desk-3 was shut down" in mesh.cli("logs", "pair").stdout


def test_bad_input_is_one_line_and_the_daemon_lives(mesh: Mesh, tmp_path: Path) -> None:
    good = tmp_path / "good.toml"
    good.write_text('name = "good"\n')
    bad = tmp_path / "bad.toml"
    bad.write_text('name = "bad"\n[network]\nwidth = -3\n')
    broken = tmp_path / "broken.npz"
    broken.write_bytes(mesh.data().read_bytes()[:-200])
    cases = [
        (("submit", str(bad), "--data", str(mesh.data())), 2, "network.width"),
        (("submit", str(good), "--data", str(tmp_path / "none.npz")), 2, "none.npz"),
        (("submit", str(good), "--data", str(broken)), 2, "npz"),
        (("submit", str(tmp_path / "none.toml"), "--data", str(mesh.data())), 2, "none.toml"),
        (("logs", "nothing"), 2, "nothing"),
        (("cancel", "nothing"), 2, "nothing"),
        (("resume", "nothing"), 2, "nothing"),
        (("fetch", "nothing", "-o", str(tmp_path / "m")), 2, "nothing"),
    ]
    for arguments, code, words in cases:
        done = mesh.cli(*arguments)
        assert done.returncode == code, (arguments, done)
        assert words in done.stderr and "Traceback" not in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not (tmp_path / "m").exists()
    assert mesh.status()["jobs"] == []
    assert mesh.machine("desk-1")["state"] == "here"
