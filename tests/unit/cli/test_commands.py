"""Every command against a real local socket: what it asks, what it prints, how it fails."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.cli.settings import Settings
from meshd.core.errors import (
    FailureError,
    MeshdError,
    NotConfiguredError,
    PermissionRefusedError,
    UsageError,
)

JOB = "3f2a91c0" * 4
Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
Meshd = Callable[..., int]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    path = tmp_path / "job.toml"
    path.write_text('name = "digits"\n')
    return path


@pytest.fixture
def data_file(tmp_path: Path) -> Path:
    path = tmp_path / "data.npz"
    path.write_bytes(bytes(range(256)) * 10_000)  # 2.5 MB: more than one frame
    return path


def one_line(text: str) -> str:
    assert text.startswith("meshd: ") and text.count("\n") == 1, text
    return text


# --- every command and every kind of refusal ----------------------------------------------------

COMMAND_LINES: dict[str, list[str]] = {
    "status": ["status"],
    "logs": ["logs", "digits"],
    "cancel": ["cancel", "digits"],
    "resume": ["resume", "digits"],
    "key": ["key"],
    "trust": ["trust", "desk-2", "k" * 40],
    "submit": ["submit", "{job}", "--data", "{data}"],
    "fetch": ["fetch", "digits", "-o", "{out}"],
}


@pytest.fixture
def fill(job_file: Path, data_file: Path, tmp_path: Path) -> Callable[[str], list[str]]:
    """A command's line with the paths of this test in it."""
    paths = {"job": str(job_file), "data": str(data_file), "out": str(tmp_path / "out")}
    return lambda name: [word.format(**paths) for word in COMMAND_LINES[name]]


@pytest.mark.parametrize("name", COMMAND_LINES)
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FailureError("the disk is full"), 1),
        (UsageError("no job is called digits; there are: fashion"), 2),
        (PermissionRefusedError("not yours"), 4),
        (NotConfiguredError("the roster is broken"), 6),
    ],
)
def test_the_daemons_refusal_is_one_line_and_its_code(
    name: str,
    error: MeshdError,
    code: int,
    daemon: Any,
    meshd: Meshd,
    fill: Callable[[str], list[str]],
    capsys: Capture,
    tmp_path: Path,
) -> None:
    daemon.answers[name] = error
    before = sorted(tmp_path.iterdir())
    assert meshd(*fill(name)) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert one_line(err) == f"meshd: {error}\n"
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", COMMAND_LINES)
def test_without_a_daemon_it_says_how_to_start_one(
    name: str, meshd: Meshd, fill: Callable[[str], list[str]], capsys: Capture, tmp_path: Path
) -> None:
    before = sorted(tmp_path.iterdir())
    assert meshd(*fill(name)) == 7
    out, err = capsys.readouterr()
    assert out == ""
    assert "meshd run" in one_line(err)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", COMMAND_LINES)
def test_a_state_folder_that_others_can_enter_is_refused(
    name: str,
    daemon: Any,
    meshd: Meshd,
    fill: Callable[[str], list[str]],
    capsys: Capture,
) -> None:
    daemon.state.chmod(0o755)
    try:
        assert meshd(*fill(name)) == 6
    finally:
        daemon.state.chmod(0o700)
    assert "chmod 700" in one_line(capsys.readouterr().err)
    assert daemon.asked == []


# --- one by one ---------------------------------------------------------------------------------


def test_submit_sends_spec_and_data(
    daemon: Any, meshd: Meshd, job_file: Path, data_file: Path, capsys: Capture
) -> None:
    daemon.answers["submit"] = {"job": JOB, "name": "digits"}
    assert meshd("submit", job_file, "--data", data_file) == 0
    size = data_file.stat().st_size
    assert daemon.asked == [("submit", {"spec": 'name = "digits"\n', "data_bytes": size})]
    assert daemon.received == data_file.read_bytes()
    out, err = capsys.readouterr()
    assert out == JOB + "\n"
    assert "meshd status" in err


