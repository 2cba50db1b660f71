"""A data set in memory: samples as rows, and how a network sees them.

Rows are kept as they were stored; what turns them into a network's input (order of channels, scale)
happens in `fill_rows` alone, a batch at a time, so that bytes stay bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CHANNELS = (1, 3, 4)  # grey, colour, colour with transparency
SMALLEST_RANGE = 1e-30  # samples below it count as zero; their scale would not be finite

Samples = NDArray[np.uint8 | np.float32]


@dataclass(frozen=True)
class Dataset:
    """Samples as rows. x: (samples, inputs) uint8 or float32; y: (samples,) int64 in 0..classes-1.

    `scale`: 1 / max |x_train|, so that what the network sees lies in [-1, 1].
    `shape`: of one sample as stored, such as (28, 28) or (32, 32, 3); () stands for (inputs,).
    `class_names`: one for each class where they are known, else ().
    Loaded with `part="test"`, the training part has no rows.
    """

    x_train: Samples
    y_train: NDArray[np.int64]
    x_test: Samples
    y_test: NDArray[np.int64]
    classes: int
    scale: np.float32
    shape: tuple[int, ...] = ()
    class_names: tuple[str, ...] = ()

    @property
    def inputs(self) -> int:
        """Features of one sample."""
        return int(self.x_train.shape[1])

    @property
    def input_shape(self) -> tuple[int, ...]:
        """A network's input without the batch: (channels, height, width), or (features,)."""
        return input_shape(self.shape or (self.inputs,))

    def fill_rows(self, x: Samples, picked: NDArray[np.int64], out: NDArray[np.float32]) -> None:
        """Write picked samples as the network sees them into the caller's memory.

        Args:
            x: `x_train` or `x_test`.
            picked: (n,) rows of `x`.
            out: float32, C-contiguous, (n, inputs) or (n, *input_shape): `x` times `scale`, images
                in the order channel, height, width.
        """
        rows = x[picked]
        if channels_last(self.shape):
            rows = rows.reshape(-1, *self.shape).transpose(0, 3, 1, 2)
        np.multiply(rows, self.scale, out=out.reshape(rows.shape), dtype=np.float32)


def channels_last(shape: tuple[int, ...]) -> bool:
    """Whether a sample is (height, width, channels)."""
    return len(shape) == 3 and shape[-1] in CHANNELS


def input_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The network's view of a sample stored in `shape`.

    (H, W) is (1, H, W); (H, W, C) with 1, 3 or 4 channels is (C, H, W), and (C, H, W) stays; all
    else is (features,).
    """
    if len(shape) == 2:
        return (1, *shape)
    if channels_last(shape):
        return (shape[2], shape[0], shape[1])
    if len(shape) == 3 and shape[0] in CHANNELS:
        return shape
    return (int(np.prod(shape)),)


def scale_of(largest: float) -> np.float32:
    """1 / `largest`, the largest magnitude in the training part; finite for every input."""
    return np.float32(1.0 / max(largest, SMALLEST_RANGE))
