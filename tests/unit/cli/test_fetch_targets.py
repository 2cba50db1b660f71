"""Where `meshd fetch -o` writes: what is not a regular file stays what it is."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Meshd = Callable[..., int]
MODEL = b"model" + bytes(range(256)) * 10_000


@pytest.fixture(autouse=True)
def model(daemon: Any) -> None:
    daemon.stream = [MODEL[:5], MODEL[5:]]
    daemon.answers["fetch"] = {"bytes": len(MODEL), "name": "digits"}


def test_a_link_stays_and_its_target_is_replaced_whole(
    daemon: Any, meshd: Meshd, tmp_path: Path
) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    target, link, alias = folder / "today", tmp_path / "link", tmp_path / "alias"
    target.write_bytes(b"old")
    keeper = os.open(target, os.O_RDONLY)
    link.symlink_to("models/today")
    alias.symlink_to(link)
    assert meshd("fetch", "digits", "-o", alias) == 0
    assert link.is_symlink() and alias.is_symlink()
    assert target.read_bytes() == MODEL
    assert os.read(keeper, 10) == b"old", "replaced by a rename, not written over"
    os.close(keeper)
    daemon.stream = [b"half", b"break"]
    assert meshd("fetch", "digits", "-o", link) == 1
    assert target.read_bytes() == MODEL
    assert [path.name for path in folder.iterdir()] == ["today"]


def test_a_link_to_nothing_yet_makes_its_target(meshd: Meshd, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("new")
    assert meshd("fetch", "digits", "-o", link) == 0
    assert link.is_symlink() and (tmp_path / "new").read_bytes() == MODEL


def test_a_link_in_a_circle_is_one_line(
    meshd: Meshd, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = tmp_path / "link"
    link.symlink_to("link")
    assert meshd("fetch", "digits", "-o", link) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"meshd: {link}: ") and err.count("\n") == 1
    assert link.is_symlink()


def test_a_device_stays_a_device(meshd: Meshd, tmp_path: Path) -> None:
    """Its folder may be ours to rename in, as /dev is root's: a link in a folder of ours."""
    link = tmp_path / "null"
    link.symlink_to("/dev/null")
    assert meshd("fetch", "digits", "-o", link) == 0
    assert link.is_symlink()
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_device_of_ours_stays_a_device(meshd: Meshd, tmp_path: Path) -> None:
    node = tmp_path / "null"
    try:
        os.mknod(node, stat.S_IFCHR | 0o600, os.makedev(1, 3))
        os.close(os.open(node, os.O_WRONLY))
    except PermissionError:
        pytest.skip("only root makes device nodes, and not in every container")
    assert meshd("fetch", "digits", "-o", node) == 0
    assert stat.S_ISCHR(node.lstat().st_mode)


def test_a_named_pipe_carries_the_model(meshd: Meshd, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    assert meshd("fetch", "digits", "-o", pipe) == 0
    reader.join(30)
    assert got == [MODEL]
    assert stat.S_ISFIFO(pipe.lstat().st_mode)


def test_a_dash_is_stdout(meshd: Meshd, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert meshd("fetch", "digits", "-o", "-") == 0
    out, err = capfdbinary.readouterr()
    assert out == MODEL
    assert b"in stdout" in err
    assert not Path("-").exists()


def test_a_full_device_is_our_disks_fault(meshd: Meshd, capsys: pytest.CaptureFixture[str]) -> None:
    if not os.access("/dev/full", os.W_OK):
        pytest.skip("no /dev/full on this system")
    assert meshd("fetch", "digits", "-o", "/dev/full") == 1
    assert "No space left" in capsys.readouterr().err
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)
