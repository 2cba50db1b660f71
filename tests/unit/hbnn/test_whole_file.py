"""Files that appear whole: their mode, writers at the same time, and what killed ones leave."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from meshd.hbnn.whole_file import remove_unfinished, written_whole


@pytest.fixture(params=[0o022, 0o027, 0o077, 0o002], ids=oct)
def mode(request: pytest.FixtureRequest) -> Iterator[int]:
    """What a plain `open` gives under a umask that holds meanwhile."""
    before = os.umask(request.param)
    yield 0o666 & ~request.param
    os.umask(before)


def test_the_mode_is_that_of_a_new_file_whoever_writes(mode: int, tmp_path: Path) -> None:
    """safetensors puts a file of its own, with mode 0600, where it was told to write."""
    (tmp_path / "old").touch(0o600)
    with written_whole(tmp_path / "old") as file:
        file.write_bytes(b"new")
    with written_whole(tmp_path / "tensors") as file:
        save_file({"a": np.ones(3)}, file)
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {
        "old": mode,
        "tensors": mode,
    }


@pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt])
def test_a_block_that_fails_leaves_the_old_file_alone(
    kind: type[BaseException], tmp_path: Path
) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    with pytest.raises(kind), written_whole(path) as file:
        file.write_bytes(b"half")
        (file.parent / "a library's own").touch()
        raise kind
    assert os.listdir(tmp_path) == ["f"] and path.read_bytes() == b"old"


def test_writers_at_the_same_time_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with written_whole(path) as one:
        one.write_bytes(b"one")
        with written_whole(path) as other:
            assert not other.read_bytes()
            other.write_bytes(b"other")
        assert path.read_bytes() == b"other"
    assert path.read_bytes() == b"one" and os.listdir(tmp_path) == ["f"]


KILLED = """
import os, signal, sys
from pathlib import Path
from meshd.hbnn.whole_file import written_whole
with written_whole(Path(sys.argv[1])) as file:
    file.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_only_what_killed_writers_left_is_removed(tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "f.x", tmp_path / "elsewhere"
    done = subprocess.run([sys.executable, "-c", KILLED, path], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    others = {".f.x.part", ".f.x." + "0" * 15, ".f-x." + "0" * 16, ".g.x." + "0" * 16, "elsewhere"}
    for name in others:
        (tmp_path / name).mkdir()
    (elsewhere / "file").touch()
    (tmp_path / f".f.x.{'1' * 16}").write_text("a file")
    (tmp_path / f".f.x.{'2' * 16}").symlink_to(elsewhere)
    stay = {*os.listdir(tmp_path)} - {left.name}
    remove_unfinished(path)
    assert {*os.listdir(tmp_path)} == stay and os.listdir(elsewhere) == ["file"]
    remove_unfinished(tmp_path / "no folder" / "f.x")
