"""The one worker process of this machine: started with exec, heard, stopped, and seen to its end.

    start --plan--> the worker says ready --ring--> it trains --> it exits, or is stopped
    stop: its link is closed, at which it exits at once; after GRACE_S its process group is killed

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
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from meshd.core.effects import StartRing, StartWorker
from meshd.core.errors import FailureError, MeshdError
from meshd.core.events import CheckpointSaved, ModelSaved, WorkerEvent, WorkerExited
from meshd.core.messages import (
    RingStart,
    SliceBlob,
    SliceFile,
    WorkerCheckpoint,
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
    inbox: asyncio.Queue[RingStart] = field(default_factory=asyncio.Queue)


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
        task = asyncio.create_task(self._live(self._worker, effect))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def start_ring(self, effect: StartRing) -> None:
        """Give the worker its ring."""
        worker = self._worker
        if worker is not None and (worker.job, worker.generation) == (
            effect.job,
            effect.generation,
        ):
            worker.inbox.put_nowait(RingStart(effect.members, effect.rank))

    def stop(self, job: JobId, generation: Generation) -> None:
        """End the worker of this generation, if it still runs."""
        worker = self._worker
        if worker is not None and (worker.job, worker.generation) == (job, generation):
            self._worker = None
            self._end(worker)

    async def close(self) -> None:
        """End the worker and wait until it is gone."""
        if self._worker is not None:
            self.stop(self._worker.job, self._worker.generation)
        await asyncio.gather(*self._tasks, return_exceptions=True)

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
            asyncio.create_task(self._send_ring(worker)),
        ]
        try:
            await self._hear(worker)
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
        )

    async def _hear(self, worker: _Worker) -> None:
        """Its messages, in order, until its end of the link closes or nonsense comes."""
        assert worker.link is not None  # noqa: S101 - set by `_run`
        while True:
            try:
                message = await worker.link.receive()
                if message is None:
                    return
                self._tell(worker, await self._take(worker, message))
            except MeshdError as error:
                failed = WorkerFailed(f"what it reported cannot be used: {error}", False)
                self._tell(worker, failed)
                return

    def _tell(self, worker: _Worker, event: WorkerEvent | None) -> None:
        if event is not None and not worker.stopped:
            self._on_event(worker.job, worker.generation, event)

    async def _take(self, worker: _Worker, message: object) -> WorkerEvent | None:
        """A message as the node hears it: files become blobs."""
        if isinstance(message, WorkerReady | WorkerProgress | WorkerFailed):
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

    async def _send_ring(self, worker: _Worker) -> None:
        ring = await worker.inbox.get()
        assert worker.link is not None  # noqa: S101 - set by `_run`
        await worker.link.send(ring)

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
            task = asyncio.create_task(worker.link.close())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

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
