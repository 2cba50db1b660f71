"""The reference exchange: the mean gradient in float32 by a ring all-reduce, all state everywhere.

Every member holds every slice and applies the same update; 2 (N - 1) / N x 4 bytes a parameter and
step cross each link. The others are judged by it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from meshd.core.schedule import Hop, Phase, gather_hops, held_chunks, reduce_hops
from meshd.core.slices import Region, Slice, own_regions
from meshd.train.collective import Collective
from meshd.train.errors import RingBrokenError, TrainingError
from meshd.train.fused import FusedOptimizer
from meshd.train.optimizer import (
    Matrix,
    Optimizer,
    SliceState,
    StepRule,
    binarized,
    blocks,
    cut_gradient,
)
from meshd.train.parameters import Floats, NetworkParameters


class Float32Exchange:
    """One member's side; the same face as `VotesExchange`, with no carried error."""

    def __init__(
        self,
        collective: Collective,
        parameters: NetworkParameters,
        optimizer: Optimizer,
        copies: int,
    ) -> None:
        self.states: dict[int, SliceState] = {}
        self._collective = collective
        self._parameters = parameters
        self._optimizer = optimizer
        self.takes_flat_gradient = collective.size > 1
        self._fused: FusedOptimizer | None = None
        self._regions = own_regions(parameters.slice_map, collective.size)
        self._kept = held_chunks(collective.rank, collective.size, copies)

    def held_slices(self) -> list[int]:
        """All of them."""
        return [part.index for part in self._parameters.slice_map.slices]

    def kept_slices(self) -> list[int]:
        """Slices that this member writes into checkpoints."""
        return sorted(
            index
            for chunk in self._kept
            for index in range(self._regions[chunk].first, self._regions[chunk].last)
        )

    def begin(self, states: Mapping[int, SliceState], carried: Floats | None) -> None:
        """Take over slice states; there is no carried error."""
        self.states = dict(states)
        if self._collective.size == 1:
            self._fused = FusedOptimizer(self._optimizer, self.states)

    def carried_error(self) -> Floats:
        """Nothing is carried: float32 (0,)."""
        return np.zeros(0, np.float32)

    def step(self, step: int, weight: float) -> None:
        """Exchange `parameters.flat_gradient`, weighted by N b_p / B, and commit the step.

        Alone, the parameters' own gradients are taken.

        Raises:
            TrainingError: the gradient is not finite any more.
            RingBrokenError: a neighbour breaks the schedule.
        """
        if self._fused is not None:
            self._step_alone(step, self._fused)
        else:
            rule = self._optimizer.at(step)
            total = self._parameters.flat_gradient * np.float32(weight)
            _refuse_infinite(step, total)
            self._all_reduce(step, total)
            total /= np.float32(self._collective.size)
            for part in self._parameters.slice_map.slices:
                self._move(part, total[part.offset : part.offset + part.size], rule)
        self._parameters.show()

    def _step_alone(self, step: int, fused: FusedOptimizer) -> None:
        """The step of a ring of one, whose weight is 1: gradients are used where they lie.

        Of binary slices the new scales show whether the gradient was finite.
        """
        whole = self._parameters.take_gradients()
        gradients = {}
        for part in self._parameters.slice_map.slices:
            gradient = whole[part.tensor.name][part.start : part.stop]
            if part.binary:
                matrix = self._matrix(part)
                for latents, _, g in blocks(self.states[part.index], gradient):
                    cut_gradient(latents, g, matrix)
            else:
                _refuse_infinite(step, gradient)
            gradients[part.index] = gradient
        fused.step(step, gradients)
        for part in self._parameters.slice_map.slices:
            state = self.states[part.index]
            if part.binary:
                self._parameters.set_binarized(part, *binarized(state, self._matrix(part)))
            else:
                self._parameters.set_from_latents(part, state.latents)

    def _move(self, part: Slice, gradient: Floats, rule: StepRule) -> None:
        """Move a slice by its gradient (size,), overwriting that; give it to the network."""
        state = self.states[part.index]
        if part.binary:
            moved = rule.move(state, gradient, self._matrix(part))
            self._parameters.set_binarized(part, *moved)
        else:
            rule.move_dense(state, gradient)
            self._parameters.set_from_latents(part, state.latents)

    def _matrix(self, part: Slice) -> Matrix:
        columns, beta = part.tensor.columns, part.tensor.beta
        return Matrix(columns, beta, self._parameters.cut_of(part), self._optimizer.clip)

    def _all_reduce(self, step: int, total: Floats) -> None:
        """Sum over the ring in place: partial sums round to each owner, whole ones to all."""
        rank, size = self._collective.rank, self._collective.size
        for hop in reduce_hops(rank, size, Phase.REDUCE_FLOAT32):
            received = self._swap(step, hop, total)
            place = _view(total, self._regions[hop.receive_chunk])
            np.add(received, place, out=place)
        for hop in gather_hops(rank, size, Phase.GATHER_FLOAT32):
            received = self._swap(step, hop, total)
            _view(total, self._regions[hop.receive_chunk])[:] = received

    def _swap(self, step: int, hop: Hop, total: Floats) -> Floats:
        sending = _view(total, self._regions[hop.send_chunk])
        expected = 4 * _view(total, self._regions[hop.receive_chunk]).size
        payload = self._collective.swap(step, hop, sending.tobytes(), expected)
        received = np.frombuffer(payload, np.float32)
        if not bool(np.isfinite(received).all()):
            raise RingBrokenError("the predecessor sent a gradient that is not finite")
        return received


def _view(flat: Floats, region: Region) -> Floats:
    return flat[region.start : region.stop]


def _refuse_infinite(step: int, gradient: Floats) -> None:
    if not bool(np.isfinite(gradient).all()):
        raise TrainingError(
            f"training diverged at step {step}: the gradient is not finite; lower"
            " training.learning_rate"
        )
