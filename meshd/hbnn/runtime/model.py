"""A model that is ready to predict.

Samples go through in blocks whose largest array stays small, so memory does not grow with how many
there are; every step is prepared when the model is loaded.
"""

from __future__ import annotations

import os
import threading
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshd.bits import ops
from meshd.bits.layout import Floats
from meshd.core.network.graph import Network
from meshd.hbnn.runtime.errors import ModelError
from meshd.hbnn.runtime.memory import Memory
from meshd.hbnn.runtime.model_file import Header, Weights, read_model
from meshd.hbnn.runtime.plan import plan, widest

BLOCK_BYTES = 4 << 20  # of the largest array: two such are in use, and stay in a cache


def load(path: str | os.PathLike[str], *, threads: int | None = None) -> Model:
    """Read a model file and prepare it; `threads`: most that work, None for all usable cores.

    Raises:
        ModelError: one line: the file is not a whole model (`meshd.hbnn.runtime.model_file`).
        OSError: it cannot be read.
    """
    return Model(*read_model(path), threads=threads)


class Model:
    """A network with its weights; `logits` and `predict` may be called by several threads at once.

    `network`: what it computes; `class_names`: one a class, or (); `scale`: what samples are
    multiplied by; `weight_hash`: of its weights, as `meshd status` shows it.
    """

    def __init__(self, header: Header, weights: Weights, *, threads: int | None = None) -> None:
        if threads is None:
            threads = len(os.sched_getaffinity(0))
        if not 1 <= threads <= ops.MOST_THREADS:
            raise ModelError(f"threads must be 1 to {ops.MOST_THREADS}, not {threads}")
        self.network: Network = header.network
        self.class_names = header.class_names
        self.scale = np.float32(header.scale)
        self.weight_hash = header.weight_hash
        self.threads = threads
        self._shape = header.network.description.input
        self._inputs = prod(self._shape)
        self._steps = plan(header.network, weights)
        self._block = max(1, BLOCK_BYTES // (4 * widest(header.network)))
        self._local = threading.local()

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return self.network.description.classes

    def logits(self, x: NDArray[Any]) -> Floats:
        """The values before softmax, (B, classes) float32, new memory.

        `x`: samples as the data has them, uint8 or float32: (B, features), or (B, channels, height,
        width), flat or not. They are multiplied by `scale`, as training did.

        Raises:
            ModelError: samples of another shape or type.
        """
        x = self._checked(x)
        out = np.empty((len(x), self.classes), np.float32)
        for begin in range(0, len(x), self._block):
            part = x[begin : begin + self._block]
            out[begin : begin + self._block] = self._run(part)
        return out

    def predict(self, x: NDArray[Any]) -> NDArray[np.int64]:
        """The class of each sample, (B,): the first of those with the largest logit."""
        classes: NDArray[np.int64] = self.logits(x).argmax(axis=1)
        return classes

    def _run(self, x: NDArray[Any]) -> Floats:
        try:
            memory = self._local.memory
        except AttributeError:
            memory = self._local.memory = Memory()
        y = self._input(x, memory)
        for step in self._steps:
            y = step.run(y, memory, self.threads)
        return y

    def _checked(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return x as (B, features)."""
        if not isinstance(x, np.ndarray) or x.dtype not in (np.float32, np.uint8):
            kind = x.dtype if isinstance(x, np.ndarray) else type(x).__name__
            raise ModelError(f"samples must be a numpy array of uint8 or float32, not {kind}")
        if x.ndim < 2 or (x.shape[1:] != self._shape and x.shape[1:] != (self._inputs,)):
            raise ModelError(
                f"samples of shape {x.shape[1:]} do not fit: the model takes {self._shape}"
            )
        return x.reshape(len(x), self._inputs)

    def _input(self, x: NDArray[Any], memory: Memory) -> Floats:
        """Samples (B, features) as the first step takes them; x itself where that is what it is."""
        if len(self._shape) == 1:
            if self.scale == 1 and x.dtype == np.float32 and x.flags.c_contiguous:
                return x
            return self._scaled(x, memory)
        channels, height, width = self._shape
        images = x.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)
        return self._scaled(images, memory)

    def _scaled(self, x: NDArray[Any], memory: Memory) -> Floats:
        out = memory.take(("input", 0), x.shape)
        np.multiply(x, self.scale, out=out, dtype=np.float32)
        return out
