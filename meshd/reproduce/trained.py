"""The seed's seven layers, trained the four ways that `accuracy` and `histograms` compare.

One protocol for all: the same data in the same order, the same optimizer, the same schedule, pixels
in 0..1, no normalisation. What differs is what the product does:

    hbnn        H_beta of weights and activations, beta = 4, no straight-through cut
    bnn         signs without scales; gradients cut at |x| > 1 (arXiv 1602.02830: without the cut it
                trains worse)
    bnn_scaled  the same, its logits times 0.05. A sum of a thousand signs is in the hundreds, and a
                softmax of such numbers is certain from the first step on; one number mends most
    float       the same layers in float32

A run is made once in a process, whoever asks for it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from meshd.hbnn.binarize import codes, hadamard
from meshd.reproduce.fit import Recipe, Samples, fit
from meshd.reproduce.result import Options, Say
from meshd.reproduce.samples import load_samples
from meshd.reproduce.seedlike import scaled_logits, seed_relative
from meshd.reproduce.settings import Setting

RECIPE = Recipe(epochs=5)
BETA = 4
KINDS: Mapping[str, Setting] = {
    "float": Setting("accuracy", "float32", RECIPE, kind="float"),
    "hbnn": Setting("accuracy", f"HBNN, beta = {BETA}", RECIPE, beta=(BETA,)),
    "bnn_scaled": Setting(
        "accuracy", "BNN, logits x 0.05", RECIPE, "bnn", cut=1.0, cut_a=1.0, temperature=0.05
    ),
    "bnn": Setting("accuracy", "BNN (signs only)", RECIPE, "bnn", cut=1.0, cut_a=1.0),
}


@dataclass(frozen=True)
class Protocol:
    """How much is trained: the whole, or what a test has time for."""

    width: int = 1024
    epochs: int = RECIPE.epochs
    learning_rate: float = RECIPE.learning_rate
    images: int | None = None
    seeds: tuple[int, ...] = (0, 1, 2)


# Few steps: longer ones.
QUICK = Protocol(width=32, epochs=3, learning_rate=1e-2, images=1000, seeds=(0, 1))


@dataclass(frozen=True)
class Trained:
    """A network, and test accuracy in percent and mean loss after each epoch."""

    net: nn.Sequential
    accuracy: Sequence[float]
    loss: Sequence[float]


def protocol_of(options: Options) -> Protocol:
    """What these options ask for."""
    return QUICK if options.quick else Protocol()


def train(kind: str, seed: int, options: Options, say: Say) -> Trained:
    """Train one network; the second time in a process it is there already."""
    say(f"{KINDS[kind].name}, seed {seed}")
    return _train(kind, seed, options.data, protocol_of(options))


def hidden_latents(net: nn.Sequential) -> Tensor:
    """The width x width layer's, the second of three."""
    _, hidden, _ = net.parameters()
    return hidden.detach()


def weights_seen(kind: str, latents: Tensor) -> Tensor:
    """What a network of this kind computes with where its latents are these, (out, in)."""
    if kind == "float":
        return latents
    return hadamard(latents, BETA, "signed") if kind == "hbnn" else codes(latents, "signed")


def settings_of(options: Options) -> dict[str, Any]:
    """All that decides a run but the seeds."""
    chosen = protocol_of(options)
    return {
        "data": Path(options.data).name,
        "width": chosen.width,
        "epochs": chosen.epochs,
        "training_images": chosen.images or "all",
        "kinds": {kind: dataclasses.asdict(_setting(kind, chosen)) for kind in KINDS},
    }


def _setting(kind: str, protocol: Protocol) -> Setting:
    setting = KINDS[kind]
    recipe = replace(setting.recipe, epochs=protocol.epochs, learning_rate=protocol.learning_rate)
    return replace(setting, recipe=recipe)


@functools.cache
def _samples(data: str, images: int | None) -> Samples:
    samples = load_samples(data)
    return replace(samples, x_train=samples.x_train[:images], y_train=samples.y_train[:images])


@functools.cache
def _train(kind: str, seed: int, data: str, protocol: Protocol) -> Trained:
    setting, samples = _setting(kind, protocol), _samples(data, protocol.images)
    inputs, classes = samples.x_train[0].numel(), int(samples.y_train.max()) + 1
    net = seed_relative(setting, inputs, classes, protocol.width, seed)
    epochs = list(
        fit(
            net, lambda x: scaled_logits(net, x, setting.temperature), samples, setting.recipe, seed
        )
    )
    return Trained(net, [e.accuracy for e in epochs], [e.loss for e in epochs])
