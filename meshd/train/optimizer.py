"""What moves latents: Adam, and gradient descent with momentum; bit-equal on every machine.

Owner and backups apply the same update to the same latents and must end with the same bits. Hence
only element-wise float32 operations that IEEE 754 rounds correctly (times, plus, divide, square
root), each rounded on its own (neither numpy nor the kernels fuse them), and the powers of beta by
repeated multiplication: libm's pow is not the same everywhere.

    adam   m <- b1 m + (1 - b1) g          v <- b2 v + (1 - b2) g^2
           w <- w - (lr / (1 - b1^t)) m / (sqrt(v / (1 - b2^t)) + eps)
    sgd    u <- momentum u + g             w <- w - lr u

Sources: Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1;
Sutskever et al., "On the importance of initialization and momentum in deep learning", ICML 2013,
without its factor 1 - momentum, as PyTorch has it.

Each rule exists twice: for what a ring decided (`move_by_votes`), in one pass of a kernel that
binarizes the latents again as well, and for a gradient of floats (`move`). The same arithmetic,
operation by operation.

The straight-through cut belongs here too: dL/dw = dL/dw_hat where |w| <= cut, else 0, because only
who holds the latents can tell. So does clipping, w <- min(max(w, -clip), clip) after the step
(BinaryConnect, arXiv 1511.00363, section 2.4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from meshd.bits import ops
from meshd.bits.layout import Words
from meshd.core.jobspec import TrainingSpec
from meshd.train.schedule import LearningRate

BETA_1 = 0.9
BETA_2 = 0.999
EPSILON = np.float32(1e-8)
BLOCK = 1 << 15  # elements: latents, moments, gradient and scratch are 640 KiB of a core's cache

MOMENTS = {"adam": 2, "sgd": 1}
"""How many numbers an optimizer keeps for each latent."""

Vector = NDArray[np.float32]


@dataclass
class SliceState:
    """A slice's latents and what the optimizer keeps for them, each float32 (size,).

    moments: Adam's first and second; or the velocity of gradient descent.
    """

    latents: Vector
    moments: tuple[Vector, ...]

    @classmethod
    def begin(cls, latents: Vector, moments: int) -> SliceState:
        """Moments start at zero."""
        return cls(latents, tuple(np.zeros_like(latents) for _ in range(moments)))


@dataclass(frozen=True)
class SliceVotes:
    """What a ring of `members` decided on a slice's elements: see `ops.apply_votes`."""

    planes: Words
    members: int
    scale: Vector
    gamma: int


@dataclass(frozen=True)
class Matrix:
    """How a binary slice's latents stand: rows of `columns`, segments of `beta` along a row.

    Gradients pass where |latent| <= `cut` (None: all); latents are kept within `clip` (0: off).
    """

    columns: int
    beta: int
    cut: float | None
    clip: float = 0.0


class StepRule(Protocol):
    """An optimizer with the numbers of one step; moves a slice's state in place."""

    def move(self, state: SliceState, gradient: Vector, matrix: Matrix) -> tuple[Words, Vector]:
        """A binary slice by a gradient (size,), which is overwritten.

        Returns the new latents binarized: words (rows, W(columns)), scales (rows, S).
        """
        ...

    def move_dense(self, state: SliceState, gradient: Vector) -> None:
        """A dense slice by a gradient (size,), which is overwritten."""
        ...

    def move_by_votes(
        self, state: SliceState, votes: SliceVotes, matrix: Matrix
    ) -> tuple[Words, Vector]:
        """A binary slice by votes; returns what `move` does.

        ValueError when a count is larger than the members: nothing has changed then.
        """
        ...

    def move_dense_by_votes(self, state: SliceState, votes: SliceVotes) -> None:
        """A dense slice by votes. ValueError as in `move_by_votes`."""
        ...


@dataclass(frozen=True)
class AdamStep:
    """Adam's scalars of one step, float32."""

    rate: np.float32
    """lr / (1 - b1^t)"""
    second_scale: np.float32
    """1 / (1 - b2^t)"""

    def move(self, state: SliceState, gradient: Vector, matrix: Matrix) -> tuple[Words, Vector]:
        """As `StepRule.move`."""
        return move_in_blocks(self._move, state, gradient, matrix)

    def move_dense(self, state: SliceState, gradient: Vector) -> None:
        """As `StepRule.move_dense`."""
        for latents, moments, g in blocks(state, gradient):
            self._move(latents, moments, g)

    def _move(self, latents: Vector, moments: list[Vector], g: Vector) -> None:
        first, second = moments
        scratch = g * np.float32(1.0 - BETA_1)
        first *= np.float32(BETA_1)
        first += scratch
        np.multiply(g, g, out=g)
        g *= np.float32(1.0 - BETA_2)
        second *= np.float32(BETA_2)
        second += g
        np.multiply(second, self.second_scale, out=g)
        np.sqrt(g, out=g)
        g += EPSILON
        np.divide(first, g, out=scratch)
        scratch *= self.rate
        latents -= scratch

    def move_by_votes(
        self, state: SliceState, votes: SliceVotes, matrix: Matrix
    ) -> tuple[Words, Vector]:
        """As `StepRule.move_by_votes`."""
        latents, first, second = _rows(state, matrix)
        packed = ops.votes_adam(
            *_given(votes), first, second, *self._numbers(), latents, matrix.cut, matrix.beta
        )
        return binarized(state, matrix) if matrix.clip else packed

    def move_dense_by_votes(self, state: SliceState, votes: SliceVotes) -> None:
        """As `StepRule.move_dense_by_votes`."""
        first, second = state.moments
        ops.votes_adam_dense(*_given(votes), first, second, *self._numbers(), state.latents)

    def _numbers(self) -> tuple[float, float, float, float, float]:
        return BETA_1, BETA_2, float(EPSILON), float(self.second_scale), float(self.rate)


