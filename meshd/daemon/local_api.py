"""What the command line may ask of the daemon: one small function for each command.

Whoever reaches the local socket is the daemon's own user. Arguments are checked all the same: a
wrong one is answered with one line and changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from meshd.core.errors import FailureError, UsageError
from meshd.core.job import FINAL, MAX_DATA_BYTES
from meshd.core.jobspec import JobSpec, canonical_json, parse_toml
from meshd.core.network.graph import resolve
from meshd.core.network.spec import NetworkDescription
from meshd.core.registry import Job
from meshd.core.types import BlobId
from meshd.daemon import clock
from meshd.daemon.blobs import PIECE_BYTES
from meshd.daemon.driver import Driver
from meshd.daemon.inspector import COMMAND, DataFacts, inspect_data
from meshd.daemon.status import build_status
from meshd.net.local_server import LocalAnswer, LocalCommand
from meshd.net.roster import ROSTER_FILE, add_to_roster

Command = Callable[[LocalCommand], Awaitable[LocalAnswer]]


class LocalApi:
    """The commands; `handle` is what the local server calls."""

    def __init__(self, driver: Driver, inspector: tuple[str, ...] = COMMAND) -> None:
        self._driver = driver
        self._inspector = inspector
        self._started = clock.now()
        self._commands: dict[str, Command] = {
            "status": self.status,
            "submit": self.submit,
            "logs": self.logs,
            "cancel": self.cancel,
            "resume": self.resume,
            "fetch": self.fetch,
            "key": self.key,
            "trust": self.trust,
        }

    async def handle(self, command: LocalCommand) -> LocalAnswer:
        """Run one command.

        Raises:
            MeshdError: the answer is its line and its exit code.
        """
        run = self._commands.get(command.command)
        if run is None:
            known = ", ".join(self._commands)
            raise UsageError(f"unknown command {command.command}; this daemon knows {known}")
        return await run(command)

    async def status(self, command: LocalCommand) -> LocalAnswer:
        """The status object."""
        driver = self._driver
        body = build_status(
            driver.node,
            clock.now(),
            self._started,
            driver.links.bytes_sent,
            driver.links.trouble,
        )
        return LocalAnswer(body)

    async def submit(self, command: LocalCommand) -> LocalAnswer:
        """Take a job and its data; both are checked before anything is kept."""
        driver = self._driver
        spec = parse_toml(_text(command, "spec"))
        size = _count(command, "data_bytes", MAX_DATA_BYTES)
        upload = driver.store.begin_upload(size)
        try:
            async for piece in command.body():
                await asyncio.to_thread(upload.write, piece)
            manifest = await asyncio.to_thread(upload.close)
            if not driver.node.site.me.unable:
                facts = await inspect_data(upload.path, self._inspector)
                _fit(spec, facts)
            if command.gone():
                raise FailureError("the command broke off before its job was taken")
            data = await upload.finish(manifest)
        finally:
            upload.abandon()
        with driver.feeding() as now:
            record = driver.node.submit(
                canonical_json(spec), data, size, round(clock.unix_time(), 3), now
            )
        await driver.disk.flush()
        return LocalAnswer({"job": record.job, "name": spec.name})

    async def logs(self, command: LocalCommand) -> LocalAnswer:
        """A job's log on this machine."""
        job = self._find(command)
        await self._driver.disk.flush()
        return LocalAnswer({"lines": self._driver.state.log_lines(job.record.job)})

    async def cancel(self, command: LocalCommand) -> LocalAnswer:
        """End a job for good."""
        job = self._find(command)
        with self._driver.feeding() as now:
            record = self._driver.node.cancel(job.record.job, now)
        await self._driver.disk.flush()
        return LocalAnswer({"job": record.job, "state": record.state})

    async def resume(self, command: LocalCommand) -> LocalAnswer:
        """Let a stopped job go on from its checkpoint."""
        job = self._find(command)
        with self._driver.feeding() as now:
            record = self._driver.node.resume(job.record.job, now)
        await self._driver.disk.flush()
        return LocalAnswer({"job": record.job, "state": record.state})

    async def fetch(self, command: LocalCommand) -> LocalAnswer:
        """The model of a finished job, from this machine or the one that has it."""
        job = self._find(command)
        if job.record.state != "done":
            raise UsageError(
                f"job {job.spec.name} is {job.record.state}; a model is there once it is done"
            )
        blob = await self._model(job)
        body = {
            "bytes": self._driver.store.size(blob),
            "name": f"{job.spec.name}.safetensors",
        }
        return LocalAnswer(body, self._read(blob))

    async def key(self, command: LocalCommand) -> LocalAnswer:
        """What another machine needs to trust this one."""
        me = self._driver.node.site.me
        return LocalAnswer({"name": me.name, "key": me.key})

    async def trust(self, command: LocalCommand) -> LocalAnswer:
        """Put a machine on the roster."""
        name, key = _text(command, "name"), _text(command, "key")
        if key == self._driver.node.site.me.key:
            raise UsageError("this is this machine's own key; `meshd key` there prints the other's")
        path = self._driver.state.path / ROSTER_FILE
        await asyncio.to_thread(add_to_roster, path, name, key)
        self._driver.check_roster()
        return LocalAnswer({})

    # --- steps -----------------------------------------------------------------------------------

    def _find(self, command: LocalCommand) -> Job:
        return find_job(list(self._driver.node.site.registry), _text(command, "job"))

    async def _model(self, job: Job) -> BlobId:
        """Have the model here: all members' have equal weights, so the first that can be had."""
        me = self._driver.node.site.me.key
        alive = self._driver.node.site.peers.alive()
        ordered = sorted(job.record.results, key=lambda result: result.key != me)
        reason = "the job has no results"
        for result in ordered:
            if self._driver.store.held(result.model):
                return result.model
        for result in ordered:
            others = [key for key in alive if key != result.key]
            first = [result.key] if result.key in alive else []
            try:
                await self._driver.fetcher.fetch(result.model, (*first, *others), -1)
                return result.model
            except FailureError as error:
                reason = str(error)
        names = ", ".join(result.name for result in ordered)
        raise FailureError(f"the model of {job.spec.name} lies on {names}: {reason}")

    async def _read(self, blob: BlobId) -> AsyncIterator[bytes]:
        with self._driver.store.path(blob).open("rb") as file:
            while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
                yield piece


