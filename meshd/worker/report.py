"""What a worker tells its daemon while it trains: progress, evaluations, checkpoints."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from meshd.core.messages import JobProgress, SliceFile, WorkerCheckpoint, WorkerProgress
from meshd.core.types import MachineKey, Step
from meshd.train.checkpoint import write_carried, write_slice
from meshd.train.trainer import Differs, Evaluated, Stepped, Trainer
from meshd.worker.lifeline import Lifeline

PROGRESS_PERIOD_S = 0.5  # a screen refreshed twice a second looks live; more is only traffic


class Report:
    """Keeps the figures of a run and sends them, at most every PROGRESS_PERIOD_S."""

    def __init__(
        self, lifeline: Lifeline, bytes_sent: Callable[[], int], clock: Callable[[], float]
    ) -> None:
        self._lifeline = lifeline
        self._bytes_sent = bytes_sent
        self._clock = clock
        self._began = clock()
        self._next = self._began
        self._losses: list[float] = []
        self._step = 0
        self._epoch = 0
        self._loss = 0.0
        self._accuracy = -1.0

    def stepped(self, event: Stepped) -> None:
        """Note a step; tell the daemon if it is time."""
        self._step, self._epoch = event.step, event.epoch
        if math.isfinite(event.loss):
            self._losses.append(event.loss)
        if self._clock() >= self._next:
            self._send()

    def evaluated(self, event: Evaluated, steps: int) -> None:
        """Note an evaluation, tell the daemon, and leave a line for the job's log."""
        self._step, self._epoch, self._accuracy = event.step, event.epoch, event.accuracy
        self._send()
        print(
            f"step {event.step} of {steps}, epoch {event.epoch}: test accuracy"
            f" {100 * event.accuracy:.2f} %, loss {self._loss:.4f}",
            file=sys.stderr,
            flush=True,
        )

    def differs(self, event: Differs, names: Mapping[MachineKey, str]) -> None:
        """Leave a line in the job's log for each machine that holds something else."""
        for key, what in event.machines:
            print(
                f"step {event.step}: {names.get(key, key)} {what}: it fetches its state again",
                file=sys.stderr,
                flush=True,
            )

    def progress(self) -> JobProgress:
        """The figures now; `loss` is the mean since they were last asked for."""
        if self._losses:
            self._loss = sum(self._losses) / len(self._losses)
            self._losses.clear()
        return JobProgress(
            Step(self._step),
            self._epoch,
            self._loss,
            self._accuracy,
            self._clock() - self._began,
            self._bytes_sent(),
        )

    def _send(self) -> None:
        self._lifeline.send(WorkerProgress(self.progress()))
        self._next = self._clock() + PROGRESS_PERIOD_S


def save_checkpoint(
    trainer: Trainer, kept: list[int], step: int, scratch: Path, lifeline: Lifeline
) -> None:
    """Write the slices that this member keeps, and its carried error; tell the daemon.

    A full disk costs this checkpoint, not the run: the last complete one stays, the log says so.
    """
    folder = scratch / f"checkpoint-{step}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = []
        for index in kept:
            path = folder / f"slice-{index}"
            statistics = trainer.statistics.vector() if index == 0 else None
            write_slice(path, trainer.holding.states[index], statistics)
            files.append(SliceFile(index, str(path)))
        carried_path = ""
        carried = trainer.holding.carried_error()
        if carried.size:
            carried_path = str(folder / "carried")
            write_carried(Path(carried_path), carried)
    except OSError as error:
        for path in folder.glob("*"):
            path.unlink(missing_ok=True)
        print(f"no checkpoint at step {step}: {error.strerror}", file=sys.stderr, flush=True)
        return
    count = len(trainer.parameters.slice_map.slices)
    lifeline.send(WorkerCheckpoint(Step(step), tuple(files), carried_path, count))
