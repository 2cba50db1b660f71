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
from torch import Tensor, nn

from meshd.hbnn.binarize import check_beta
from meshd.hbnn.binary_layer import BinaryLayer
from meshd.hbnn.conv import HadamardConv2d
from meshd.hbnn.conv_rule import Pair
from meshd.hbnn.input_signs import followed_signs, observed_signs
from meshd.hbnn.linear import HadamardLinear

FIRST_AND_LAST = "first_and_last"


def binarize_model(
    model: nn.Module,
    beta_w: int,
    beta_a: int | None = None,
    skip: str | Collection[str] | None = FIRST_AND_LAST,
    *,
    sample: Tensor | None = None,
    inplace: bool = False,
    **options: Any,
) -> nn.Module:
    """Return `model` with each nn.Linear and nn.Conv2d replaced by its Hadamard layer.

    `skip` names layers that stay float, as `named_modules` does; "first_and_last" are those two of
    all that could be converted, in the order in which they were registered, which need not be that
    of their use; None skips none. `beta_a` None means `beta_w`. `options` go to every new layer:
    `cut`, `cut_a`, `estimator`, `gain`, `backward` and `coding`.

    Without `coding`, a layer's is unipolar where its inputs are never negative, else signed: in the
    signed coding of such inputs every bit would be 1. `sample`, a batch of what the model takes,
    shows it: the float model runs on it once, in evaluation mode. Else a Sequential shows it, by a
    ReLU, Ramp or Sigmoid before the layer; what a `forward` calls is not seen, and one UserWarning
    names the layers that are coded signed without being known. Float activations (`beta_a` = 1)
    have no coding.

    New layers have the old ones' weights, biases, dtype, device, mode and `requires_grad`. The
    model is copied first, unless `inplace`. What has weights and cannot be converted stays float
    and is named in one UserWarning with the reason: subclasses, which may compute something else,
    other kinds of layer, weights that layers share, hooks, padding that is not of zeros.
    ValueError, with `model` unchanged, for a wrong setting, a name in `skip` that it has not, a
    `sample` that the model does not take or whose use `coding` leaves none, or if no layer is left
    to convert; TypeError if `model` is no module or `sample` no tensor.
    """
    _check_kinds(model, sample, options)
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
    codings: dict[nn.Module, str] = {}
    unknown: list[nn.Module] = []
    if options.get("coding") is None and (beta_a or beta_w) != 1:
        codings, unknown = _codings(model, chosen, sample)
    new = {
        module: _converted(
            module, beta_w, beta_a, options | ({"coding": codings[module]} if codings else {})
        )
        for module in chosen
    }
    if unknown:
        _warn_of_unknown([names[module] or "the model" for module in unknown], sample)
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


def _codings(
    model: nn.Module, chosen: list[nn.Module], sample: Tensor | None
) -> tuple[dict[nn.Module, str], list[nn.Module]]:
    """Return each chosen layer's coding, and the layers of whose inputs nothing is known."""
    known = followed_signs(model)
    if sample is not None:
        known |= observed_signs(model, chosen, sample)
    unknown = [module for module in chosen if module not in known]
    return {m: "unipolar" if known.get(m) else "signed" for m in chosen}, unknown


def _warn_of_unknown(layers: list[str], sample: Tensor | None) -> None:
    seen = "no Sequential shows" if sample is None else "neither a Sequential nor the sample shows"
    warnings.warn(
        f"coded signed, though {seen} whether their inputs are ever negative: {', '.join(layers)}; "
        "where they never are, every bit is 1 and says nothing: pass sample=, a batch that reaches "
        'these layers, or coding="unipolar" or "signed"',
        stacklevel=3,
    )


def _check_kinds(model: object, sample: object, options: dict[str, Any]) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch nn.Module, not {type(model).__name__}")
    if sample is not None and not isinstance(sample, Tensor):
        raise TypeError(f"sample must be a tensor, not {type(sample).__name__}")
    if sample is not None and options.get("coding") is not None:
        raise ValueError("sample finds the codings, and coding sets them: give one of the two")


def _converted(
    module: nn.Module, beta_w: int, beta_a: int | None, settings: dict[str, Any]
) -> BinaryLayer:
    # A generator of its own: torch's is not to notice that weights are drawn, and thrown away.
    settings = settings | {"bias": module.bias is not None, "generator": torch.Generator()}
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
