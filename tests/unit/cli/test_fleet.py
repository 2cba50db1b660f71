"""The demo's processes: real daemons, and their end whatever happens."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd.cli.daemon_process import DaemonOptions
from meshd.cli.fleet import Fleet
from meshd.core.errors import FailureError


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short enough for the daemons' sockets."""
    with tempfile.TemporaryDirectory(prefix="meshd-t-") as name:
        yield Path(name)


def running(pid: int) -> bool:
    """Whether the process exists and has not ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_options_become_arguments(tmp_path: Path) -> None:
    options = DaemonOptions(tmp_path, "desk-1", "127.0.0.1", 0, 2, ["-key@h:1", "p"], mdns=False)
    assert options.arguments()[1:] == [
        *("-m", "meshd.daemon", f"--state={tmp_path}", "--name=desk-1", "--host=127.0.0.1"),
        *("--port=0", "--threads=2", "--peer=-key@h:1", "--peer=p", "--no-mdns"),
    ]
    assert DaemonOptions(tmp_path, cache_bytes=1 << 30).arguments()[4:] == [
        "--cache-bytes=1073741824"
    ]
    assert DaemonOptions(tmp_path).arguments()[3:] == [f"--state={tmp_path}"]


def test_daemons_run_inside_and_are_gone_after(folder: Path) -> None:
    with Fleet(folder, 2) as fleet:
        statuses = fleet.wait_until_ready()
        pids = [desk.process.pid for desk in fleet.desks]
        assert [status["machine"]["name"] for status in statuses] == ["desk-1", "desk-2"]
        assert [status["machine"]["pid"] for status in statuses] == pids
        fleet.exchange_keys()
        found = dict(fleet.wait_until_found())
        ports = {status["machine"]["name"]: status["machine"]["port"] for status in statuses}
        assert found["desk-1"] == [f"desk-2 at 127.0.0.1:{ports['desk-2']}"]
        assert found["desk-2"] == [f"desk-1 at 127.0.0.1:{ports['desk-1']}"]
    assert not any(running(pid) for pid in pids)


def test_daemons_are_gone_after_an_error(folder: Path) -> None:
    with pytest.raises(ZeroDivisionError), Fleet(folder, 1) as fleet:
        fleet.wait_until_ready()
        raise ZeroDivisionError
    assert not running(fleet.desks[0].process.pid)


def test_a_daemon_that_cannot_start_is_named_with_its_log(folder: Path) -> None:
    """A file stands where the second daemon's state folder should be."""
    (folder / "desk-2").touch()
    with Fleet(folder, 2) as fleet:
        with pytest.raises(FailureError, match="desk-2's daemon ended with status 6"):
            fleet.wait_until_ready()
        suspects = fleet.suspects("")
        assert [desk.name for desk in suspects] == ["desk-2"]
        assert any(str(folder / "desk-2") in line for line in suspects[0].tail())