@pytest.mark.parametrize(
    ("end", "code"), [("done", 0), ("failed", 1), ("stopped", 1), ("cancelled", 1)]
)
def test_submit_can_wait_for_the_end(
    end: str,
    code: int,
    daemon: Any,
    meshd: Meshd,
    make: Any,
    job_file: Path,
    data_file: Path,
    capsys: Capture,
) -> None:
    states = [make.job(state="training"), make.job(state=end, why="desk-3 was lost")]
    daemon.answers["submit"] = {"job": JOB, "name": "digits"}
    daemon.answers["status"] = lambda _: make.status(
        [states.pop(0) if len(states) > 1 else states[0]], []
    )
    assert meshd("submit", job_file, "--data", data_file, "--watch") == code
    out, err = capsys.readouterr()
    assert out == JOB + "\n"
    assert "epoch 14/30" in err and "accuracy 96.1 %" in err
    if code:
        assert f"meshd: digits is {end}: desk-3 was lost" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("content", "words"), [(None, "no such file"), (b"\xff\xfe\x00", "not UTF-8 text")]
)
def test_submit_refuses_a_file_that_is_no_job_file(
    content: bytes | None,
    words: str,
    daemon: Any,
    meshd: Meshd,
    tmp_path: Path,
    data_file: Path,
    capsys: Capture,
) -> None:
    path = tmp_path / "no.toml"
    if content is not None:
        path.write_bytes(content)
    assert meshd("submit", path, "--data", data_file) == 2
    err = one_line(capsys.readouterr().err)
    assert words in err and str(path) in err
    assert daemon.asked == []


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe"])
def test_submit_refuses_what_is_no_data_file(
    kind: str, daemon: Any, meshd: Meshd, tmp_path: Path, job_file: Path, capsys: Capture
) -> None:
    path = tmp_path / "data"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    assert meshd("submit", job_file, "--data", path) == 2
    assert str(path) in one_line(capsys.readouterr().err)
    assert daemon.asked == []


def test_submit_may_not_read_the_data(
    daemon: Any, meshd: Meshd, job_file: Path, data_file: Path, capsys: Capture
) -> None:
    job_file.chmod(0o644)
    data_file.chmod(0)
    with as_nobody(job_file):
        assert meshd("submit", job_file, "--data", data_file) == 4
    assert f"data file {data_file}: we may not read it" in one_line(capsys.readouterr().err)
    assert daemon.asked == []


@contextlib.contextmanager
def as_nobody(path: Path) -> Iterator[None]:
    """Root may read every file: be another user (our group stays), who can reach `path`."""
    if os.geteuid() != 0:
        yield
        return
    opened = [folder for folder in path.parents if folder.stat().st_mode & 0o011 != 0o011]
    modes = [folder.stat().st_mode for folder in opened]
    for folder, mode in zip(opened, modes, strict=True):
        folder.chmod(mode | 0o011)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        for folder, mode in zip(opened, modes, strict=True):
            folder.chmod(mode)


def test_logs_pass_no_control_characters(daemon: Any, meshd: Meshd, capsys: Capture) -> None:
    daemon.answers["logs"] = {"lines": ["step 1", "\x1b[2Jgone\r\u202e"]}
    assert meshd("logs", "digits") == 0
    assert capsys.readouterr().out == "step 1\n?[2Jgone??\n"


@pytest.mark.parametrize("name", ["cancel", "resume"])
def test_cancel_and_resume_name_the_new_state(
    name: str, daemon: Any, meshd: Meshd, capsys: Capture
) -> None:
    daemon.answers[name] = {"job": JOB, "state": "waiting"}
    assert meshd(name, "digits") == 0
    assert daemon.asked == [(name, {"job": "digits"})]
    out, err = capsys.readouterr()
    assert out == "" and "is waiting" in err


def test_key_is_data(daemon: Any, meshd: Meshd, capsys: Capture) -> None:
    daemon.answers["key"] = {"name": "desk-1", "key": "-" + "k" * 39}
    assert meshd("key") == 0
    assert capsys.readouterr().out == "-" + "k" * 39 + "\n"


@given(key=st.text(Z85, min_size=40, max_size=40))
def test_any_key_passes_the_command_line(key: str) -> None:
    """Keys may begin with a dash and hold equal signs; click must not see options in them."""
    from unittest.mock import patch

    from meshd.cli.main import run

    with patch("meshd.cli.settings.Settings.ask", return_value={}) as ask:
        assert run(["trust", "desk-2", key]) == 0
        ask.assert_called_once_with("trust", {"name": "desk-2", "key": key})


def test_trust_asks_the_daemon(daemon: Any, meshd: Meshd, capsys: Capture) -> None:
    daemon.answers["trust"] = {}
    assert meshd("trust", "desk-2", "--" + "k" * 38) == 0
    assert daemon.asked == [("trust", {"name": "desk-2", "key": "--" + "k" * 38})]


