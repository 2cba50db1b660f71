"""Which folder a command uses, and that it is ours alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from meshd.cli.settings import Settings, check_state_folder, default_state_folder
from meshd.core.errors import NotConfiguredError, NotRunningError


def test_default_folder_follows_the_xdg_specification(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/u")
    assert default_state_folder({"XDG_STATE_HOME": "/x"}) == Path("/x/meshd")
    assert default_state_folder({}) == Path("/home/u/.local/state/meshd")
    assert default_state_folder({"XDG_STATE_HOME": "not/absolute"}) == default_state_folder({})


def test_suggestions_repeat_a_typed_folder() -> None:
    assert Settings(Path("/a b"), explicit=True).program == "meshd --state '/a b'"
    assert Settings(Path("/a b")).program == "meshd"


def test_our_own_folder_is_accepted(state: Path) -> None:
    check_state_folder(state, "meshd")


@pytest.mark.parametrize("mode", [0o755, 0o710, 0o701, 0o770])
def test_open_folders_are_refused(state: Path, mode: int) -> None:
    state.chmod(mode)
    with pytest.raises(NotConfiguredError, match=f"mode {mode:04o}.*chmod 700"):
        check_state_folder(state, "meshd")
    state.chmod(0o700)


def test_other_things_are_refused(state: Path) -> None:
    with pytest.raises(NotRunningError, match="meshd run"):
        check_state_folder(state / "none", "meshd")
    (state / "file").touch()
    with pytest.raises(NotConfiguredError, match="not a folder"):
        check_state_folder(state / "file", "meshd")
    with pytest.raises(NotConfiguredError):
        check_state_folder(state / "file" / "below", "meshd")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_another_users_folder_is_refused(state: Path) -> None:
    os.chown(state, 12345, -1)
    try:
        with pytest.raises(NotConfiguredError, match="belongs to user 12345"):
            check_state_folder(state, "meshd")
    finally:
        os.chown(state, 0, -1)
