"""What a model says about a whole data set, and how right it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshd.bits.layout import Floats
from meshd.hbnn.runtime.errors import ModelError
from meshd.hbnn.runtime.model import Model

Ints = NDArray[np.int64]
Fill = Callable[[NDArray[Any], Ints, Floats], None]


@dataclass(frozen=True)
class Outcome:
    """`predicted` (N,) classes; `labels` (N,), or None where the data has none."""

    predicted: Ints
    labels: Ints | None
    classes: int

    @property
    def correct(self) -> int:
        """Samples whose class is their label; 0 without labels."""
        return 0 if self.labels is None else int((self.predicted == self.labels).sum())

    def counts(self) -> list[int]:
        """How many samples each class was given."""
        counts: list[int] = np.bincount(self.predicted, minlength=self.classes).tolist()
        return counts

    def confusion(self) -> list[list[int]]:
        """A row for each label: how many of its samples each class was given; needs labels."""
        if self.labels is None:
            raise ValueError("there are no labels to compare with")
        cells = np.bincount(self.labels * self.classes + self.predicted, minlength=self.classes**2)
        table: list[list[int]] = cells.reshape(self.classes, self.classes).tolist()
        return table


def evaluate(
    model: Model, x: NDArray[Any], fill: Fill, labels: Ints | None = None, batch: int = 512
) -> Outcome:
    """Predict every row of `x`, `batch` at a time.

    `fill(x, picked, out)` writes the picked rows of `x` into `out`, float32 (n, *input), not yet
    multiplied by the model's scale, as a data set read with scale 1 does.

    Raises:
        ModelError: a label that is none of the model's classes.
    """
    if labels is not None and len(labels) and int(labels.max()) >= model.classes:
        raise ModelError(
            f"the data has labels up to {int(labels.max())}, the model {model.classes} classes:"
            " it was trained on other data"
        )
    shape = model.network.description.input
    rows = np.empty((min(batch, len(x)), *shape), np.float32)
    predicted = np.empty(len(x), np.int64)
    for begin in range(0, len(x), batch):
        picked = np.arange(begin, min(begin + batch, len(x)))
        part = rows[: len(picked)]
        fill(x, picked, part)
        predicted[begin : begin + len(picked)] = model.predict(part)
    return Outcome(predicted, labels, model.classes)
