"""What a run leaves for TensorBoard: scalars and histograms in an event file.

    train/loss, train/learning_rate   means over BOARD_STEPS steps, and the rate of the last of them
    test/accuracy                     0..1, at every evaluation
    flipped/NAME                      share of a binary layer's signs that differ from those at the
                                      evaluation before
    latents/NAME, weights/NAME        histograms of latents and of dense parameters

Law: tensorboardX is loaded here only, when a run asks for it (docs/adr says why this library).
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from meshd.train.alone import Alone
from meshd.train.trainer import Evaluated, Stepped

BOARD_STEPS = 20  # a point for each step would be most of a small job's time


class Board:
    """Writes one run's event file in `folder`; a resumed run replaces what it does again."""

    def __init__(self, folder: Path, run: Alone) -> None:
        from tensorboardX import SummaryWriter

        first = run.progress.step
        self._writer = SummaryWriter(str(folder), purge_step=first or None)
        self._trainer = run.trainer
        self._losses: list[float] = []
        self._signs = self._copied_signs()

    def stepped(self, event: Stepped) -> None:
        """Note a step."""
        if math.isfinite(event.loss):
            self._losses.append(event.loss)
        if event.step % BOARD_STEPS == 0 and self._losses:
            loss = sum(self._losses) / len(self._losses)
            self._losses.clear()
            rate = self._trainer.optimizer.rate.at(event.step - 1)
            self._writer.add_scalar("train/loss", loss, event.step)
            self._writer.add_scalar("train/learning_rate", rate, event.step)

    def evaluated(self, event: Evaluated) -> None:
        """Note an evaluation and look at the weights."""
        self._writer.add_scalar("test/accuracy", event.accuracy, event.step)
        signs = self._copied_signs()
        for name, (words, count) in signs.items():
            changed = int.from_bytes((words ^ self._signs[name][0]).tobytes(), "little")
            self._writer.add_scalar(f"flipped/{name}", changed.bit_count() / count, event.step)
        self._signs = signs
        for name, (binary, latents) in self._all_latents().items():
            kind = "latents" if binary else "weights"
            self._writer.add_histogram(f"{kind}/{name}", latents, event.step)
        self._writer.flush()

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()

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
            latents = self._trainer.exchange.states[part.index].latents
            found.setdefault(part.tensor.name, []).append(latents)
            binary[part.tensor.name] = part.binary
        return {name: (binary[name], np.concatenate(parts)) for name, parts in found.items()}
