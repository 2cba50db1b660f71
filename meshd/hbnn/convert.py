"""An existing float model, with its linear layers and convolutions made binary.

Weights stay where they are, as latents; biases too. A plan is made for the whole model before
anything is replaced, so that an error changes nothing.
"""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import nn

from meshd.hbnn.activations import Ramp
from meshd.hbnn.binarize import check_beta
from meshd.hbnn.binary_layer import BinaryLayer
from meshd.hbnn.conv import HadamardConv2d
from meshd.hbnn.conv_rule import Pair
from meshd.hbnn.linear import HadamardLinear

FIRST_AND_LAST = "first_and_last"

# What has no negative output, and what has none if its input has none.
RAMPS = (nn.ReLU, nn.ReLU6, Ramp)
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


def binarize_model(
    model: nn.Module,
    beta_w: int,
    beta_a: int | None = None,
    skip: str | Collection[str] | None = FIRST_AND_LAST,
    *,
    inplace: bool = False,
    **options: Any,
) -> nn.Module:
    """Return `model` with each nn.Linear and nn.Conv2d replaced by its Hadamard layer.

    `skip` names layers that stay float, as `named_modules` does; "first_and_last" are those two of
    all that could be converted, in the order in which they were registered, which need not be that
    of their use; None skips none. `beta_a` None means `beta_w`. `options` go to every new layer:
    `cut`, `cut_a`, `estimator`, `gain`, `backward` and `coding`. Without `coding`, it is unipolar
    where a Sequential shows that a layer's input comes from a ReLU or Ramp, else signed.

    New layers have the old ones' weights, biases, dtype, device, mode and `requires_grad`. The
    model is copied first, unless `inplace`. What has weights and cannot be converted stays float
    and is named in one UserWarning with the reason: subclasses, which may compute something else,
    other kinds of layer, weights that layers share, hooks, padding that is not of zeros.
    ValueError, with `model` unchanged, for a wrong setting, a name in `skip` that it has not, or if
    no layer is left to convert.
    """
    if not inplace:
        model = copy.deepcopy(model)
    check_beta(beta_w, "beta_w")
    names = {module: name for name, module in model.named_modules()}
    reasons = _obstacles(names)
    candidates = [m for m in names if type(m) in (nn.Linear, nn.Conv2d) and m not in reasons]
    skipped = _skipped(candidates, names, skip)
    chosen = [module for module in candidates if module not in skipped]
    if not chosen:
        raise ValueError(f"no layer to convert: {_why_none(candidates, skipped)}")
    if inplace and model in chosen:
        raise ValueError("the model is itself a layer and cannot be replaced in place")
    unsigned: set[nn.Module] = set()
    _follow_sign(model, False, unsigned)
    new = {
        module: _converted(module, beta_w, beta_a, module in unsigned, options) for module in chosen
    }
    left = [f"{names[m] or 'the model'}: {why}" for m, why in reasons.items() if m not in skipped]
    if left:
        warnings.warn(f"left as they are: {'; '.join(left)}", stacklevel=2)
    for parent in names:
        for name, child in list(parent._modules.items()):  # a module can stand in several places
            if child in new:
                setattr(parent, name, new[child])
    return new.get(model, model)


def _obstacles(names: dict[nn.Module, str]) -> dict[nn.Module, str]:
    """Return why each module with weights of its own cannot be converted, of those that cannot."""
    users = Counter(
        id(parameter) for module in names for parameter in module.parameters(recurse=False)
    )
    return {module: why for module in names if (why := _obstacle(module, users)) is not None}


