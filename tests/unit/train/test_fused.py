"""The fused optimizers move as the defined update does, up to float32's rounding."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from meshd.core.jobspec import TrainingSpec
from meshd.train.fused import FusedOptimizer
from meshd.train.optimizer import Optimizer, SliceState
from meshd.train.schedule import LearningRate

STEPS = 25


def optimizer(name: str) -> Optimizer:
    training = TrainingSpec(optimizer=name, learning_rate=1e-2, schedule="cosine", warmup=5)
    return Optimizer(training, LearningRate(training, STEPS, STEPS))


@pytest.mark.parametrize("name", ["adam", "sgd"])
@pytest.mark.parametrize("first", [0, 10])
def test_as_the_defined_update(name: str, first: int) -> None:
    """From the start, and in the middle, as a resumed run begins."""
    rng = np.random.default_rng(7)
    fused, defined = optimizer(name), optimizer(name)
    sizes = {0: 333, 1: 70_000}
    states = {
        i: SliceState(
            rng.standard_normal(n, np.float32),
            tuple(rng.random(n, np.float32) for _ in range(defined.moments)),
        )
        for i, n in sizes.items()
    }
    wanted = copy.deepcopy(states)
    moved = FusedOptimizer(fused, states)
    before = wanted[1].latents.copy()
    for step in range(first, STEPS):
        gradients = {i: rng.standard_normal(n, np.float32) for i, n in sizes.items()}
        for i, gradient in gradients.items():
            defined.at(step).move_dense(wanted[i], gradient.copy())
        moved.step(step, gradients)
    for i in sizes:
        pairs = zip(
            (states[i].latents, *states[i].moments),
            (wanted[i].latents, *wanted[i].moments),
            strict=True,
        )
        for got, expected in pairs:
            np.testing.assert_allclose(got, expected, rtol=3e-5, atol=3e-6)
    assert np.abs(states[1].latents - before).max() > 0.05
