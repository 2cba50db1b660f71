"""The state folder: whose it is, who uses it, and what is in it after a bad day."""

from __future__ import annotations

import dataclasses
import json
import os
import stat

import pytest

from meshd.core.errors import FailureError, NotConfiguredError, UsageError
from meshd.core.job import new_record
from meshd.core.jobspec import canonical_json, parse_toml
from meshd.core.messages import Checkpoint, RingMember, SliceBlob
from meshd.core.types import BlobId, Generation, MachineKey, Step
from meshd.daemon.state import LOG_BYTES_MAX, REPLY_LOG_BYTES, open_state

KEY = MachineKey("ab" * 20)
BLOB = BlobId("cd" * 32)
RECORD = dataclasses.replace(
    new_record(canonical_json(parse_toml('name = "j"')), BLOB, 10, KEY, 1.7e9),
    state="training",
    reason='quotes "and" ünicode',
    generation=Generation(3),
    captain=KEY,
    members=(RingMember(KEY, "desk-1", "10.0.0.1", 7000),),
    checkpoint=Checkpoint(Step(20), (SliceBlob(0, BLOB),), ()),
)


@pytest.fixture
def folder(tmp_path):
    state = open_state(tmp_path / "state")
    yield state
    state.close()


def test_a_new_folder_is_ours_alone(folder):
    for path in (folder.path, folder.blobs, folder.scratch, folder.path / "jobs"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_folder_that_lets_others_in_is_refused_with_the_remedy(tmp_path):
    tmp_path.chmod(0o750)
    with pytest.raises(NotConfiguredError, match=r"mode 0750.*run: chmod 0700"):
        open_state(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_subfolder_that_lets_others_in_is_refused(tmp_path):
    tmp_path.chmod(0o700)
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs").chmod(0o777)
    with pytest.raises(NotConfiguredError, match=r"blobs has mode 0777"):
        open_state(tmp_path)


def test_a_file_in_its_place_is_refused(tmp_path):
    (tmp_path / "state").write_text("")
    with pytest.raises(NotConfiguredError, match="choose another with --state"):
        open_state(tmp_path / "state")


def test_somebody_elses_folder_is_refused(tmp_path, as_root):
    tmp_path.chmod(0o700)
    os.chown(tmp_path, 12345, 12345)
    with pytest.raises(NotConfiguredError, match="belongs to user 12345, not to us"):
        open_state(tmp_path)


def test_two_daemons_never_share_a_folder(folder):
    with pytest.raises(FailureError, match="a daemon already runs with state folder"):
        open_state(folder.path)


def test_names_are_kept_and_checked(folder):
    assert folder.name("desk-7") == "desk-7"
    assert folder.name(None) == "desk-7"
    with pytest.raises(UsageError, match="a machine's name is"):
        folder.name("no spaces please")
    (folder.path / "name").write_text("\x1b[31m")
    with pytest.raises(NotConfiguredError, match="remove the file or use --name"):
        folder.name(None)


def test_an_unchanged_name_is_not_written_again(folder):
    folder.name("desk-7")
    before = (folder.path / "name").stat()
    assert folder.name("desk-7") == "desk-7"
    after = (folder.path / "name").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert folder.name("desk-8") == folder.name(None) == "desk-8"


def test_a_record_comes_back_as_it_was(folder):
    folder.save(RECORD)
    assert folder.records() == [RECORD]
    path = folder.path / "jobs" / RECORD.job / "record.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["record.json"], "no temporary file is left"
    folder.forget(RECORD.job)
    assert folder.records() == [] and not path.parent.exists()


def good() -> dict:
    from meshd.core.messages import JobRecord
    from meshd.wire.schema import record

    return record(JobRecord).dump(RECORD, "record")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "[" * 100_000,
        '{"job": 1}',
        json.dumps({**good(), "unknown": 1}),
        json.dumps({**good(), "data_bytes": 11}),
        json.dumps({**good(), "state": "flying"}),
        json.dumps({**good(), "generation": -1}),
        json.dumps({**good(), "spec": "{}"}),
        json.dumps({**good(), "submitted_at": float("nan")}),
        json.dumps({**good(), "members": [{"key": "x"}]}),
    ],
)
def test_a_broken_record_is_set_aside_and_the_others_are_read(folder, content, caplog):
    folder.save(RECORD)
    other = "0" * 32
    (folder.path / "jobs" / other).mkdir()
    broken = folder.path / "jobs" / other / "record.json"
    broken.write_text(content)
    assert folder.records() == [RECORD]
    assert not broken.exists()
    assert broken.with_name("record.json.broken").read_text() == content
    assert len(caplog.records) == 1 and "set aside" in caplog.text


def test_a_record_of_another_job_is_set_aside(folder):
    folder.save(RECORD)
    (folder.path / "jobs" / RECORD.job).rename(folder.path / "jobs" / ("f" * 32))
    assert folder.records() == []


def test_foreign_things_among_the_jobs_are_left_alone(folder):
    (folder.path / "jobs" / "notes.txt").write_text("mine")
    (folder.path / "jobs" / ("a" * 32)).mkdir()
    assert folder.records() == []
    assert (folder.path / "jobs" / "notes.txt").read_text() == "mine"


def test_log_lines_carry_the_time_and_are_one_line_each(folder):
    folder.append_log(RECORD.job, "one\ntwo \x1b[31mred")
    (line,) = folder.log_lines(RECORD.job)
    time, words = line.split(" ", 1)
    assert len(time) == len("2026-01-01T00:00:00+00:00") and time[10] == "T"
    assert words == "one two  [31mred"
    assert folder.log_lines("0" * 32) == []


def test_a_log_is_bounded_on_disk_and_in_an_answer(folder):
    text = "x" * 10_000
    for number in range(250):
        folder.append_log(RECORD.job, f"{number} {text}")
    path = folder.path / "jobs" / RECORD.job / "log.txt"
    assert path.stat().st_size <= LOG_BYTES_MAX + 20_000
    lines = folder.log_lines(RECORD.job)
    assert lines[-1].split()[1] == "249"
    assert sum(map(len, lines)) <= REPLY_LOG_BYTES
    assert all(len(line) > 10_000 for line in lines), "the first one is whole"


def test_scratch_is_new_for_each_worker_and_emptied_at_start(folder):
    scratch = folder.scratch_folder(RECORD.job, Generation(1))
    (scratch / "left").write_text("over")
    assert list(folder.scratch_folder(RECORD.job, Generation(1)).iterdir()) == []
    folder.clear_scratch()
    assert list(folder.scratch.iterdir()) == []
