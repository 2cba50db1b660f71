"""Which layers of a float model see inputs without a negative value: what their coding hangs on.

Two sources. `observed_signs` runs the model on a sample and looks. `followed_signs` reads what a
Sequential shows: a ReLU that stands before a layer says so, one that a `forward` calls does not.
Both give True where no input is negative, False where some are; a layer of which neither knows is
missing.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from meshd.hbnn.activations import Ramp

# What has no negative output; what has some; what has none if its input has none.
RAMPS = (nn.ReLU, nn.ReLU6, nn.Sigmoid, Ramp)
BOTH_SIGNS = (
    nn.Linear,
    nn.Conv2d,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.Tanh,
    nn.Hardtanh,
    nn.LeakyReLU,
    nn.PReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Hardswish,
)
KEEP_SIGN = (
    nn.Dropout,
    nn.Dropout2d,
    nn.Identity,
    nn.Flatten,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
)


def followed_signs(model: nn.Module) -> dict[nn.Module, bool]:
    """Return what the Sequentials of `model` show of its nn.Linear and nn.Conv2d.

    One that stands in several places sees no negative input if it sees none in each.
    """
    found: dict[nn.Module, list[bool | None]] = {}
    _follow(model, None, found)
    known: dict[nn.Module, bool] = {}
    for layer, places in found.items():
        if False in places:
            known[layer] = False
        elif None not in places:
            known[layer] = True
    return known


def _follow(
    module: nn.Module, unsigned: bool | None, found: dict[nn.Module, list[bool | None]]
) -> bool | None:
    """Note what each layer's input is, from what `module`'s is; return what its output is."""
    if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
        for child in module:
            unsigned = _follow(child, unsigned, found)
        return unsigned
    if isinstance(module, RAMPS):
        return True
    if type(module) in (nn.Linear, nn.Conv2d):
        found.setdefault(module, []).append(unsigned)
    for child in module.children():
        _follow(child, None, found)
    if isinstance(module, BOTH_SIGNS):
        return False
    return unsigned if isinstance(module, KEEP_SIGN) else None


def observed_signs(
    model: nn.Module, layers: Collection[nn.Module], sample: Tensor
) -> dict[nn.Module, bool]:
    """Return which of `layers` see no negative value when `model` maps `sample`.

    The model runs once, in evaluation mode and without gradients, and is afterwards as it was. A
    layer that the sample does not reach is missing; NaN counts as negative. ValueError if the model
    does not take the sample.
    """
    found: dict[nn.Module, bool] = {}
    modes = {module: module.training for module in model.modules()}
    hooks = [layer.register_forward_pre_hook(partial(_look, found)) for layer in layers]
    try:
        model.eval()
        with torch.no_grad():
            model(sample)
    except Exception as error:  # whatever the model's own code raises, it is about the sample
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"sample: the model does not take it: {reason}") from error
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
    return found


def _look(found: dict[nn.Module, bool], layer: nn.Module, inputs: tuple[Any, ...]) -> None:
    for x in inputs:
        if x.numel():
            found[layer] = found.get(layer, True) and bool((x >= 0).all())
