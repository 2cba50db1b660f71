"""The README's commands as a newcomer pastes them into a shell."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[3] / "README.md"


@pytest.fixture
def home() -> Iterator[Path]:
    """A home folder with `meshd` in its bin, short enough for the daemons' sockets."""
    with tempfile.TemporaryDirectory(prefix="meshd-t-") as name:
        program = Path(name) / "bin" / "meshd"
        program.parent.mkdir()
        code = shlex.quote("from meshd.cli.main import main; main()")
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {code} "$@"\n')
        program.chmod(0o755)
        yield Path(name)


def test_three_daemons_trust_each_other_when_pasted(home: Path) -> None:
    """All of the block up to the training: no command may run ahead of the daemons."""
    text = README.read_text(encoding="utf-8")
    block = text.split("Three daemons on one machine", 1)[1].split("```")[1]
    pasted, cut, _ = block.partition("python -P -m meshd.train.digits")
    assert cut, "the block's training begins elsewhere now"
    kept = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    path = f"{home / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", f"trap 'kill $(jobs -p); wait' EXIT; {pasted}"],
        cwd=home,
        env={**kept, "HOME": str(home), "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    logs = "".join(log.read_text() for log in sorted(home.glob("desk-*.log")))
    assert done.returncode == 0, done.stderr + logs
    for name in ("desk-1", "desk-2", "desk-3"):
        roster = tomllib.loads((home / "mesh" / name / "roster.toml").read_text())["machines"]
        assert sorted([*roster, name]) == ["desk-1", "desk-2", "desk-3"], done.stderr