@dataclass(frozen=True)
class MomentumStep:
    """The scalars of one step of gradient descent with momentum, float32."""

    rate: np.float32
    momentum: np.float32

    def move(self, state: SliceState, gradient: Vector, matrix: Matrix) -> tuple[Words, Vector]:
        """As `StepRule.move`."""
        return move_in_blocks(self._move, state, gradient, matrix)

    def move_dense(self, state: SliceState, gradient: Vector) -> None:
        """As `StepRule.move_dense`."""
        for latents, moments, g in blocks(state, gradient):
            self._move(latents, moments, g)

    def _move(self, latents: Vector, moments: list[Vector], g: Vector) -> None:
        (velocity,) = moments
        velocity *= self.momentum
        velocity += g
        np.multiply(velocity, self.rate, out=g)
        latents -= g

    def move_by_votes(
        self, state: SliceState, votes: SliceVotes, matrix: Matrix
    ) -> tuple[Words, Vector]:
        """As `StepRule.move_by_votes`."""
        latents, velocity = _rows(state, matrix)
        packed = ops.votes_sgd(
            *_given(votes), velocity, *self._numbers(), latents, matrix.cut, matrix.beta
        )
        return binarized(state, matrix) if matrix.clip else packed

    def move_dense_by_votes(self, state: SliceState, votes: SliceVotes) -> None:
        """As `StepRule.move_dense_by_votes`."""
        (velocity,) = state.moments
        ops.votes_sgd_dense(*_given(votes), velocity, *self._numbers(), state.latents)

    def _numbers(self) -> tuple[float, float]:
        return float(self.momentum), float(self.rate)


class Optimizer:
    """Gives each step its rule: the job's optimizer at that step's learning rate."""

    def __init__(self, training: TrainingSpec, rate: LearningRate) -> None:
        self.moments = MOMENTS[training.optimizer]
        self.clip = training.clip
        self.rate = rate
        self.is_adam = training.optimizer == "adam"
        self.momentum = np.float32(training.momentum)
        self._done = 0
        self._power_1 = 1.0
        self._power_2 = 1.0

    def is_possible(self, state: SliceState) -> bool:
        """Whether a state of finite numbers can be: second moments are means of squares."""
        return not self.is_adam or not bool((state.moments[1] < 0).any())

    def at(self, step: int) -> StepRule:
        """The rule of step number `step`, counted from 0."""
        rate = self.rate.at(step)
        if not self.is_adam:
            return MomentumStep(np.float32(rate), self.momentum)
        if step + 1 < self._done:
            self._done, self._power_1, self._power_2 = 0, 1.0, 1.0
        while self._done < step + 1:
            self._power_1 *= BETA_1
            self._power_2 *= BETA_2
            self._done += 1
        return AdamStep(
            np.float32(rate / (1.0 - self._power_1)), np.float32(1.0 / (1.0 - self._power_2))
        )


def blocks(state: SliceState, gradient: Vector) -> Iterator[tuple[Vector, list[Vector], Vector]]:
    """Cut latents, moments and gradient alike: a dozen passes over a block stay in the cache."""
    for start in range(0, state.latents.size, BLOCK):
        place = slice(start, start + BLOCK)
        yield state.latents[place], [moment[place] for moment in state.moments], gradient[place]


def move_in_blocks(
    move: Callable[[Vector, list[Vector], Vector], None],
    state: SliceState,
    gradient: Vector,
    matrix: Matrix,
) -> tuple[Words, Vector]:
    """Move a binary slice under the straight-through cut, then binarize it."""
    for latents, moments, g in blocks(state, gradient):
        cut_gradient(latents, g, matrix)
        move(latents, moments, g)
    return binarized(state, matrix)


def cut_gradient(latents: Vector, gradient: Vector, matrix: Matrix) -> None:
    """Make the gradient zero where the straight-through estimator does; NaN is beyond any cut."""
    if matrix.cut is None:
        return
    cut = np.float32(matrix.cut)
    if not (latents.max() <= cut and latents.min() >= -cut):  # else all pass: times 1
        gradient *= np.abs(latents) <= cut


def binarized(state: SliceState, matrix: Matrix) -> tuple[Words, Vector]:
    """Clip a binary slice's latents in place and return what the network sees of them."""
    if matrix.clip:
        bound = np.float32(matrix.clip)
        np.clip(state.latents, -bound, bound, out=state.latents)
    return ops.pack_signed(state.latents.reshape(-1, matrix.columns), matrix.beta)


def _rows(state: SliceState, matrix: Matrix) -> tuple[Vector, ...]:
    """Views (rows, columns) of a binary slice's latents and moments."""
    return tuple(array.reshape(-1, matrix.columns) for array in (state.latents, *state.moments))


def _given(votes: SliceVotes) -> tuple[Words, int, Vector, int]:
    return votes.planes, votes.members, votes.scale, votes.gamma