# --- fetch --------------------------------------------------------------------------------------


def test_fetch_writes_the_model(daemon: Any, meshd: Meshd, tmp_path: Path) -> None:
    daemon.stream = [b"model", b"x" * (3 << 20)]
    daemon.answers["fetch"] = {"bytes": 5 + (3 << 20), "name": "digits"}
    target = tmp_path / "model.safetensors"
    target.write_bytes(b"old")
    assert meshd("fetch", "digits", "-o", target) == 0
    assert target.read_bytes() == b"".join(daemon.stream)
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~umask
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("stream", [[b"half", b"break"], [b"half"]])
def test_fetch_leaves_nothing_half_written(
    stream: list[bytes], daemon: Any, meshd: Meshd, tmp_path: Path, capsys: Capture
) -> None:
    daemon.stream = stream
    daemon.answers["fetch"] = {"bytes": 8, "name": "digits"}
    target = tmp_path / "model.safetensors"
    target.write_bytes(b"old")
    assert meshd("fetch", "digits", "-o", target) == 1
    one_line(capsys.readouterr().err)
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_fetch_says_that_the_disk_is_full(daemon: Any, meshd: Meshd, capsys: Capture) -> None:
    """The kernel's own full device: a write there always ends with ENOSPC."""
    if not os.access("/dev/full", os.W_OK):
        pytest.skip("no /dev/full on this system")
    daemon.stream = [b"x" * (1 << 20)]
    daemon.answers["fetch"] = {"bytes": 1 << 20, "name": "digits"}
    from unittest.mock import patch

    # The only change is where the temporary file lies.
    full = lambda **_: (os.open("/dev/full", os.O_WRONLY), "/nonexistent/x")  # noqa: E731
    with patch("meshd.cli.files.tempfile.mkstemp", full):
        assert meshd("fetch", "digits", "-o", "model") == 1
    assert "No space left" in one_line(capsys.readouterr().err)


def test_fetch_refuses_a_folder(daemon: Any, meshd: Meshd, tmp_path: Path, capsys: Capture) -> None:
    assert meshd("fetch", "digits", "-o", tmp_path) == 2
    assert "is a folder" in one_line(capsys.readouterr().err)
    assert meshd("fetch", "digits", "-o", tmp_path / "none" / "model") == 2
    assert "no such folder" in one_line(capsys.readouterr().err)
    assert daemon.asked == []


# --- status -------------------------------------------------------------------------------------


def test_status_json_is_the_object(daemon: Any, meshd: Meshd, make: Any, capsys: Capture) -> None:
    status = make.status([make.job()], [make.machine("desk-1", "here")])
    daemon.answers["status"] = status
    assert meshd("status", "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == status and err == ""


def test_status_in_a_pipe_is_never_cut(
    daemon: Any, meshd: Meshd, make: Any, capsys: Capture
) -> None:
    why = "waits for three machines, " + "and waits " * 40 + "to this last word"
    daemon.answers["status"] = make.status([make.job(why=why)], [make.machine("desk-1", "here")])
    assert meshd("status") == 0
    out = capsys.readouterr().out
    assert why in out
    assert "\x1b" not in out


def test_status_of_another_version_is_not_guessed_at(
    daemon: Any, meshd: Meshd, make: Any, capsys: Capture
) -> None:
    daemon.answers["status"] = {**make.status([], []), "status_version": 2}
    assert meshd("status") == 1
    assert "another version" in one_line(capsys.readouterr().err)


# --- run ----------------------------------------------------------------------------------------


def test_run_becomes_the_daemon(state: Path) -> None:
    """A service manager must find the daemon in the process that it started."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", "from meshd.cli.main import main; main()"),
            *("--state", str(state), "run", "--name", "desk-7", "--host", "127.0.0.1"),
            *("--port", "0", "--threads", "1", "--no-mdns"),
            *("--peer", "-" + "k" * 39 + "@127.0.0.1:9"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready: desk-7 listens on 127.0.0.1")
        machine = Settings(state).ask("status")["machine"]
        assert (machine["name"], machine["pid"]) == ("desk-7", process.pid)
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 0


def test_runs_error_is_the_daemons(state: Path) -> None:
    state.chmod(0o755)
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from meshd.cli.main import main; main()"),
            *("--state", str(state), "run", "--host", "127.0.0.1", "--port", "0", "--no-mdns"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 6
    assert str(state) in one_line(done.stderr)
