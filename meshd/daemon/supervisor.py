"""The one worker process of this machine: started with exec, heard, stopped, and seen to its end.

    start --plan--> the worker says ready <--rings--> it trains --> it exits, or is stopped
    stop: its link is closed, at which it exits at once; after GRACE_S its process group is killed
    stop with grace: it may first exit by itself, since its last frames are still on their way

It has a session and a process group of its own (a Ctrl-C in the daemon's terminal is for the
daemon), asks the kernel for SIGKILL when the daemon dies, and its stderr goes into the job's log.
What it writes is taken over into the blob store before the node hears of it. Its death is an event
with the reason in words, never an exception here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meshd.core.effects import StartWorker, StopWorker, TellWorker
from meshd.core.errors import FailureError, MeshdError
from meshd.core.events import CheckpointSaved, ModelSaved, WorkerEvent, WorkerExited
from meshd.core.messages import (
    RingAck,
    RingComplaint,
    SliceBlob,
    SliceFile,
    WorkerCheckpoint,
    WorkerDismissed,
    WorkerFailed,
    WorkerFinished,
    WorkerPlan,
    WorkerProgress,
    WorkerReady,
)
from meshd.core.types import BlobId, Generation, JobId, MachineKey
from meshd.daemon.blobs import BlobStore, seal
from meshd.daemon.state import StateFolder
from meshd.net.worker_link import DaemonEnd

log = logging.getLogger(__name__)

GRACE_S = 3.0
"""A worker exits when its link closes; so long it may be inside one kernel or file operation."""

MODULE = "meshd.worker"

PLAIN = (
    WorkerReady,
    WorkerProgress,
    WorkerFailed,
    WorkerDismissed,
    RingAck,
    RingComplaint,
)
"""Messages of a worker that bring no files: the node hears them as they are."""

OnEvent = Callable[[JobId, Generation, WorkerEvent], None]


@dataclass(frozen=True)
class WorkerSettings:
    """What every worker of this daemon is told."""

    key: MachineKey
    bind_host: str
    threads: int
    command: tuple[str, ...] = (sys.executable, "-P", "-m", MODULE)


@dataclass
class _Worker:
    """One worker from its start to its end."""

    job: JobId
    generation: Generation
    scratch: Path
    process: asyncio.subprocess.Process | None = None
    link: DaemonEnd | None = None
    stopped: bool = False
    """We ended it: its exit is not news."""
    inbox: asyncio.Queue[object] = field(default_factory=asyncio.Queue)
    """What the captain says, in order."""


class Supervisor:
    """Runs one worker after the other."""

    def __init__(
        self,
        state: StateFolder,
        store: BlobStore,
        settings: WorkerSettings,
        on_event: OnEvent,
        write_log: Callable[[JobId, str], None],
    ) -> None:
        self._state = state
        self._write_log = write_log
        self._store = store
        self._settings = settings
        self._on_event = on_event
        self._worker: _Worker | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        """Held while a process lives: the next one starts when the last one is gone."""

    # --- effects ---------------------------------------------------------------------------------

    def start(self, effect: StartWorker) -> None:
        """Start the worker of a generation, after the one before is gone."""
        scratch = self._state.scratch / f"{effect.job}-{effect.generation}"
        self._worker = _Worker(effect.job, effect.generation, scratch)
        self._spawn(self._live(self._worker, effect))

    def tell(self, effect: TellWorker) -> None:
        """Hand the worker of this generation a message of the ring, if it still runs."""
        worker = self._of(effect.job, effect.generation)
        if worker is not None:
            worker.inbox.put_nowait(effect.message)

    def stop(self, effect: StopWorker) -> None:
        """End the worker of this generation, if it still runs."""
        worker = self._of(effect.job, effect.generation)
        if worker is None:
            return
        self._worker = None
        if effect.grace_s and worker.link is not None:
            worker.stopped = True
            self._spawn(self._end_later(worker, effect.grace_s))
        else:
            self._end(worker)

    async def close(self) -> None:
        """End the worker and wait until it is gone, and those that end by themselves."""
        if self._worker is not None:
            worker, self._worker = self._worker, None
            self._end(worker)
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _of(self, job: JobId, generation: Generation) -> _Worker | None:
        worker = self._worker
        same = worker is not None and (worker.job, worker.generation) == (job, generation)
        return worker if same else None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- one worker ------------------------------------------------------------------------------

    async def _live(self, worker: _Worker, effect: StartWorker) -> None:
        async with self._turn:
            reason = "was not started"
            try:
                if not worker.stopped:
                    reason = await self._run(worker, effect)
            except (MeshdError, OSError) as error:
                reason = f"could not be started: {error}"
            finally:
                await asyncio.to_thread(shutil.rmtree, worker.scratch, ignore_errors=True)
            self._tell(worker, WorkerExited(reason))

    async def _run(self, worker: _Worker, effect: StartWorker) -> str:
        """From exec to exit; returns how it ended, in words."""
        plan = self._plan(worker, effect)
        worker.link, theirs = await DaemonEnd.open()
        with theirs:
            worker.process = await asyncio.create_subprocess_exec(
                *self._settings.command,
                "--fd",
                str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        if worker.stopped:
            self._end(worker)
        self._log(worker, f"worker started, process {worker.process.pid}")
        await worker.link.send(plan)
        helpers = [
            asyncio.create_task(self._copy_stderr(worker)),
            asyncio.create_task(self._hand_on(worker)),
        ]
        try:
            if await self._hear(worker):
                await worker.link.close()  # a worker that is done waits for this
            code = await self._wait(worker)
            await asyncio.wait(helpers[:1], timeout=GRACE_S)
        finally:
            for helper in helpers:
                helper.cancel()
            if worker.process.returncode is None:
                _kill_group(worker.process.pid)
            await worker.link.close()
        reason = exit_in_words(code)
        self._log(worker, f"worker {reason}" if not worker.stopped else "worker stopped")
        return reason

    def _plan(self, worker: _Worker, effect: StartWorker) -> WorkerPlan:
        carried = str(self._store.path(effect.carried)) if effect.carried else ""
        return WorkerPlan(
            job=effect.job,
            spec=effect.spec,
            generation=effect.generation,
            key=self._settings.key,
            state_folder=str(self._state.path),
            scratch_folder=str(self._state.scratch_folder(worker.job, worker.generation)),
            data_path=str(self._store.path(effect.data)),
            bind_host=self._settings.bind_host,
            threads=self._settings.threads,
            step=effect.step,
            slices=tuple(
                SliceFile(part.slice, str(self._store.path(part.blob))) for part in effect.slices
            ),
            carried_path=carried,
            joins=effect.joins,
        )

    async def _hear(self, worker: _Worker) -> bool:
        """Its messages, in order, until its end of the link closes; False if nonsense comes."""
        assert worker.link is not None  # noqa: S101 - set by `_run`
        while True:
            try:
                message = await worker.link.receive()
                if message is None:
                    return True
                self._tell(worker, await self._take(worker, message))
            except MeshdError as error:
                failed = WorkerFailed(f"what it reported cannot be used: {error}", False)
                self._tell(worker, failed)
                return False

    def _tell(self, worker: _Worker, event: WorkerEvent | None) -> None:
        if event is not None and not worker.stopped:
            self._on_event(worker.job, worker.generation, event)

    async def _take(self, worker: _Worker, message: object) -> WorkerEvent | None:
        """A message as the node hears it: files become blobs."""
        if isinstance(message, PLAIN):
            return message
        if isinstance(message, WorkerCheckpoint):
            return await self._take_checkpoint(worker, message)
        if isinstance(message, WorkerFinished):
            model = await self._adopt(worker, message.model_path)
            return ModelSaved(message.progress, message.weight_hash, model)
        raise FailureError(f"an unexpected {type(message).__name__}")

    async def _take_checkpoint(
        self, worker: _Worker, message: WorkerCheckpoint
    ) -> CheckpointSaved | None:
        """A checkpoint that does not fit on the disk costs itself, not the run."""
        try:
            slices = [
                SliceBlob(file.slice, await self._adopt(worker, file.path))
                for file in message.slices
            ]
            carried = BlobId("")
            if message.carried_path:
                carried = await self._adopt(worker, message.carried_path)
        except FailureError as error:
            self._log(worker, f"no checkpoint at step {message.step}: {error}")
            return None
        return CheckpointSaved(message.step, tuple(slices), carried, message.slice_count)

    async def _adopt(self, worker: _Worker, name: str) -> BlobId:
        """A file of the worker's own scratch folder becomes a blob."""
        path = Path(name)
        if not path.resolve().is_relative_to(worker.scratch.resolve()) or path.is_symlink():
            raise FailureError(f"{path} is not in the worker's scratch folder")
        manifest = await asyncio.to_thread(seal, path)
        return await self._store.adopt(path, manifest)

    async def _hand_on(self, worker: _Worker) -> None:
        """What the captain says, in order, for as long as the worker runs."""
        assert worker.link is not None  # noqa: S101 - set by `_run`
        while True:
            await worker.link.send(await worker.inbox.get())

    async def _copy_stderr(self, worker: _Worker) -> None:
        """Its words, line by line, into the job's log."""
        assert worker.process is not None and worker.process.stderr is not None  # noqa: S101
        reader = worker.process.stderr
        while True:
            try:
                line = await reader.readline()
            except ValueError:  # longer than the reader's buffer, which it has thrown away
                line = b"(a line too long for the log)\n"
            if not line:
                return
            self._log(worker, line.decode(errors="replace").rstrip())

    async def _wait(self, worker: _Worker) -> int:
        """After its link is closed: its exit code, by force if it takes too long."""
        assert worker.process is not None  # noqa: S101 - set by `_run`
        try:
            async with asyncio.timeout(GRACE_S):
                return await worker.process.wait()
        except TimeoutError:
            _kill_group(worker.process.pid)
            return await worker.process.wait()

    def _end(self, worker: _Worker) -> None:
        """Close its link: it exits at once, and `_hear` goes on to `_wait`."""
        worker.stopped = True
        if worker.link is not None:
            self._spawn(worker.link.close())

    async def _end_later(self, worker: _Worker, grace_s: float) -> None:
        """It said that it goes. After this time it has no say any more: a process that tears down
        its libraries does not hear its link close."""
        assert worker.process is not None  # noqa: S101 - it has spoken
        try:
            async with asyncio.timeout(grace_s):
                await worker.process.wait()
        except TimeoutError:
            _kill_group(worker.process.pid)
        self._end(worker)

    def _log(self, worker: _Worker, text: str) -> None:
        self._write_log(worker.job, text)


def exit_in_words(code: int) -> str:
    """How a process ended, as the end of a sentence about it."""
    if code < 0:
        return f"was killed by signal {-code}"
    return "ended before the job did" if code == 0 else f"ended with exit code {code}"


def _kill_group(pid: int) -> None:
    """SIGKILL to all that is left of a worker's process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
