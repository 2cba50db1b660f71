"""What a run leaves for TensorBoard: scalars and histograms in an event file.

    train/loss, train/learning_rate   means over BOARD_STEPS steps, and the rate of the last of them
    test/accuracy                     0..1, at every evaluation
    flipped/NAME                      share of a binary layer's signs that differ from those at the
                                      evaluation before
    latents/NAME, weights/NAME        histograms of latents and of dense parameters

Law: tensorboardX is loaded here only, when a run asks for it (docs/adr says why this library).
Events are written where they are made, not from the library's thread: an error is then ours to
see, and a full disk costs the events, never the run.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter
from tensorboardX.summary import histogram, scalar

from meshd.train.alone import Alone, NoEvents
from meshd.train.trainer import Evaluated, Stepped

BOARD_STEPS = 20  # a point for each step would be most of a small job's time
FILE_VERSION = "brain.Event:2"  # what TensorBoard wants to read first
BINS = 100


class Board:
    """Writes one run's event file in `folder`; a resumed run replaces what it does again."""

    def __init__(self, folder: Path, run: Alone, say: Callable[[NoEvents], None]) -> None:
        self._say = say
        self._trainer = run.trainer
        self._losses: list[float] = []
        self._signs = self._copied_signs()
        self._file: RecordWriter | None = None
        with self._or_without_events():
            folder.mkdir(parents=True, exist_ok=True)
            name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
            self._file = RecordWriter(str(folder.absolute() / name))
        first = run.progress.step
        self._write(Event(file_version=FILE_VERSION, step=first))
        if first:  # TensorBoard then hides what an earlier file has from this step on
            self._write(Event(session_log=SessionLog(status=SessionLog.START), step=first))
        self._flush()

    def stepped(self, event: Stepped) -> None:
        """Note a step."""
        if math.isfinite(event.loss):
            self._losses.append(event.loss)
        if event.step % BOARD_STEPS == 0 and self._losses:
            loss = sum(self._losses) / len(self._losses)
            self._losses.clear()
            first = (event.step - 1) * self._trainer.spec.exchange.local_steps
            rate = self._trainer.optimizer.rate.at(first)
            self._add(event.step, scalar("train/loss", loss))
            self._add(event.step, scalar("train/learning_rate", rate))

    def evaluated(self, event: Evaluated) -> None:
        """Note an evaluation and look at the weights."""
        if self._file is None:
            return
        self._add(event.step, scalar("test/accuracy", event.accuracy))
        signs = self._copied_signs()
        for name, (words, count) in signs.items():
            changed = int.from_bytes((words ^ self._signs[name][0]).tobytes(), "little")
            self._add(event.step, scalar(f"flipped/{name}", changed.bit_count() / count))
        self._signs = signs
        for name, (binary, latents) in self._all_latents().items():
            kind = "latents" if binary else "weights"
            finite = latents[np.isfinite(latents)]  # the next step says that training diverged
            if finite.size:
                self._add(event.step, histogram(f"{kind}/{name}", finite, BINS))
        self._flush()

    def close(self) -> None:
        """Finish the file."""
        with self._or_without_events():
            if self._file is not None:
                self._file.close()
        self._file = None

    def _add(self, step: int, summary: Summary) -> None:
        self._write(Event(summary=summary, step=step))

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        with self._or_without_events():
            if self._file is not None:
                self._file.write(event.SerializeToString())

    def _flush(self) -> None:
        with self._or_without_events():
            if self._file is not None:
                self._file.flush()

    @contextmanager
    def _or_without_events(self) -> Iterator[None]:
        """Let the file system's refusal cost the events, once and for all, and say so."""
        try:
            yield
        except OSError as error:
            lost, self._file = self._file, None
            if lost is not None:
                with contextlib.suppress(OSError):
                    lost.close()  # tries to write what is buffered, and closes all the same
            self._say(NoEvents(error.strerror or str(error)))

    def _copied_signs(self) -> dict[str, tuple[NDArray[np.uint64], int]]:
        """Each binary tensor's packed words, and how many weights they are."""
        signs: dict[str, list[NDArray[np.uint64]]] = {}
        sizes: dict[str, int] = {}
        for part in self._trainer.parameters.slice_map.slices:
            if part.binary:
                words = self._trainer.parameters.packed_of(part)[0]
                signs.setdefault(part.tensor.name, []).append(words)
                sizes[part.tensor.name] = part.tensor.size
        return {name: (np.concatenate(parts), sizes[name]) for name, parts in signs.items()}

    def _all_latents(self) -> dict[str, tuple[bool, NDArray[np.float32]]]:
        """Each tensor's latents, flat, and whether they are binarized."""
        found: dict[str, list[NDArray[np.float32]]] = {}
        binary: dict[str, bool] = {}
        for part in self._trainer.parameters.slice_map.slices:
            latents = self._trainer.holding.states[part.index].latents
            found.setdefault(part.tensor.name, []).append(latents)
            binary[part.tensor.name] = part.binary
        return {name: (binary[name], np.concatenate(parts)) for name, parts in found.items()}
