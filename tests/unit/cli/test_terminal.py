"""On a real (pseudo) terminal: its width, its colours, NO_COLOR."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from typing import Any

import pytest

ESCAPE = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


def on_terminal(daemon: Any, columns: int, *arguments: str, **environ: str) -> bytes:
    """What the program writes to a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 50, columns, 0, 0))
    inherited = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "LINES", "NO_COLOR"}}
    process = subprocess.Popen(
        [sys.executable, "-c", "from meshd.cli.main import main; main()", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**inherited, "TERM": "xterm-256color", "MESHD_STATE": str(daemon.state), **environ},
    )
    os.close(theirs)
    output = b""
    try:
        while piece := os.read(ours, 65536):
            output += piece
    except OSError:  # EIO: nobody has the other side open any more (pty(7))
        pass
    os.close(ours)
    assert process.wait(60) == 0
    return output


@pytest.fixture
def served(daemon: Any, make: Any) -> Any:
    machines = [make.machine("desk-1", "here"), make.machine("desk-2", "lost", why="word " * 30)]
    daemon.answers["status"] = make.status([make.job(why="why " * 40)], machines)
    return daemon


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_the_screen_follows_the_terminals_width(served: Any, columns: int) -> None:
    output = ESCAPE.sub(b"", on_terminal(served, columns, "status")).decode()
    widths = [len(line) for line in output.splitlines()]
    assert columns - 15 <= max(widths) <= columns
    assert output.count("word") == 30


def test_colours_unless_refused(served: Any) -> None:
    assert re.search(rb"\x1b\[1;31mlost", on_terminal(served, 80, "status"))
    plain = on_terminal(served, 80, "status", NO_COLOR="1")
    assert not re.search(rb"\x1b\[[0-9;]*3[0-7]m", plain)
    assert b"lost" in plain


def test_json_is_never_coloured(served: Any) -> None:
    assert not ESCAPE.search(on_terminal(served, 80, "status", "--json"))


def test_key_shows_what_to_type_elsewhere(daemon: Any) -> None:
    daemon.answers["key"] = {"name": "desk 1", "key": "$" + "k" * 39}
    output = on_terminal(daemon, 120, "key").decode()
    assert f"meshd trust 'desk 1' '${'k' * 39}'" in output
    assert output.splitlines()[-1] == "$" + "k" * 39
