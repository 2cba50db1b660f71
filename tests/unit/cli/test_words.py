"""What a wrong argument or file is told: one line, before anything is sent or started."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meshd.daemon.__main__ import parse
from meshd.net.local import MAX_JOB_FILE_BYTES

Meshd = Callable[..., int]
Capture = pytest.CaptureFixture[str]
KEY = "k" * 40


def refusal(capsys: Capture) -> str:
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("meshd: ") and err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--peer", "nonsense"], "40 characters"),
        (["--peer", KEY], "40 characters"),
        (["--peer", f"{KEY}k@desk-2:9"], "40 characters"),
        (["--peer", "~" * 40 + "@desk-2:9"], "40 characters"),
        (["--peer", f"{KEY}@desk-2"], "HOST:PORT"),
        (["--peer", f"{KEY}@:9"], "HOST:PORT"),
        (["--peer", f"{KEY}@a/b:9"], "HOST:PORT"),
        (["--peer", f"{KEY}@desk-2:"], "the port"),
        (["--peer", f"{KEY}@desk-2:0"], "the port"),
        (["--peer", f"{KEY}@desk-2:70000"], "the port"),
        (["--peer", f"{KEY}@desk-2:٩"], "the port"),
        (["--port", "70000"], "70000"),
        (["--port", "-1"], "-1"),
        (["--threads", "0"], "0"),
        (["--cache-bytes", "1"], "1"),
        (["--name", ""], "letters"),
        (["--name", "-x"], "letters"),
        (["--name", "x" * 64], "letters"),
        (["--name", "two words"], "letters"),
    ],
)
def test_run_refuses_before_it_becomes_the_daemon(
    arguments: list[str],
    words: str,
    meshd: Meshd,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    monkeypatch.setattr(os, "execve", lambda *_: pytest.fail("a daemon was started"))
    assert meshd("run", *arguments) == 2
    assert words in refusal(capsys)


@pytest.mark.parametrize(
    "peer",
    [f"{KEY}@desk-2.local:47311", "-@" + "k" * 38 + "@10.0.0.2:1", f"{KEY}@[fe80::1%eth0]:65535"],
)
def test_what_run_accepts_the_daemon_accepts(
    peer: str, meshd: Meshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execve", lambda program, arguments, _: started.append(arguments))
    line = ["--peer", peer, "--cache-bytes", "1048576", "--name", "desk-1.x_y", "--port", "0"]
    assert meshd("run", *line) == 0
    options = parse(started[0][3:])
    (found,) = options.peers
    assert found.key == peer[:40]
    assert (options.cache_bytes, options.name, options.port) == (1 << 20, "desk-1.x_y", 0)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("k" * 39, "39 characters, not 40"),
        ("k" * 41, "41 characters, not 40"),
        ("", "0 characters, not 40"),
        ("k" * 39 + "~", "no key has"),
    ],
)
def test_a_wrong_key_is_measured_and_quoting_named(
    key: str, words: str, daemon: Any, meshd: Meshd, capsys: Capture
) -> None:
    assert meshd("trust", "desk-2", key) == 2
    line = refusal(capsys)
    assert words in line and "quote it" in line
    assert daemon.asked == []


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.npz"
    path.write_bytes(b"data")
    return path


def test_a_byte_order_mark_is_not_part_of_the_job(
    daemon: Any, meshd: Meshd, tmp_path: Path, data: Path
) -> None:
    job = tmp_path / "job.toml"
    job.write_bytes(b'\xef\xbb\xbfname = "digits"\n')
    daemon.answers["submit"] = {"job": "j", "name": "digits"}
    assert meshd("submit", job, "--data", data) == 0
    assert daemon.asked[0][1]["spec"] == 'name = "digits"\n'


@pytest.mark.parametrize("size", [MAX_JOB_FILE_BYTES + 1, 1 << 20])
def test_a_large_job_file_is_not_sent(
    size: int, daemon: Any, meshd: Meshd, tmp_path: Path, data: Path, capsys: Capture
) -> None:
    job = tmp_path / "job.toml"
    job.write_bytes(b"#" * size)
    assert meshd("submit", job, "--data", data) == 2
    line = refusal(capsys)
    assert str(job) in line and str(size) in line and str(MAX_JOB_FILE_BYTES) in line
    assert daemon.asked == []


def test_the_largest_job_file_is_sent(
    daemon: Any, meshd: Meshd, tmp_path: Path, data: Path
) -> None:
    job = tmp_path / "job.toml"
    job.write_bytes(b"#" * MAX_JOB_FILE_BYTES)
    daemon.answers["submit"] = {"job": "j", "name": "digits"}
    assert meshd("submit", job, "--data", data) == 0
    assert len(daemon.asked[0][1]["spec"]) == MAX_JOB_FILE_BYTES


def test_folders_and_empty_files_are_called_so(
    daemon: Any, meshd: Meshd, tmp_path: Path, data: Path, capsys: Capture
) -> None:
    job, empty = tmp_path / "job.toml", tmp_path / "empty.npz"
    job.write_text('name = "digits"\n')
    empty.touch()
    for arguments, words in [
        ((job, "--data", tmp_path), f"data file {tmp_path} is a folder"),
        ((job, "--data", empty), f"data file {empty} is empty"),
        ((tmp_path, "--data", data), f"job file {tmp_path} is a folder"),
        ((empty, "--data", data), f"job file {empty} is empty"),
    ]:
        assert meshd("submit", *arguments) == 2
        assert words in refusal(capsys)
    assert daemon.asked == []
