"""The step of `meshd train` without bits: a ring of one, where gradients are used where they lie.

The same state and the same arithmetic as `Float32Holding`, without its copies: nothing has to be
undone, and torch's fused optimizer moves all slices in one pass.
"""

from __future__ import annotations

import numpy as np

from meshd.core.slices import Slice
from meshd.train.errors import TrainingError
from meshd.train.float32 import Float32Holding
from meshd.train.fused import FusedOptimizer
from meshd.train.optimizer import binarized, blocks, cut_gradient


class LoneHolding(Float32Holding):
    """All state of a job that nobody else trains."""

    _fused: FusedOptimizer | None = None

    def step_alone(self) -> None:
        """Move everything by the parameters' own gradients. Of binary slices the new scales show
        whether the gradient was finite.

        Raises:
            TrainingError: the gradient is not finite any more.
        """
        if self._fused is None:
            self._fused = FusedOptimizer(self.optimizer, self.states)
        whole = self.parameters.take_gradients()
        gradients = {}
        for part in self.slices:
            gradient = whole[part.tensor.name][part.start : part.stop]
            if part.binary:
                matrix = self.matrix(part)
                for latents, _, g in blocks(self.states[part.index], gradient):
                    cut_gradient(latents, g, matrix)
            elif not bool(np.isfinite(gradient).all()):
                raise TrainingError(
                    f"training diverged at step {self.step}: the gradient is not finite; lower"
                    " training.learning_rate"
                )
            gradients[part.index] = gradient
        self._fused.step(self.step, gradients)
        for part in self.slices:
            self._show(part)
        self.parameters.show()
        self.step += 1

    def _show(self, part: Slice) -> None:
        state = self.states[part.index]
        if part.binary:
            self.parameters.set_binarized(part, *binarized(state, self.matrix(part)))
        else:
            self.parameters.set_from_latents(part, state.latents)
