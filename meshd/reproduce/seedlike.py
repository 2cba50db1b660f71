"""The seed's seven layers with what the experiments vary: kind of network, normalisation, cuts.

`meshd.hbnn.networks` has the seed's network itself; here are its relatives, none of which a job
would use: signs without scales, latents that start larger, layers that are normalised.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, nn

from meshd.hbnn.activations import Ramp
from meshd.hbnn.binarize import Coding, hadamard_binarize
from meshd.hbnn.evaluator import LinearLayer, Sigmoid
from meshd.hbnn.linear import HadamardLinear
from meshd.hbnn.networks import logits
from meshd.reproduce.settings import Setting
from meshd.reproduce.signs import SignLayer, SignLinear


class Binarized(nn.Module):
    """H_beta of (..., K), as the seed's BinarizeLayer, with a choice of the estimator."""

    def __init__(self, setting: Setting, coding: Coding) -> None:
        super().__init__()
        self.beta = setting.beta[0]
        self._setting = setting
        self._coding = coding

    def forward(self, x: Tensor) -> Tensor:
        """Binarize the last dimension."""
        setting = self._setting
        return hadamard_binarize(x, self.beta, self._coding, setting.cut_a, setting.estimator)


def seed_relative(
    setting: Setting, inputs: int, classes: int, width: int, seed: int
) -> nn.Sequential:
    """Build the network of a setting; latents are drawn from `seed` alone, layer by layer."""
    generator = torch.Generator().manual_seed(seed)
    coding: Coding = "signed" if setting.norm == "before" else "unipolar"

    def normalised(where: str) -> list[nn.Module]:
        return [nn.BatchNorm1d(width)] if setting.norm == where else []

    first = _first(setting, inputs, width, generator)
    twice = [] if setting.once or setting.kind == "float" else [_activations(setting, coding)]
    layers = [first, *normalised("after"), Ramp(), *normalised("before"), *twice]
    layers += [_product(setting, width, width, coding, generator), *normalised("after"), Ramp()]
    layers += normalised("before")
    layers += [_product(setting, width, classes, coding, generator), Sigmoid()]
    return nn.Sequential(*layers)


def scaled_logits(net: nn.Sequential, x: Tensor, temperature: float) -> Tensor:
    """The value before the Sigmoid times `temperature`, for images or rows x (B, ...)."""
    return logits(net, x.flatten(1)) * temperature


def set_beta(net: nn.Module, beta: int) -> None:
    """Make `beta` the segment length of every binary layer's weights and activations.

    Activations that are float (beta_a = 1) stay so.
    """
    for module in net.modules():
        if isinstance(module, HadamardLinear):
            beta_a = beta if module.beta_a > 1 else 1
            module.beta_w, module.beta_a = beta, beta_a
            length = module.in_features
            module.rule = dataclasses.replace(
                module.rule, beta_w=min(beta, length), beta_a=min(beta_a, length)
            )
        elif isinstance(module, Binarized):
            module.beta = beta


def _first(setting: Setting, inputs: int, width: int, generator: torch.Generator) -> nn.Module:
    if not setting.first:
        return LinearLayer(inputs, width, generator=generator)
    layer = HadamardLinear(inputs, width, setting.first, 1, cut=setting.cut, generator=generator)
    with torch.no_grad():
        layer.weight.mul_(math.sqrt(2))  # the variance before a Ramp, as in LinearLayer
    return layer


def _activations(setting: Setting, coding: Coding) -> nn.Module:
    if setting.kind == "bnn":
        return SignLayer(coding, setting.cut_a)
    return Binarized(setting, coding)


def _product(
    setting: Setting,
    inputs: int,
    outputs: int,
    coding: Coding,
    generator: torch.Generator,
) -> nn.Module:
    if setting.kind == "bnn":
        layer: nn.Module = SignLinear(
            inputs, outputs, coding, setting.cut, setting.cut_a, generator=generator
        )
    elif setting.kind == "float":
        layer = LinearLayer(inputs, outputs, generator=generator)
    else:
        beta = setting.beta[0]
        layer = HadamardLinear(
            inputs,
            outputs,
            beta,
            beta,
            coding,
            setting.cut,
            cut_a=setting.cut_a,
            estimator=setting.estimator,
            backward=setting.backward,
            generator=generator,
        )
    with torch.no_grad():
        layer.get_parameter("weight").mul_(setting.initial)
    return layer