def find_job(jobs: list[Job], word: str) -> Job:
    """The job that a person means: an id, the beginning of one, or a name.

    Of several jobs with one name it is the newest that has not ended, else the newest.

    Raises:
        UsageError: none, or several by id; the line names them.
    """
    named = [job for job in jobs if job.spec.name == word]
    if named:
        return max(
            named,
            key=lambda job: (
                job.record.state not in FINAL,
                job.record.submitted_at,
                job.record.job,
            ),
        )
    by_id = [job for job in jobs if word and job.record.job.startswith(word)]
    if len(by_id) == 1:
        return by_id[0]
    newest = sorted(by_id or jobs, key=lambda job: -job.record.submitted_at)[:8]
    told = ", ".join(f"{job.spec.name} ({job.record.job[:8]})" for job in newest) or "none"
    if by_id:
        raise UsageError(f"{word} is the beginning of several jobs: {told}; type more of it")
    raise UsageError(f"no job {word[:40]!r}; there are: {told}")


def _text(command: LocalCommand, name: str) -> str:
    value = command.arguments.get(name)
    if not isinstance(value, str):
        raise UsageError(f"{command.command}: {name} must be text")
    return value


def _count(command: LocalCommand, name: str, high: int) -> int:
    value = command.arguments.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= high:
        raise UsageError(f"{command.command}: {name} must be a whole number from 1 to {high}")
    return value


def _fit(spec: JobSpec, facts: DataFacts) -> None:
    """The job file against the data."""
    if spec.training.batch > facts.train:
        raise UsageError(
            f"job file: training.batch {spec.training.batch} is more than the {facts.train}"
            " samples of the data; make it smaller"
        )
    resolve(NetworkDescription(spec.network, facts.input, facts.classes))
