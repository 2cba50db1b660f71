"""Adam on the latents of one slice, bit-equal on every machine.

Twice: `adam_update` moves latents by a gradient, in numpy; `adam_votes` by what a ring decided, in
one pass of a kernel that binarizes them again as well. The same arithmetic, operation by operation.

Owner and backups apply the same update to the same latents and must end with the same bits. Hence
only element-wise float32 operations that IEEE 754 rounds correctly (times, plus, divide, square
root), each rounded on its own (neither numpy nor the kernels fuse them), and the powers of beta by
repeated multiplication: libm's pow is not the same everywhere.

    m <- b1 m + (1 - b1) g          v <- b2 v + (1 - b2) g^2
    w <- w - (lr / (1 - b1^t)) m / (sqrt(v / (1 - b2^t)) + eps)

Source: Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1.
The straight-through cut belongs here too: dL/dw = dL/dw_hat where |w| <= cut, else 0, because only
who holds the latents can tell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meshd.bits import ops
from meshd.bits.layout import Words

BETA_1 = 0.9
BETA_2 = 0.999
EPSILON = np.float32(1e-8)
FINAL_RATE = 0.05  # the linear schedule ends here, so that the last steps still move

Vector = NDArray[np.float32]


@dataclass
class SliceState:
    """A slice's latents and Adam's moments, each float32 (size,)."""

    latents: Vector
    first: Vector
    second: Vector

    @classmethod
    def begin(cls, latents: Vector) -> SliceState:
        """Moments start at zero."""
        return cls(latents, np.zeros_like(latents), np.zeros_like(latents))


@dataclass(frozen=True)
class AdamStep:
    """The scalars of one step, float32."""

    rate: np.float32
    """lr / (1 - b1^t)"""
    second_scale: np.float32
    """1 / (1 - b2^t)"""


@dataclass(frozen=True)
class SliceVotes:
    """What a ring of `members` decided on a slice's elements: see `ops.apply_votes`."""

    planes: Words
    members: int
    scale: Vector
    gamma: int


class AdamSchedule:
    """Gives each step its scalars: learning rate schedule and bias correction."""

    def __init__(self, learning_rate: float, schedule: str, steps: int) -> None:
        self._learning_rate = learning_rate
        self._linear = schedule == "linear"
        self._steps = steps
        self._done = 0
        self._power_1 = 1.0
        self._power_2 = 1.0

    def at(self, step: int) -> AdamStep:
        """Scalars of step number `step`, counted from 0; asked for in increasing order."""
        while self._done < step + 1:
            self._power_1 *= BETA_1
            self._power_2 *= BETA_2
            self._done += 1
        fall = (1.0 - FINAL_RATE) * step / max(1, self._steps - 1) if self._linear else 0.0
        rate = self._learning_rate * (1.0 - fall)
        return AdamStep(
            np.float32(rate / (1.0 - self._power_1)), np.float32(1.0 / (1.0 - self._power_2))
        )


def adam_update(state: SliceState, gradient: Vector, step: AdamStep, cut: float | None) -> None:
    """Apply one step in place. `gradient` (size,) is overwritten. `cut` None: dense, no cut."""
    if cut is not None:
        gradient *= np.abs(state.latents) <= np.float32(cut)
    scratch = gradient * np.float32(1.0 - BETA_1)
    state.first *= np.float32(BETA_1)
    state.first += scratch
    np.multiply(gradient, gradient, out=gradient)
    gradient *= np.float32(1.0 - BETA_2)
    state.second *= np.float32(BETA_2)
    state.second += gradient
    np.multiply(state.second, step.second_scale, out=gradient)
    np.sqrt(gradient, out=gradient)
    gradient += EPSILON
    np.divide(state.first, gradient, out=scratch)
    scratch *= step.rate
    state.latents -= scratch


def adam_votes(
    state: SliceState, votes: SliceVotes, step: AdamStep, columns: int, cut: float, beta: int
) -> tuple[Words, Vector]:
    """Apply one step in place to a binary slice, rows of `columns` weights, and binarize it.

    Returns words (rows, words(columns)) and scales (rows, segments(columns, beta)) of the new
    latents. ValueError when a count is larger than the members: nothing has changed then.
    """
    moments = (state.first.reshape(-1, columns), state.second.reshape(-1, columns))
    latents = state.latents.reshape(-1, columns)
    return ops.votes_adam(*_given(votes), *moments, *_numbers(step), latents, cut, beta)


def adam_votes_dense(state: SliceState, votes: SliceVotes, step: AdamStep) -> None:
    """Apply one step in place to a dense slice. ValueError as in `adam_votes`."""
    moments = (state.first, state.second)
    ops.votes_adam_dense(*_given(votes), *moments, *_numbers(step), state.latents)


def _given(votes: SliceVotes) -> tuple[Words, int, Vector, int]:
    return votes.planes, votes.members, votes.scale, votes.gamma


def _numbers(step: AdamStep) -> tuple[float, float, float, float, float]:
    return BETA_1, BETA_2, float(EPSILON), float(step.second_scale), float(step.rate)
