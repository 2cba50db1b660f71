"""One process's optimizer: PyTorch's fused Adam or SGD on the slices' own memory.

Law: for a ring of one only. A fused optimizer is one pass over latents, moments and gradient with
all threads, where `meshd.train.optimizer` makes a dozen passes over blocks; but how it rounds is
not defined from one processor to another, so members of a ring may not use it. Alone nothing is
lost: the float gradients themselves already depend on the processor, and on one machine an element
is rounded in the same way in every run.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from meshd.train.optimizer import BETA_1, BETA_2, EPSILON, Optimizer, SliceState
from meshd.train.parameters import Floats


class FusedOptimizer:
    """Moves the latents of all slices, in the arrays of their states."""

    def __init__(self, optimizer: Optimizer, states: Mapping[int, SliceState]) -> None:
        self._rate = optimizer.rate
        self._latents = {i: torch.from_numpy(state.latents) for i, state in states.items()}
        moved = list(self._latents.values())
        self._steps: list[torch.Tensor] = []
        if optimizer.is_adam:
            betas = (BETA_1, BETA_2)
            self._optimizer: torch.optim.Optimizer = torch.optim.Adam(
                moved, 1.0, betas, float(EPSILON), fused=True
            )
        else:
            momentum = float(optimizer.momentum)
            self._optimizer = torch.optim.SGD(moved, 1.0, momentum, fused=True)
        for index, latents in self._latents.items():
            self._optimizer.state[latents] = self._state_of(states[index])

    def _state_of(self, state: SliceState) -> dict[str, torch.Tensor]:
        moments = [torch.from_numpy(moment) for moment in state.moments]
        if len(moments) == 1:
            return {"momentum_buffer": moments[0]}
        self._steps.append(torch.zeros(()))
        return {"step": self._steps[-1], "exp_avg": moments[0], "exp_avg_sq": moments[1]}

    def step(self, step: int, gradients: Mapping[int, Floats]) -> None:
        """Make step number `step`, counted from 0, with each slice's gradient (size,)."""
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate.at(step)
        for count in self._steps:
            count.fill_(step)  # it counts itself up, to the t of the bias correction
        for index, latents in self._latents.items():
            latents.grad = torch.from_numpy(gradients[index])
        self._optimizer.step()
        for latents in self._latents.values():
            latents.grad = None
