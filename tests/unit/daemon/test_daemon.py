"""Whole daemons as real processes: bad starts, bad input, restarts, and what they weigh."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from meshd.core.errors import FailureError, NotRunningError, UsageError
from meshd.core.job import new_record
from meshd.core.jobspec import canonical_json, parse_toml
from meshd.core.messages import JobRecord, RingMember
from meshd.core.types import BlobId, MachineKey
from meshd.net.local import SOCKET_NAME, call
from meshd.wire.schema import record as kind_of

SPEC = 'name = "patient"\n[mesh]\nmembers_min = 9\nmembers_max = 9\n'
HEAVY = ("torch", "numpy")


def npz(**changes) -> bytes:
    rng = np.random.default_rng(1)
    arrays = {
        "x_train": rng.integers(0, 255, (200, 8, 8), dtype=np.uint8),
        "y_train": rng.integers(0, 10, 200, dtype=np.uint8),
        "x_test": rng.integers(0, 255, (50, 8, 8), dtype=np.uint8),
        "y_test": np.arange(50, dtype=np.uint8) % 10,
        **changes,
    }
    file = io.BytesIO()
    np.savez(file, **{name: array for name, array in arrays.items() if array is not None})
    return file.getvalue()


GOOD = npz()


def blobs(daemon) -> list[str]:
    return sorted(path.name for path in (daemon.state / "blobs").iterdir())


# --- starting and ending -------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_listens_answers_and_ends_in_good_order(start_daemon, number):
    daemon = start_daemon("desk-1").ready()
    status = daemon.call("status")
    assert status["status_version"] == 1
    machine = status["machine"]
    assert machine["name"] == "desk-1" and machine["pid"] == daemon.process.pid
    assert machine["available"] and machine["why"] == "is free"
    assert [line["state"] for line in status["machines"]] == ["here"]
    assert status["jobs"] == []
    daemon.process.send_signal(number)
    code, _ = daemon.ended()
    assert code == 0
    assert not (daemon.state / SOCKET_NAME).exists()
    with pytest.raises(NotRunningError):
        daemon.call("status")


def one_line_error(daemon, code, words):
    ended, lines = daemon.ended()
    assert ended == code, lines
    assert words in lines[-1] and lines[-1].startswith("meshd: ")
    assert not any("Traceback" in line for line in lines)


def test_a_second_daemon_of_the_same_folder(start_daemon):
    first = start_daemon("desk-1").ready()
    one_line_error(start_daemon("desk-2", state=first.state), 1, "a daemon already runs")
    assert first.call("status")["machine"]["name"] == "desk-1"


def test_a_port_in_use(start_daemon, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        daemon = start_daemon("desk-1", f"--port={port}")
        one_line_error(daemon, 1, f"port {port}: Address already in use; choose others")
    assert not (daemon.state / SOCKET_NAME).exists()


def test_a_folder_open_to_others(start_daemon, tmp_path):
    tmp_path.chmod(0o755)
    one_line_error(start_daemon("desk-1", state=tmp_path), 6, "chmod 0700")
    assert list(tmp_path.iterdir()) == []


def test_somebody_elses_folder(start_daemon, tmp_path, as_root):
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)
    one_line_error(start_daemon("desk-1", state=folder), 6, "belongs to user 12345")


def test_a_broken_key_file(start_daemon, tmp_path):
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    (folder / "transport.key").write_text("rubbish")
    (folder / "transport.key").chmod(0o600)
    one_line_error(start_daemon("desk-1", state=folder), 6, "transport.key")


def test_a_name_that_cannot_be_one(start_daemon):
    one_line_error(start_daemon("two words"), 2, "a machine's name is")


@pytest.mark.parametrize(
    "option", ["--port=70000", "--threads=0", "--peer=abc@host:1", "--cache-bytes=12", "--what"]
)
def test_a_wrong_option_is_a_usage_error(start_daemon, option):
    code, lines = start_daemon("desk-1", option).ended()
    assert code == 2 and "error:" in lines[-1]


def test_a_broken_roster_trusts_nobody_and_the_daemon_lives(start_daemon, tmp_path):
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    (folder / "roster.toml").write_text("[machines\n")
    daemon = start_daemon("desk-1", state=folder).ready()
    assert len(daemon.call("status")["machines"]) == 1


# --- bad input of a user -------------------------------------------------------------------------


BAD_SPECS = {
    "name = ": "not valid TOML",
    'name = "x"\ncolour = 1\n': "colour: unknown key",
    'name = "x"\n[training]\nepochs = 0\n': "training.epochs: 0 is out of bounds",
    'name = "x"\n[mesh]\nmembers_min = 5\nmembers_max = 2\n': "members_min 5 is more than",
    'name = "x"\n[training]\nbatch = 5000\n': "more than the 200 samples",
    'name = "x"\n[network]\npreset = "lenet"\n': "network: layer ",
}
BAD_DATA = {
    "text": b"not a zip file",
    "cut": GOOD[:-100],
    "half": GOOD[: len(GOOD) // 2],
    "zeros": b"\0" * 1000,
    "without labels": npz(y_train=None),
    "another number of labels": npz(y_train=np.arange(7)),
    "strings": npz(x_train=np.array(["text"] * 200)),
    "objects": npz(x_train=np.array([{}] * 200, dtype=object)),
}


def test_bad_job_files_and_bad_data_are_one_line_and_leave_nothing(start_daemon):
    daemon = start_daemon().ready()
    for spec, what in BAD_SPECS.items():
        with pytest.raises(UsageError, match=what):
            daemon.submit(spec, GOOD)
    for kind, data in BAD_DATA.items():
        with pytest.raises(UsageError) as caught:
            daemon.submit(SPEC, data)
        print(f"{kind}: {caught.value}")
        assert re.fullmatch(r"data file: [^\n]+", str(caught.value)), kind
    assert blobs(daemon) == [] and daemon.call("status")["jobs"] == []
    assert daemon.submit(SPEC, GOOD)["name"] == "patient", "the daemon is unharmed"


@pytest.mark.parametrize(("announced", "what"), [(10, "longer than"), (10**6, "ended after")])
def test_a_body_of_another_length_than_announced(start_daemon, announced, what):
    daemon = start_daemon().ready()
    with pytest.raises(FailureError, match=what):
        daemon.submit(SPEC, GOOD, announced)
    assert blobs(daemon) == []


def test_data_that_does_not_fit_into_the_cache(start_daemon):
    daemon = start_daemon("desk-1", f"--cache-bytes={1 << 20}").ready()
    with pytest.raises(FailureError, match="no room for 2000000 bytes"):
        daemon.submit(SPEC, b"\0" * 2_000_000)
    assert blobs(daemon) == []


@pytest.mark.parametrize("size", [0, -1, "many", True, 2**60, None])
def test_a_size_that_is_none(start_daemon, size):
    daemon = start_daemon().ready()
    with pytest.raises(UsageError, match="data_bytes must be a whole number"):
        daemon.call("submit", spec=SPEC, data_bytes=size)


def test_commands_that_are_none_and_jobs_that_are_not_there(start_daemon):
    daemon = start_daemon().ready()
    with pytest.raises(UsageError, match="unknown command dance"):
        daemon.call("dance")
    for command in ("logs", "cancel", "resume", "fetch"):
        with pytest.raises(UsageError, match="no job 'nothing'; there are: none"):
            daemon.call(command, job="nothing")
        with pytest.raises(UsageError, match="job must be text"):
            daemon.call(command, job=7)
    with pytest.raises(UsageError, match="this machine's own key"):
        daemon.call("trust", name="me", key=daemon.key)
    with pytest.raises(UsageError):
        daemon.call("trust", name="other", key="short")


# --- jobs that wait, and restarts ----------------------------------------------------------------


def test_a_job_waits_with_a_sentence_is_found_by_name_and_id_and_is_cancelled(start_daemon):
    daemon = start_daemon().ready()
    job = daemon.submit(SPEC, GOOD)["job"]
    other = daemon.submit(SPEC.replace("patient", "other"), GOOD)["job"]
    assert len(blobs(daemon)) == 2, "equal data is one blob"
    jobs = {entry["job"]: entry for entry in daemon.call("status")["jobs"]}
    assert jobs[job]["state"] == "waiting"
    assert jobs[job]["why"] == "waits for 9 machines; 1 is available: desk-1"
    assert jobs[job]["loss"] is None and jobs[job]["float32_ring_bytes"] is None
    with pytest.raises(UsageError, match="a model is there once it is done"):
        daemon.call("fetch", job="patient")
    with pytest.raises(UsageError, match="only a stopped job can be resumed"):
        daemon.call("resume", job="patient")
    lines = daemon.call("logs", job=job[:6])["lines"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]+[+-][\d:]+ waiting: .*", lines[0])
    assert daemon.call("cancel", job="patient") == {"job": job, "state": "cancelled"}
    with pytest.raises(UsageError, match="is cancelled; there is nothing to cancel"):
        daemon.call("cancel", job=job)
    with pytest.raises(UsageError, match="no job ''; there are: "):
        daemon.call("cancel", job="")
    assert daemon.call("cancel", job=other[:8])["state"] == "cancelled"


def test_jobs_survive_kill_9_and_the_newest_of_a_name_is_meant(start_daemon):
    daemon = start_daemon().ready()
    first, second = (daemon.submit(SPEC, GOOD)["job"] for _ in range(2))
    daemon.process.kill()
    daemon.process.wait()
    daemon = start_daemon("desk-1", state=daemon.state).ready()
    assert [entry["job"] for entry in daemon.call("status")["jobs"]] == [first, second]
    assert daemon.call("cancel", job="patient")["job"] == second
    assert len(blobs(daemon)) == 2


def test_what_trained_here_before_a_restart_is_stopped_and_a_broken_record_set_aside(start_daemon):
    daemon = start_daemon().ready()
    key = MachineKey(daemon.key)
    daemon.process.send_signal(signal.SIGTERM)
    daemon.ended()
    base = new_record(canonical_json(parse_toml(SPEC)), BlobId("ab" * 32), 10, key, 1.7e9)
    trained = JobRecord(
        **{
            **{name: getattr(base, name) for name in base.__dataclass_fields__},
            "state": "training",
            "captain": key,
            "members": (RingMember(key, "desk-1", "127.0.0.1", 5),),
        }
    )
    jobs = daemon.state / "jobs"
    for job, text in (
        (trained.job, json.dumps(kind_of(JobRecord).dump(trained, "record"))),
        ("f" * 32, "{ broken"),
    ):
        (jobs / job).mkdir(mode=0o700)
        (jobs / job / "record.json").write_text(text)
    daemon = start_daemon("desk-1", state=daemon.state)
    daemon.wait_for("set aside a broken job record")
    daemon.ready()
    (entry,) = daemon.call("status")["jobs"]
    assert entry["state"] == "stopped"
    assert entry["why"] == (
        "the daemon on desk-1 restarted; `meshd resume patient` starts again from the beginning"
    )
    assert (jobs / ("f" * 32) / "record.json.broken").exists()


# --- several -------------------------------------------------------------------------------------


def introduce(daemons) -> None:
    """Everyone trusts everyone, as `meshd key` and `meshd trust` do it."""
    for one in daemons:
        for other in daemons:
            if one is not other:
                one.call("trust", name=other.name, key=other.key)


def loaded(pid: int) -> set[str]:
    """Which of the heavy libraries a process has mapped."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    return {name for name in (*HEAVY, "libtorch", "_multiarray_umath") if f"/{name}" in maps}


