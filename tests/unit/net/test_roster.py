"""The roster file: default deny, read again when it changes, broken means nobody."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from meshd.core.errors import NotConfiguredError, PermissionRefusedError, UsageError
from meshd.core.types import MachineKey
from meshd.net.roster import RosterFile, add_to_roster, read_roster

A = MachineKey("a" * 40)
B = MachineKey("b" * 39 + "#")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "roster.toml"


def write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o600)


def test_no_file_is_nobody(path: Path) -> None:
    assert read_roster(path) == {}
    roster = RosterFile(path)
    assert roster.name_of(A) is None and roster.trouble == ""


def test_adding_and_reading(path: Path) -> None:
    add_to_roster(path, "ada", A)
    add_to_roster(path, "bob-2.lab", B)
    assert read_roster(path) == {A: "ada", B: "bob-2.lab"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    add_to_roster(path, "ada", A)
    assert path.read_bytes() == before, "twice is once"
    assert os.listdir(path.parent) == ["roster.toml"]


def test_comments_stay(path: Path) -> None:
    write(path, f'# office, 2nd floor\n[machines]\n"ada" = "{A}" # the fast one')
    add_to_roster(path, "bob", B)
    text = path.read_text()
    assert text.startswith("# office, 2nd floor\n") and "# the fast one\n" in text
    assert read_roster(path) == {A: "ada", B: "bob"}


@pytest.mark.parametrize(
    ("name", "key", "says"),
    [
        ("", A, "machine's name"),
        ("a b", A, "machine's name"),
        ("-a", A, "machine's name"),
        ("x" * 64, A, "machine's name"),
        ('a"\nb', A, "machine's name"),
        ("eve", "", "40 characters"),
        ("eve", "a" * 39, "40 characters"),
        ("eve", "a" * 39 + '"', "40 characters"),
        ("eve", "a" * 39 + "\n", "40 characters"),
        ("ada", B, "another key"),
        ("eve", A, "already, as ada"),
    ],
)
def test_what_cannot_be_trusted_is_a_usage_error(
    path: Path, name: str, key: str, says: str
) -> None:
    add_to_roster(path, "ada", A)
    before = path.read_bytes()
    with pytest.raises(UsageError, match=says) as caught:
        add_to_roster(path, name, key)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


BROKEN = [
    "[machines",
    "machines = 5",
    f'[machine]\nada = "{A}"',
    f'ada = "{A}"',
    "[machines]\nada = 5",
    '[machines]\nada = "short"',
    f'[machines]\n"a b" = "{A}"',
    f'[machines]\nada = "{A}"\nbob = "{A}"',
    f'[machines]\nada = "{A}"\nada = "{B}"',
    f'[machines]\n[machines.ada]\nkey = "{A}"',
    "[machines]\nada = '''\n" + A + "\n'''",
]


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_file_is_one_line_and_stays(path: Path, text: str) -> None:
    write(path, text)
    with pytest.raises(NotConfiguredError) as caught:
        read_roster(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(NotConfiguredError):
        add_to_roster(path, "bob", B)
    assert path.read_text() == text


def test_a_roster_that_others_may_write_is_refused(path: Path) -> None:
    add_to_roster(path, "ada", A)
    path.chmod(0o620)
    with pytest.raises(PermissionRefusedError, match="chmod 0600"):
        read_roster(path)
    path.chmod(0o644)
    assert read_roster(path) == {A: "ada"}, "public keys: reading does no harm"


def test_changes_are_seen_at_once(path: Path) -> None:
    roster = RosterFile(path)
    assert roster.name_of(A) is None
    add_to_roster(path, "ada", A)
    assert roster.name_of(A) == "ada" and roster.names() == {A: "ada"}
    same_size = path.read_text().replace("ada", "bob")
    status = path.stat()
    replacement = path.with_name("new")
    write(replacement, same_size)
    os.utime(replacement, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(replacement, path)  # same size, same time: the inode tells
    assert roster.name_of(A) == "bob"
    path.unlink()
    assert roster.name_of(A) is None and roster.trouble == ""


def test_broken_means_nobody_until_it_is_repaired(path: Path) -> None:
    add_to_roster(path, "ada", A)
    roster = RosterFile(path)
    good = path.read_text()
    write(path, good + "bob = ")
    assert roster.name_of(A) is None
    assert roster.trouble.startswith("roster.toml cannot be used: not valid TOML")
    assert roster.trouble.endswith("; nobody is trusted") and "\n" not in roster.trouble
    write(path, good)
    assert roster.name_of(A) == "ada" and roster.trouble == ""
    path.chmod(0o666)
    assert roster.name_of(A) is None and "chmod" in roster.trouble


def test_names_cannot_be_changed_from_outside(path: Path) -> None:
    add_to_roster(path, "ada", A)
    roster = RosterFile(path)
    roster.names().clear()
    assert roster.name_of(A) == "ada"
