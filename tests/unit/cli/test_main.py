"""The group of commands: fast help, and errors as one line with their exit code."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from typing import Any

import pytest

import meshd
from meshd.cli.main import COMMANDS, run

HEAVY = ("rich", "zmq", "msgpack", "asyncio", "numpy", "torch", "zeroconf", "meshd.net")


def program(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """The real program in a process of its own."""
    code = "from meshd.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


def test_help_loads_no_command() -> None:
    code = (
        "import sys, json\nfrom meshd.cli.main import run\n"
        "assert run(['--help']) == 0\nprint('\\n' + json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert not loaded & set(HEAVY)
    assert not loaded & {f"meshd.cli.{name}" for name in COMMANDS}
    for name, words in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(words)}$", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0
    assert f"Usage: meshd {name}" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"meshd {meshd.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["stauts"], "stauts"),
        (["--stat", "x"], "--stat"),
        (["submit", "job.toml"], "--data"),
        (["fetch", "digits"], "-o"),
        (["logs"], "JOB"),
        (["logs", "a", "b"], "b"),
        (["demo", "--machines", "0"], "0"),
        (["demo", "--machines", "many"], "many"),
        (["run", "--port", "70000"], "70000"),
        (["--state", "/etc/passwd", "status"], "/etc/passwd"),
    ],
)
def test_usage_errors_are_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("meshd: ") and err.count("\n") == 1
    assert words in err


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "Commands:" in err


def test_the_program_exits_with_the_code() -> None:
    done = program("--state", "/nonexistent/meshd", "status")
    assert done.returncode == 7
    assert done.stdout == ""
    assert done.stderr.startswith("meshd: ") and done.stderr.count("\n") == 1
    assert "meshd --state /nonexistent/meshd run" in done.stderr


def test_defects_keep_their_traceback(monkeypatch: pytest.MonkeyPatch, state: object) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("meshd.cli.settings.Settings.ask", broken)
    with pytest.raises(ZeroDivisionError):
        run(["--state", str(state), "logs", "x"])


def test_ctrl_c_is_quiet(daemon: Any, make: Any) -> None:
    """The signal comes when the first screen has been printed, however long that takes."""
    daemon.answers["status"] = make.status([], [make.machine("desk-1", "here")])
    process = subprocess.Popen(
        [
            sys.executable,
            "-uc",
            "from meshd.cli.main import main; main()",
            "--state",
            str(daemon.state),
            "status",
            "--json",
            "--watch",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["status_version"] == 1
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip() == ""


@pytest.mark.parametrize(
    "module",
    ["click", "click.core", "locale", "meshd.cli.settings", "meshd.cli.key", "meshd.net.local"],
)
def test_ctrl_c_while_modules_load_is_quiet(module: str, daemon: Any) -> None:
    """The signal comes at the moment when Python looks for the module."""
    code = f"""
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
from meshd.cli.main import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code, "--state", str(daemon.state), "key"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "")
    assert daemon.asked == []


def test_a_closed_pipe_is_quiet(daemon: Any) -> None:
    """`meshd logs JOB | head -1`: more lines than a pipe holds, and nobody who reads them."""
    daemon.answers["logs"] = {"lines": ["x" * 100] * 5000}
    read, write = os.pipe()
    os.close(read)
    code = "from meshd.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "logs", "digits"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "MESHD_STATE": str(daemon.state)},
    )
    os.close(write)
    assert done.returncode == 1
    assert done.stderr == ""