def _obstacle(module: nn.Module, users: Counter[int]) -> str | None:
    own = list(module.parameters(recurse=False))
    if isinstance(module, BinaryLayer) or all(parameter.dim() < 2 for parameter in own):
        return None  # nothing to binarize, or done already
    if type(module) not in (nn.Linear, nn.Conv2d):
        return f"{type(module).__name__} has no binary form"
    if any(users[id(parameter)] > 1 for parameter in own):
        return "another layer shares its weights"
    if _has_hooks(module):
        return "has hooks"
    if type(module) is nn.Conv2d:
        if module.padding_mode != "zeros":
            return f"padding_mode {module.padding_mode!r}"
        if _padding(module) is None:
            return "padding 'same' is not alike on both sides"
    return None


def _has_hooks(module: nn.Module) -> bool:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, kind) for kind in kinds)


def _padding(conv: nn.Conv2d) -> Pair | None:
    if not isinstance(conv.padding, str):
        vertical, horizontal = conv.padding
        return vertical, horizontal
    if conv.padding == "valid":
        return 0, 0
    sizes = zip(conv.dilation, conv.kernel_size, strict=True)
    both = [dilation * (size - 1) for dilation, size in sizes]
    return None if any(n % 2 for n in both) else (both[0] // 2, both[1] // 2)


def _skipped(
    candidates: list[nn.Module], names: dict[nn.Module, str], skip: str | Collection[str] | None
) -> set[nn.Module]:
    if skip == FIRST_AND_LAST:
        return {*candidates[:1], *candidates[-1:]}
    if skip is None:
        return set()
    if isinstance(skip, str):
        raise ValueError(f'skip must be "{FIRST_AND_LAST}", names or None, not {skip!r}')
    if unknown := sorted(set(skip) - set(names.values())):
        raise ValueError(f"skip: the model has no module {unknown[0]!r}")
    return {module for module, name in names.items() if name in skip}


def _why_none(candidates: list[nn.Module], skipped: set[nn.Module]) -> str:
    if not candidates:
        return "the model has no nn.Linear or nn.Conv2d that can be"
    return f"all {len(candidates)} that could be are skipped"


def _follow_sign(module: nn.Module, unsigned_input: bool, found: set[nn.Module]) -> bool:
    """Add to `found` the layers that see no negative input; return whether `module` gives none."""
    if isinstance(module, nn.Sequential):
        for child in module:
            unsigned_input = _follow_sign(child, unsigned_input, found)
        return unsigned_input
    if isinstance(module, RAMPS):
        return True
    if unsigned_input and type(module) in (nn.Linear, nn.Conv2d):
        found.add(module)
    for child in module.children():
        _follow_sign(child, False, found)
    return unsigned_input and isinstance(module, KEEP_SIGN)


def _converted(
    module: nn.Module, beta_w: int, beta_a: int | None, unsigned: bool, options: dict[str, Any]
) -> BinaryLayer:
    settings = {"coding": "unipolar" if unsigned else "signed", **options}
    # A generator of its own: torch's is not to notice that weights are drawn, and thrown away.
    settings |= {"bias": module.bias is not None, "generator": torch.Generator()}
    layer: BinaryLayer
    if isinstance(module, nn.Conv2d):
        padding = _padding(module) or (0, 0)
        geometry = (module.kernel_size, beta_w, beta_a, module.stride, padding)
        layer = HadamardConv2d(
            module.in_channels,
            module.out_channels,
            *geometry,  # type: ignore[arg-type]
            dilation=module.dilation,  # type: ignore[arg-type]
            groups=module.groups,
            **settings,
        )
    elif isinstance(module, nn.Linear):
        layer = HadamardLinear(module.in_features, module.out_features, beta_w, beta_a, **settings)
    layer.to(next(module.parameters()))
    with torch.no_grad():
        for name, parameter in _pairs(module, layer):
            parameter.copy_(name)
            parameter.requires_grad_(name.requires_grad)
    return layer.train(module.training)


def _pairs(module: nn.Module, layer: BinaryLayer) -> Iterator[tuple[nn.Parameter, nn.Parameter]]:
    old = dict(module.named_parameters())
    return ((old[name], new) for name, new in layer.named_parameters() if name in old)
