"""Key files: mode, owner, shape; made once, by whoever comes first."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import zmq

from meshd.core.errors import FailureError, NotConfiguredError, PermissionRefusedError
from meshd.net.keys import KEY_FILE, is_key, load_keys, load_or_create_keys


def test_a_pair_is_made_once_and_secret(tmp_path: Path) -> None:
    old = os.umask(0o000)  # the worst one
    try:
        keys = load_or_create_keys(tmp_path)
    finally:
        os.umask(old)
    path = tmp_path / KEY_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert zmq.curve_public(keys.secret.encode()).decode() == keys.public
    assert is_key(keys.public) and keys.secret not in repr(keys)
    assert load_or_create_keys(tmp_path) == load_keys(tmp_path) == keys
    assert os.listdir(tmp_path) == [KEY_FILE], "no temporary file stays"


def test_a_strict_umask_does_no_harm(tmp_path: Path) -> None:
    old = os.umask(0o777)
    try:
        load_or_create_keys(tmp_path)
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600


def test_many_starters_end_with_one_pair(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        pairs = list(pool.map(load_or_create_keys, [tmp_path] * 16))
    assert len(set(pairs)) == 1 == len(os.listdir(tmp_path))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o666])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    load_or_create_keys(tmp_path)
    path = tmp_path / KEY_FILE
    path.chmod(mode)
    with pytest.raises(PermissionRefusedError) as caught:
        load_or_create_keys(tmp_path)
    assert f"chmod 0600 {path}" in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_key_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(NotConfiguredError, match="meshd run"):
        load_keys(tmp_path)
    assert not os.listdir(tmp_path)


A, B = ("rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7", "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"public = 5\nsecret = 6\n",
        b"not toml at all",
        b'public = "short"\nsecret = "short"\n',
        f'public = "{A}"\nsecret = "{A}"\n'.encode(),  # not the secret's public key
        f'public = "{A}"\nsecret = "{B}"\nextra = 1\n'.encode(),
        f'public = "{A}"\n'.encode(),
        f'public = "{A}"\nsecret = "{B[:39]}\xe9"\n'.encode(),
        b"\xff\xfe",
        b"x" * (2 << 20),
    ],
)
def test_a_broken_key_file_is_one_line_and_stays(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / KEY_FILE
    path.write_bytes(text)
    path.chmod(0o600)
    with pytest.raises(NotConfiguredError) as caught:
        load_or_create_keys(tmp_path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == text, "never overwritten: it may be the only copy of an identity"


def test_the_known_pair_is_read(tmp_path: Path) -> None:
    """The pair of ZeroMQ's own documentation (zmq_curve(7)), so the parameters above are good."""
    path = tmp_path / KEY_FILE
    path.write_text(f'public = "{A}"\nsecret = "{B}"\n')
    path.chmod(0o600)
    assert load_keys(tmp_path).public == A


def test_links_and_folders_are_no_key_files(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    load_or_create_keys(folder)
    other = tmp_path / "b"
    other.mkdir()
    (other / KEY_FILE).symlink_to(folder / KEY_FILE)
    with pytest.raises(NotConfiguredError, match="not a plain file"):
        load_or_create_keys(other)
    third = tmp_path / "c"
    (third / KEY_FILE).mkdir(parents=True)
    with pytest.raises(NotConfiguredError, match="not a plain file"):
        load_or_create_keys(third)
    fourth = tmp_path / "d"
    fourth.mkdir()
    os.mkfifo(fourth / KEY_FILE, 0o600)
    with pytest.raises(NotConfiguredError, match="not a plain file"):
        load_or_create_keys(fourth)


def test_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(FailureError, match="cannot be written"):
        load_or_create_keys(tmp_path / "nowhere")
