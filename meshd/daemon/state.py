"""The state folder: ours alone, locked by one daemon, written atomically.

    transport.key  roster.toml     who we are, whom we trust (meshd.net)
    name                           what others call this machine
    lock                           flock(2) held by the daemon that runs; it ends with the process
    meshd.sock                     the local socket
    jobs/<job>/record.json         the job's record
    jobs/<job>/log.txt             its log on this machine
    blobs/                         content-addressed cache (meshd.daemon.blobs)
    scratch/<job>-<generation>/    where a worker may write; emptied at start

A record that cannot be read is set aside as `record.json.broken` with a line in the log: one bad
file must not keep a daemon from running.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import shutil
import socket
import stat
from pathlib import Path
from typing import Any, cast

from meshd.core.errors import FailureError, MeshdError, NotConfiguredError, UsageError
from meshd.core.job import check_record
from meshd.core.messages import JobRecord
from meshd.core.types import Generation, JobId
from meshd.daemon import clock
from meshd.net.files import read_trusted, write_atomically
from meshd.net.roster import NAME_RULE, is_name
from meshd.wire.kinds import Violation
from meshd.wire.schema import record as kind_of

log = logging.getLogger(__name__)

RECORD_FILE = "record.json"
LOG_FILE = "log.txt"
LOG_BYTES_MAX = 1 << 20
"""A job's log is cut to its newest half when it is larger: a worker that complains in a loop fills
no disk."""
REPLY_LOG_BYTES = 256 << 10
"""Newest part of a log that `meshd logs` gets: with every character escaped it fits one reply."""
MAX_RECORD_BYTES = 4 << 20
JOB = re.compile(r"[0-9a-f]{32}")


class StateFolder:
    """The folder of the daemon that runs. Open it with `open_state`."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock
        self.blobs = self._subfolder("blobs")
        self.scratch = self._subfolder("scratch")
        self._jobs = self._subfolder("jobs")

    def close(self) -> None:
        """Let another daemon have it."""
        os.close(self._lock)

    def name(self, asked: str | None) -> str:
        """This machine's name: the one asked for (and kept from then on), the kept, the host's.

        Raises:
            UsageError: the name asked for cannot be one.
        """
        path = self.path / "name"
        if asked is not None:
            if not is_name(asked):
                raise UsageError(f"--name {asked!r}: {NAME_RULE}")
            kept = path.read_bytes() if path.is_file() else None
            if kept != f"{asked}\n".encode():  # a full disk is no reason not to start as before
                write_atomically(path, f"{asked}\n".encode(), 0o600)
            return asked
        if path.exists():
            name = read_trusted(path, 0o022).strip()
            if is_name(name):
                return name
            raise NotConfiguredError(f"{path}: {NAME_RULE}; remove the file or use --name")
        host = socket.gethostname().split(".")[0]
        return host if is_name(host) else "unnamed"

    # --- records ---------------------------------------------------------------------------------

    def records(self) -> list[JobRecord]:
        """All readable records; the others are set aside."""
        found = []
        for folder in sorted(self._jobs.iterdir()):
            path = folder / RECORD_FILE
            if not JOB.fullmatch(folder.name) or not path.exists():
                continue
            try:
                found.append(_read_record(path, JobId(folder.name)))
            except (MeshdError, Violation, OSError, ValueError, RecursionError) as error:
                aside = path.with_name(f"{RECORD_FILE}.broken")
                path.replace(aside)
                log.warning("set aside a broken job record as %s: %s", aside, error)
        return found

    def save(self, record: JobRecord) -> None:
        """Write a record in place of the one before.

        Raises:
            FailureError: the disk is full or not ours any more.
        """
        folder = self._job_folder(record.job)
        data = json.dumps(kind_of(JobRecord).dump(record, "record"), indent=1)
        write_atomically(folder / RECORD_FILE, f"{data}\n".encode(), 0o600)

    def forget(self, job: JobId) -> None:
        """Remove a job's record and log."""
        shutil.rmtree(self._jobs / job, ignore_errors=True)

    # --- logs ------------------------------------------------------------------------------------

    def append_log(self, job: JobId, text: str) -> None:
        """Add a line, with the time before it, to a job's log. Logs are not worth a failure."""
        line = "".join(char if char.isprintable() else " " for char in text)
        try:
            path = self._job_folder(job) / LOG_FILE
            with _open_private(path) as file:
                file.write(f"{clock.iso_time()} {line}\n".encode(errors="replace"))
                if file.tell() > LOG_BYTES_MAX:
                    _keep_newest(path)
        except (OSError, FailureError) as error:
            log.warning("job log of %s: %s", job[:8], error)

    def log_lines(self, job: JobId) -> list[str]:
        """The newest lines of a job's log on this machine; empty if there is none."""
        try:
            with (self._jobs / job / LOG_FILE).open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - REPLY_LOG_BYTES))
                lines = file.read().decode(errors="replace").splitlines()
        except FileNotFoundError:
            return []
        return lines[1:] if size > REPLY_LOG_BYTES else lines

    # --- folders ---------------------------------------------------------------------------------

    def scratch_folder(self, job: JobId, generation: Generation) -> Path:
        """A new, empty folder for one worker."""
        folder = self.scratch / f"{job}-{generation}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        return folder

    def clear_scratch(self) -> None:
        """What workers of an earlier run left is of no use to anybody."""
        for entry in self.scratch.iterdir():
            shutil.rmtree(entry, ignore_errors=True)

    def _job_folder(self, job: JobId) -> Path:
        folder = self._jobs / job
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise FailureError(f"{folder}: {error.strerror}") from None
        return folder

    def _subfolder(self, name: str) -> Path:
        folder = self.path / name
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise NotConfiguredError(f"{folder}: {error.strerror}") from None
        _check_ours(folder)
        return folder


def open_state(path: Path) -> StateFolder:
    """Check or create the state folder, and lock it.

    Raises:
        NotConfiguredError: it cannot be made, is no folder, is not ours, or lets others in.
        FailureError: another daemon uses it.
    """
    path = path.absolute()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise NotConfiguredError(
            f"state folder {path}: {error.strerror}; choose another with --state"
        ) from None
    _check_ours(path)
    lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise FailureError(
            f"a daemon already runs with state folder {path}; stop it,"
            " or choose another folder with --state"
        ) from None
    return StateFolder(path, lock)


def _check_ours(folder: Path) -> None:
    found = folder.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise NotConfiguredError(f"state folder {folder} is not a folder; choose another: --state")
    if found.st_uid != os.geteuid():
        raise NotConfiguredError(
            f"state folder {folder} belongs to user {found.st_uid}, not to us;"
            " choose another with --state"
        )
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        raise NotConfiguredError(
            f"state folder {folder} has mode {mode:04o}, so that others can reach its keys;"
            f" run: chmod 0700 {folder}"
        )


def _read_record(path: Path, job: JobId) -> JobRecord:
    if path.stat().st_size > MAX_RECORD_BYTES:
        raise ValueError(f"larger than {MAX_RECORD_BYTES} bytes")
    value: Any = json.loads(path.read_text(encoding="utf-8"))
    record = cast(JobRecord, kind_of(JobRecord).load(value, "record"))
    check_record(record)
    if record.job != job:
        raise ValueError("the record of another job")
    return record


def _open_private(path: Path) -> Any:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    return os.fdopen(descriptor, "ab")


def _keep_newest(path: Path) -> None:
    data = path.read_bytes()[-LOG_BYTES_MAX // 2 :]
    write_atomically(path, data[data.find(b"\n") + 1 :], 0o600)