def test_with_three_peers_a_daemon_weighs_less_than_60_mb_and_loads_neither_torch_nor_numpy(
    start_daemon,
):
    first = start_daemon("desk-1").ready()
    others = [start_daemon(f"desk-{n}", f"--peer={first.address}").ready() for n in (2, 3, 4)]
    introduce([first, *others])
    for other in others:
        other.wait_for("desk-1 is here")
    for _ in others:
        first.wait_for(" is here")
    first.submit(SPEC, GOOD)
    status = first.call("status")
    assert [line["state"] for line in status["machines"]] == ["here"] + ["alive"] * 3
    print(f"RSS with three peers: {status['machine']['rss_bytes'] / 1e6:.1f} MB")
    assert status["machine"]["rss_bytes"] < 60e6
    for daemon in (first, *others):
        assert loaded(daemon.process.pid) == set()


def test_importing_the_daemon_loads_neither_torch_nor_numpy():
    program = (
        "import sys, meshd.daemon, meshd.daemon.__main__;"
        f"heavy = set({HEAVY!r}) & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_job_and_a_death_are_seen_on_the_others(start_daemon):
    first = start_daemon("desk-1").ready()
    second = start_daemon("desk-2", f"--peer={first.address}").ready()
    introduce([first, second])
    first.wait_for("desk-2 is here")
    second.wait_for("desk-1 is here")
    job = first.submit(SPEC, GOOD)["job"]
    second.wait_for("job patient: waiting")
    assert second.call("cancel", job=job)["state"] == "cancelled"
    second.process.kill()
    first.wait_for("desk-2 was lost: not heard for 3 s")
    status = first.call("status")
    (line,) = [line for line in status["machines"] if line["name"] == "desk-2"]
    assert line["state"] == "lost" and line["age_s"] < 5.0 and not line["available"]
    assert status["jobs"][0]["state"] == "cancelled"


def test_an_orderly_end_is_known_at_once(start_daemon):
    first = start_daemon("desk-1").ready()
    second = start_daemon("desk-2", f"--peer={first.address}").ready()
    introduce([first, second])
    first.wait_for("desk-2 is here")
    second.process.send_signal(signal.SIGTERM)
    first.wait_for("desk-2 left (was shut down)")


def test_a_stranger_gets_nowhere(start_daemon):
    first = start_daemon("desk-1").ready()
    stranger = start_daemon("desk-2", f"--peer={first.address}").ready()
    stranger.call("trust", name="desk-1", key=first.key)  # it trusts us; we do not know it
    stranger.submit(SPEC, GOOD)
    friend = start_daemon("desk-3", f"--peer={first.address}").ready()
    introduce([first, friend])
    first.wait_for("desk-3 is here")
    status = first.call("status")
    assert [line["name"] for line in status["machines"]] == ["desk-1", "desk-3"]
    assert status["jobs"] == []
    (line,) = [x for x in stranger.call("status")["machines"] if x["name"] == "desk-1"]
    assert line["state"] == "not seen"


def test_a_command_that_breaks_off_leaves_nothing(start_daemon):
    daemon = start_daemon().ready()

    def pieces():
        yield GOOD[:1000]
        raise KeyboardInterrupt

    arguments = {"spec": SPEC, "data_bytes": len(GOOD)}
    with pytest.raises(KeyboardInterrupt):
        call(daemon.state / SOCKET_NAME, "submit", arguments, pieces())
    daemon.submit(SPEC, GOOD)
    assert len(blobs(daemon)) == 2 and len(daemon.call("status")["jobs"]) == 1
