"""The training loop of the experiments: its schedules, its optimizers, its promises."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from meshd.hbnn.linear import HadamardLinear
from meshd.reproduce.fit import OPTIMIZERS, SCHEDULES, Epoch, Recipe, Samples, fit, rate_at

SHORT = Recipe(epochs=3, batch=20, learning_rate=0.02)


def two_clouds() -> Samples:
    """400 + 100 points around two opposite corners of a cube of 16 dimensions."""
    generator = torch.Generator().manual_seed(3)
    y = torch.arange(500) % 2
    x = torch.randn(500, 16, generator=generator) + (2.0 * y - 1).unsqueeze(1)
    return Samples(x[:400], y[:400], x[400:], y[400:])


def network(seed: int = 0) -> nn.Sequential:
    generator = torch.Generator().manual_seed(seed)
    binary = HadamardLinear(16, 2, 8, coding="signed", generator=generator)
    return nn.Sequential(nn.BatchNorm1d(16), binary)


def largest(module: nn.Module) -> float:
    return float(module.get_parameter("weight").detach().abs().max())


def train(recipe: Recipe, net: nn.Sequential | None = None, seed: int = 0) -> list[Epoch]:
    net = network() if net is None else net
    return list(fit(net, net, two_clouds(), recipe, seed))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_learns_what_can_be_learnt(optimizer: str, schedule: str) -> None:
    epochs = train(replace(SHORT, optimizer=optimizer, schedule=schedule))
    assert [epoch.number for epoch in epochs] == [1, 2, 3]
    assert epochs[-1].accuracy > 95
    assert epochs[-1].loss < epochs[0].loss


def test_the_same_seed_gives_the_same_run() -> None:
    assert train(SHORT, seed=5) == train(SHORT, seed=5)
    assert train(SHORT, seed=5) != train(SHORT, seed=6)


def test_latents_stay_within_the_clip_and_the_rest_does_not() -> None:
    net = network()
    train(replace(SHORT, clip=0.05, learning_rate=0.1), net)
    assert largest(net[1]) == pytest.approx(0.05)
    assert largest(net[0]) > 0.05


def test_latents_have_a_rate_of_their_own() -> None:
    net, before = network(), network()
    train(replace(SHORT, latent_rate=0.0), net)
    assert torch.equal(net[1].weight, before[1].weight)
    assert not torch.equal(net[0].weight, before[0].weight)


def test_decay_shrinks_dense_parameters_alone() -> None:
    plain, decayed = network(), network()
    one = replace(SHORT, epochs=1, learning_rate=1e-6)
    train(one, plain)
    train(replace(one, weight_decay=1e4), decayed)
    # 20 steps of 1e-6 at most apart, where the decay takes up to a hundredth a step.
    assert torch.allclose(plain[1].weight, decayed[1].weight, atol=5e-5)
    assert largest(decayed[0]) < 0.95 * largest(plain[0])


def test_each_epoch_is_announced() -> None:
    heard: list[int] = []
    net = network()
    list(fit(net, net, two_clouds(), SHORT, 0, before_epoch=heard.append))
    assert heard == [0, 1, 2]


def test_a_loss_that_is_not_finite_ends_the_run() -> None:
    epochs = train(replace(SHORT, optimizer="sgd", learning_rate=1e30, schedule="constant"))
    assert len(epochs) == 1
    assert not math.isfinite(epochs[0].loss)


def test_an_unknown_choice_is_named() -> None:
    with pytest.raises(ValueError, match="optimizer must be one of adam, sgd, not 'lion'"):
        train(replace(SHORT, optimizer="lion"))
    with pytest.raises(ValueError, match=r"schedule must be one of .*, not 'stairs'"):
        train(replace(SHORT, schedule="stairs"))


@given(
    schedule=st.sampled_from(SCHEDULES),
    epochs=st.integers(1, 40),
    per_epoch=st.integers(1, 20),
    warmup=st.integers(0, 10),
)
def test_rates_rise_in_the_warm_up_and_never_after(
    schedule: str, epochs: int, per_epoch: int, warmup: int
) -> None:
    recipe = Recipe(learning_rate=0.5, schedule=schedule, epochs=epochs, warmup=warmup)
    rates = [rate_at(recipe, step, per_epoch) for step in range(epochs * per_epoch)]
    rising, rest = rates[:warmup], rates[warmup:]
    assert rising == sorted(rising)
    assert rest == sorted(rest, reverse=True)
    assert all(0 <= rate <= 0.5 for rate in rates)
    if rest and warmup < recipe.step_epochs * per_epoch:
        assert rest[0] == 0.5


def test_falls_end_at_nothing_and_stairs_at_tenths() -> None:
    recipe = Recipe(learning_rate=1.0, epochs=4, step_epochs=2)
    assert rate_at(replace(recipe, schedule="linear"), 39, 10) == 0
    assert rate_at(replace(recipe, schedule="cosine"), 39, 10) == pytest.approx(0, abs=1e-12)
    assert [rate_at(replace(recipe, schedule="step"), s, 10) for s in (19, 20)] == [1.0, 0.1]
