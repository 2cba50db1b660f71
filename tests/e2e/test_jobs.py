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


def test_a_killed_worker_stops_the_job_by_name_and_resume_goes_on(mesh: Mesh) -> None:
    job = mesh.submit(LONG)
    mesh.wait_for(job, checkpoint_step=lambda step: step >= 20)
    workers = [mesh.worker_of(f"desk-{number}") for number in (1, 2, 3)]
    workers[1].kill()
    for desk in ("desk-1", "desk-2", "desk-3"):
        stopped = mesh.wait_for(job, desk, state="stopped")
        assert "desk-2" in stopped["why"] and "signal 9" in stopped["why"]
        assert "meshd resume" in stopped["why"]
    checkpoint = stopped["checkpoint_step"]
    assert checkpoint >= 20
    _, alive = psutil.wait_procs(workers, timeout=PATIENCE_S)
    assert not alive
    resumed = mesh.cli("resume", "job", desk="desk-3")
    assert resumed.returncode == 0, resumed.stderr
    again = mesh.wait_for(job, state="training", step=lambda step: step > checkpoint)
    assert again["generation"] > stopped["generation"]
    assert mesh.cli("cancel", "job").returncode == 0
    for desk in ("desk-1", "desk-2", "desk-3"):
        mesh.wait_for(job, desk, state="cancelled")


def test_a_killed_daemon_is_named_and_the_others_go_on_without_it(mesh: Mesh) -> None:
    job = mesh.submit(LONG, "members_max = 3")
    mesh.wait_for(job, checkpoint_step=lambda step: step >= 20)
    orphan = mesh.worker_of("desk-2")
    mesh.desk("desk-2").process.kill()
    for desk in ("desk-1", "desk-3"):
        stopped = mesh.wait_for(job, desk, state="stopped")
        assert "desk-2" in stopped["why"]
        mesh.wait(
            lambda desk=desk: mesh.machine("desk-2", desk)["state"] == "lost", mesh.status, desk
        )
    _, alive = psutil.wait_procs([orphan], timeout=PATIENCE_S)
    assert not alive
    # Two machines are left and the job asks for three: it waits, and says so.
    assert mesh.cli("resume", "job").returncode == 0
    waiting = mesh.wait_for(job, state="waiting")
    assert "3 machines" in waiting["why"] or "needs 3" in waiting["why"]


def test_two_machines_go_on_where_three_began(mesh: Mesh) -> None:
    """The survivors hold every slice between them: copies = 2."""
    job = mesh.submit(60, name="short")  # 600 steps
    mesh.wait_for(job, checkpoint_step=lambda step: step >= 20)
    mesh.cli("cancel", "short")
    toml = (mesh.folder / "short.toml").read_text().replace("members_min = 3", "members_min = 2")
    (mesh.folder / "pair.toml").write_text(toml.replace('"short"', '"pair"'))
    done = mesh.cli("submit", str(mesh.folder / "pair.toml"), "--data", str(mesh.data()))
    assert done.returncode == 0, done.stderr
    pair = next(j["job"] for j in mesh.status()["jobs"] if j["name"] == "pair")
    mesh.wait_for(pair, checkpoint_step=lambda step: step >= 20)
    mesh.desk("desk-3").process.kill()
    stopped = mesh.wait_for(pair, state="stopped")
    assert "desk-3" in stopped["why"]
    assert mesh.cli("resume", "pair").returncode == 0
    finished = mesh.wait_for(pair, state="done")
    assert len(finished["results"]) == 2
    assert len({result["weight_hash"] for result in finished["results"]}) == 1


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
