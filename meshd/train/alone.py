"""A job in one process: the ring's own trainer as a ring of one, with files instead of a daemon.

    DIR/last.safetensors   the newest checkpoint: latents, moments, all that the next step needs
    DIR/best.safetensors   a model file of the network with the best test accuracy so far

Both are replaced whole, never in part, so a run that is killed at any moment can go on from the
last checkpoint, to the same bits as if nothing had happened: every step depends on the state, the
job and the step's number alone. A full disk costs a checkpoint, not the run.
"""

from __future__ import annotations

import dataclasses
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from meshd.core.jobspec import JobSpec, parse_toml
from meshd.data.dataset import Dataset
from meshd.hbnn.export import model_content, save_model, weight_hash
from meshd.hbnn.whole_file import remove_unfinished
from meshd.train.collective import local_ring
from meshd.train.errors import TrainingError
from meshd.train.saved import (
    NotWrittenError,
    Progress,
    data_hash,
    is_unfinished,
    read_checkpoint,
    write_checkpoint,
)
from meshd.train.trainer import CheckpointDue, Evaluated, Event, Stepped, Trainer

LAST = "last.safetensors"
BEST = "best.safetensors"


@dataclass(frozen=True)
class Saved:
    """A checkpoint of `step` is in its file."""

    step: int


@dataclass(frozen=True)
class NotSaved:
    """A file could not be written, for `reason`; training goes on."""

    step: int
    reason: str


@dataclass(frozen=True)
class NoEvents:
    """TensorBoard's file could not be written, for `reason`; training goes on without it."""

    reason: str


@dataclass(frozen=True)
class StoppedEarly:
    """After `step` steps: too many evaluations without a better one."""

    step: int


@dataclass(frozen=True)
class Interrupted:
    """After `step` steps, as asked; `saved`: a checkpoint says how to go on."""

    step: int
    saved: bool


Happening = Event | Saved | NotSaved | NoEvents | StoppedEarly | Interrupted


@dataclass(frozen=True)
class Outcome:
    """What a run leaves: the hash and test accuracy (0..1) of the network in the model file."""

    weight_hash: str
    accuracy: float
    best: bool
    """Whether it is the best network of the run rather than the last."""

    content: bytes = dataclasses.field(repr=False)
    """The model file."""


def read_job(text: str, seed: int | None = None) -> JobSpec:
    """A job file's spec for one process; `seed` replaces the job's.

    Alone there is nothing to be said in bits, so gradients stay float32 unless the job file itself
    names an exchange.

    Raises:
        UsageError: as `parse_toml`.
    """
    spec = parse_toml(text)
    if "kind" not in tomllib.loads(text).get("exchange", {}):
        spec = dataclasses.replace(
            spec, exchange=dataclasses.replace(spec.exchange, kind="float32")
        )
    if seed is not None:
        spec = dataclasses.replace(spec, training=dataclasses.replace(spec.training, seed=seed))
    return spec


def tidy(folder: Path) -> None:
    """Remove files that killed runs left unfinished; only for who holds the folder's lock."""
    for name in (LAST, BEST):
        remove_unfinished(folder / name)


class Alone:
    """One run; `progress` says how far it is."""

    def __init__(self, spec: JobSpec, data: Dataset, folder: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        self.trainer = Trainer(spec, data, local_ring(1)[0], alone=True)
        self.progress = Progress()
        self._data = data_hash(data)
        self._scale, self._class_names = float(data.scale), data.class_names
        self._folder = folder
        self.is_saved = False
        """Whether the last checkpoint that was due is on disk."""

    def begin(self) -> None:
        """Start from the job's seed.

        Raises:
            TrainingError: the folder holds a run that could go on.
        """
        if is_unfinished(self._folder / LAST):
            raise TrainingError(
                f"{self._folder} holds a run that is not finished: go on with --resume,"
                " name another folder with --checkpoints, or delete this one"
            )
        self.trainer.begin()

    def resume(self) -> None:
        """Go on from the folder's last checkpoint.

        Raises:
            TrainingError: there is none, or it is broken or of another job.
        """
        self.trainer.begin()
        self.progress = read_checkpoint(self._folder / LAST, self.trainer, self._data)

    def run(self, stop: Callable[[], bool]) -> Iterator[Happening]:
        """Train to the last step, or until `stop` says so after a step.

        Raises:
            TrainingError: training diverged.
        """
        trainer, progress = self.trainer, self.progress
        if self._has_waited_enough():
            yield StoppedEarly(progress.step)
            return
        since, before = time.monotonic(), progress.seconds
        for event in trainer.run(progress.step):
            progress.seconds = before + time.monotonic() - since
            yield event
            evaluated = isinstance(event, Evaluated)
            if isinstance(event, Stepped):
                progress.step = event.step
            elif isinstance(event, Evaluated):
                yield from self._evaluated(event)
                if self._has_waited_enough():
                    progress.finished = True
                    yield from self._save()
                    yield StoppedEarly(progress.step)
                    return
            elif isinstance(event, CheckpointDue):
                yield from self._save()
            # An evaluation that is due belongs to the step: a resumed run would not make it up.
            if stop() and (evaluated or not trainer.is_evaluated(progress.step)):
                saved = not any([isinstance(said, NotSaved) for said in self._save()])
                yield Interrupted(progress.step, saved)
                return
        progress.finished = True
        yield from self._save()

    def finish(self) -> Outcome:
        """What the run leaves: the best network where the job has patience, else the last.

        Raises:
            TrainingError: the best network's file cannot be read back.
        """
        if self.trainer.spec.training.patience and self.progress.best_hash:
            try:
                content = (self._folder / BEST).read_bytes()
            except OSError as error:
                raise TrainingError(
                    f"{self._folder / BEST} cannot be read: {error.strerror}"
                ) from None
            return Outcome(self.progress.best_hash, self.progress.best, True, content)
        net, description = self.trainer.net, self.trainer.description
        content = model_content(net, description, scale=self._scale, class_names=self._class_names)
        return Outcome(weight_hash(net), self.progress.accuracy, False, content)

    def _evaluated(self, event: Evaluated) -> Iterator[NotSaved]:
        progress = self.progress
        progress.accuracy = event.accuracy
        progress.waited += 1
        if event.accuracy <= progress.best:
            return
        progress.best, progress.best_step, progress.waited = event.accuracy, event.step, 0
        progress.best_hash = ""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._save_model(self._folder / BEST)
            progress.best_hash = weight_hash(self.trainer.net)
        except OSError as error:
            yield NotSaved(event.step, error.strerror or str(error))

    def _save_model(self, path: Path) -> None:
        """OSError from the file system."""
        net, description = self.trainer.net, self.trainer.description
        save_model(path, net, description, scale=self._scale, class_names=self._class_names)

    def _has_waited_enough(self) -> bool:
        patience = self.trainer.spec.training.patience
        return bool(patience) and self.progress.waited >= patience

    def _save(self) -> Iterator[Saved | NotSaved]:
        try:
            write_checkpoint(self._folder / LAST, self.trainer, self._data, self.progress)
        except NotWrittenError as error:
            self.is_saved = False
            yield NotSaved(self.progress.step, str(error))
        else:
            self.is_saved = True
            yield Saved(self.progress.step)
