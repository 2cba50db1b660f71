"""A daemon that does not answer, and a user who loses patience."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from meshd.cli.settings import Settings
from meshd.core.messages import LocalBody, LocalRequest
from meshd.net import local
from meshd.net.local import SOCKET_NAME
from meshd.net.stream import receive_message
from meshd.wire.schema import Family

PROMPT = {
    "status": ["status"],
    "logs": ["logs", "digits"],
    "cancel": ["cancel", "digits"],
    "resume": ["resume", "digits"],
    "key": ["key"],
    "trust": ["trust", "desk-2", "k" * 40],
}


@pytest.fixture
def listener(state: Path) -> Iterator[socket.socket]:
    """What a stopped daemon leaves: a socket whose kernel side still takes connections."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(state / SOCKET_NAME))
        listener.listen(8)
        listener.settimeout(60)
        yield listener


@pytest.mark.parametrize("name", PROMPT)
def test_a_silent_daemon_is_named_soon(
    name: str,
    listener: socket.socket,
    meshd: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The shorter limit is the one in force: with the other, the test would take two minutes."""
    assert 5 <= local.PROMPT_TIMEOUT_S <= 10
    monkeypatch.setattr(local, "PROMPT_TIMEOUT_S", 0.05)
    assert meshd(*PROMPT[name]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert err.startswith("meshd: the daemon does not answer; is it stopped or overloaded?")


@pytest.mark.parametrize("name", ["submit", "fetch"])
def test_long_commands_have_a_long_limit(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: Path
) -> None:
    from meshd.cli.main import run

    limits: list[float] = []

    def call(path: Path, command: str, *rest: Any) -> dict[str, Any]:
        limits.append(rest[-1])
        return {"job": "j", "name": "n", "bytes": 0}

    monkeypatch.setattr(local, "call", call)
    file = tmp_path / "file"
    file.write_text("x = 1\n")
    line = {"submit": [str(file), "--data", str(file)], "fetch": ["j", "-o", str(tmp_path / "o")]}
    assert run(["--state", str(state), name, *line[name]]) == 0
    assert limits == [local.REPLY_TIMEOUT_S]
    Settings(state).ask("status")
    assert limits[1] == local.PROMPT_TIMEOUT_S


def submitting(state: Path, tmp_path: Path, size: int) -> subprocess.Popen[str]:
    job, data = tmp_path / "job.toml", tmp_path / "data.npz"
    job.write_text('name = "digits"\n')
    data.write_bytes(b"x" * size)
    code = "from meshd.cli.main import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, "submit", str(job), "--data", str(data)],
        env={**os.environ, "MESHD_STATE": str(state)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("whole", [True, False])
def test_ctrl_c_in_submit_says_that_the_job_may_run(
    whole: bool, listener: socket.socket, state: Path, tmp_path: Path
) -> None:
    """Interrupted when the whole body has arrived, or when more of it than fits is on its way."""
    process = submitting(state, tmp_path, 3 << 20)
    link, _ = listener.accept()
    with link:
        link.settimeout(60)
        assert isinstance(receive_message(link, Family.LOCAL), LocalRequest)
        piece = receive_message(link, Family.LOCAL)
        while whole and piece.data:
            piece = receive_message(link, Family.LOCAL)
            assert isinstance(piece, LocalBody)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    words = "meshd: interrupted; the job may have been submitted: see meshd status"
    assert err.strip() == words


def test_a_stopped_daemon_is_named(
    state: Path,
    meshd: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A real daemon under SIGSTOP; it answers again afterwards."""
    code = "from meshd.cli.main import main; main()"
    options = ["--state", str(state), "run", "--host", "127.0.0.1", "--port", "0", "--no-mdns"]
    daemon = subprocess.Popen(
        [sys.executable, "-c", code, *options], stdout=subprocess.PIPE, text=True
    )
    try:
        assert daemon.stdout is not None
        assert daemon.stdout.readline().startswith("ready: ")
        daemon.send_signal(signal.SIGSTOP)
        with monkeypatch.context() as patch:
            patch.setattr(local, "PROMPT_TIMEOUT_S", 0.05)
            assert meshd("key") == 1
        assert "is it stopped or overloaded?" in capsys.readouterr().err
        daemon.send_signal(signal.SIGCONT)
        assert meshd("key") == 0
    finally:
        daemon.send_signal(signal.SIGCONT)
        daemon.terminate()
        daemon.communicate(timeout=60)
