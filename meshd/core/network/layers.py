"""The layers that a network can have: one frozen dataclass each, its fields the keys of its table.

    { layer = "hadamard_conv", out = 128, kernel = 3, padding = 1, beta_w = 64 }

Shapes are without the batch: (channels, height, width) for images, (features,) else. Settings that
binary layers share (INHERITED) default to what [network] says; a layer may override them.

A binary layer binarizes its own input. Its `coding` is "signed", "unipolar" or "auto", which
`graph` resolves by what precedes the layer: unipolar after a ramp, else signed (design section 4).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from meshd.core.errors import UsageError
from meshd.core.tables import bounded, choice, flag, parse_table

MAX_UNITS = 1 << 20  # of one layer: ten times the widest fully connected networks in use
MAX_BETA = 1 << 20
MAX_WINDOW = 64  # kernel, stride or padding in pixels
MAX_LAYERS = 1024  # ResNet-152 has about 500 by this count
MAX_DEPTH = 4  # residuals within residuals

UNSET = -1
"""A number that is taken from [network]."""

INHERITED = ("beta_w", "beta_a", "cut", "cut_a")


def _out() -> Any:
    return bounded(0, 0, MAX_UNITS, "units or channels; 0: as many as the data has classes")


def _beta(what: str) -> Any:
    return bounded(UNSET, 1, MAX_BETA, f"elements of {what} segment that share one scale")


def _cut(what: str) -> Any:
    about = f"straight-through gradients of {what} pass where |x| <= cut; 0: everywhere"
    return bounded(float(UNSET), 0.0, 1000.0, about)


@dataclass(frozen=True)
class Binary:
    """What binary layers share. beta_a = 1: activations stay float (HBWN)."""

    beta_w: int = _beta("a weight")
    beta_a: int = _beta("an activation")
    cut: float = _cut("latents")
    cut_a: float = _cut("activations")
    coding: str = choice("auto", "signed", "unipolar", about="of activations")
    estimator: str = choice(
        "cut", "polynomial", about="shape of activations' gradients; Bi-Real's polynomial"
    )
    gain: bool = flag(False, "a learned scale for each output, started at 1")
    bias: bool = flag(False, "a dense number added to each output")


@dataclass(frozen=True)
class Linear:
    """(F,) -> (out,), dense."""

    out: int = _out()
    bias: bool = flag(False, "a number added to each output")


@dataclass(frozen=True)
class HadamardLinear(Binary):
    """(F,) -> (out,), binary."""

    out: int = _out()


@dataclass(frozen=True)
class Window:
    """What slides over an image: height and width alike."""

    kernel: int = bounded(3, 1, MAX_WINDOW, "pixels")
    stride: int = bounded(1, 1, MAX_WINDOW, "pixels")
    padding: int = bounded(0, 0, MAX_WINDOW, "pixels of zeros on each side")


@dataclass(frozen=True)
class Conv(Window):
    """(C, H, W) -> (out, H', W'), dense."""

    out: int = _out()
    bias: bool = flag(False, "a number added to each channel")


@dataclass(frozen=True)
class HadamardConv(Binary, Window):
    """(C, H, W) -> (out, H', W'), binary. A row of the weight: kernel row, kernel column, C."""

    out: int = _out()


@dataclass(frozen=True)
class BatchNorm:
    """Normalises each feature or channel over the batch (arXiv 1502.03167), then scale and shift.

    Running statistics move by `momentum` a step; used when not training.
    """

    momentum: float = bounded(0.1, 0.0, 1.0, "share of the new batch in running statistics")
    eps: float = bounded(1e-5, 1e-12, 1.0, "added to the variance")


@dataclass(frozen=True)
class Ramp:
    """max(x, 0)."""


@dataclass(frozen=True)
class HardTanh:
    """min(max(x, -1), 1)."""


@dataclass(frozen=True)
class Sigmoid:
    """1 / (1 + exp(-x))."""


@dataclass(frozen=True)
class Binarize:
    """H_beta along the features, or along the channels of each pixel."""

    beta: int = bounded(UNSET, 1, MAX_BETA, "as [network] beta_a unless given")
    coding: str = choice("auto", "signed", "unipolar", about="as for a binary layer")
    cut_a: float = _cut("activations")


@dataclass(frozen=True)
class MaxPool(Window):
    """Largest value of each window, channel by channel. Padding never wins."""

    kernel: int = bounded(2, 1, MAX_WINDOW, "pixels")
    stride: int = bounded(2, 1, MAX_WINDOW, "pixels")


@dataclass(frozen=True)
class AvgPool(Window):
    """Mean of each window, channel by channel; padded zeros count."""

    kernel: int = bounded(2, 1, MAX_WINDOW, "pixels")
    stride: int = bounded(2, 1, MAX_WINDOW, "pixels")


@dataclass(frozen=True)
class GlobalAvgPool:
    """(C, H, W) -> (C,): the mean over all pixels."""


@dataclass(frozen=True)
class Flatten:
    """(C, H, W) -> (C * H * W,), in this order."""


@dataclass(frozen=True)
class Dropout:
    """While training, zero each value with probability `rate` and scale the rest up."""

    rate: float = bounded(0.5, 0.0, 0.95, "share of values that is dropped")


@dataclass(frozen=True)
class Residual:
    """body(x) + shortcut(x); an empty shortcut is x itself."""

    body: tuple[Layer, ...] = field(default=())
    shortcut: tuple[Layer, ...] = field(default=())


Layer = (
    Linear
    | HadamardLinear
    | Conv
    | HadamardConv
    | BatchNorm
    | Ramp
    | HardTanh
    | Sigmoid
    | Binarize
    | MaxPool
    | AvgPool
    | GlobalAvgPool
    | Flatten
    | Dropout
    | Residual
)

KINDS: dict[str, type[Layer]] = {
    "linear": Linear,
    "hadamard_linear": HadamardLinear,
    "conv": Conv,
    "hadamard_conv": HadamardConv,
    "batchnorm": BatchNorm,
    "ramp": Ramp,
    "hardtanh": HardTanh,
    "sigmoid": Sigmoid,
    "binarize": Binarize,
    "maxpool": MaxPool,
    "avgpool": AvgPool,
    "globalavgpool": GlobalAvgPool,
    "flatten": Flatten,
    "dropout": Dropout,
    "residual": Residual,
}
NAMES: dict[type, str] = {kind: name for name, kind in KINDS.items()}


def parse_layers(tables: Any, path: str, depth: int = 0) -> tuple[Layer, ...]:
    """Read a list of layer tables; `path` names it in errors.

    Raises:
        UsageError: not a list of tables, an unknown layer or key, a value out of bounds, too many
            layers or residuals too deep within each other.
    """
    if not isinstance(tables, list | tuple) or not all(isinstance(t, dict) for t in tables):
        raise UsageError(f"job file: {path}: must be a list of tables, each with a layer")
    if depth > MAX_DEPTH:
        raise UsageError(f"job file: {path}: residuals within residuals, more than {MAX_DEPTH}")
    if len(tables) > MAX_LAYERS:
        raise UsageError(f"job file: {path}: {len(tables)} layers, at most {MAX_LAYERS}")
    layers = tuple(_parse_layer(t, f"{path}[{i}]", depth) for i, t in enumerate(tables))
    if (count := count_layers(layers)) > MAX_LAYERS:
        raise UsageError(f"job file: {path}: {count} layers, at most {MAX_LAYERS}")
    return layers


def count_layers(layers: tuple[Layer, ...]) -> int:
    """How many layers there are, those inside residuals included."""
    return sum(
        1 + (count_layers(la.body) + count_layers(la.shortcut) if isinstance(la, Residual) else 0)
        for la in layers
    )


def _parse_layer(table: dict[str, Any], path: str, depth: int) -> Layer:
    name = table.get("layer")
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise UsageError(f"job file: {path}.layer: must be one of {', '.join(KINDS)}")
    rest = {key: value for key, value in table.items() if key != "layer"}
    if kind is not Residual:
        return parse_table(rest, kind, path)
    if unknown := sorted(str(key) for key in rest if key not in ("body", "shortcut")):
        raise UsageError(f"job file: {path}.{unknown[0]}: unknown key; known here: body, shortcut")
    return Residual(
        parse_layers(rest.get("body", []), f"{path}.body", depth + 1),
        parse_layers(rest.get("shortcut", []), f"{path}.shortcut", depth + 1),
    )


def layer_table(layer: Layer) -> dict[str, Any]:
    """The table of a layer, as `parse_layers` reads it: its kind, and what is not a default."""
    table: dict[str, Any] = {"layer": NAMES[type(layer)]}
    if isinstance(layer, Residual):
        table["body"] = [layer_table(part) for part in layer.body]
        table["shortcut"] = [layer_table(part) for part in layer.shortcut]
        return table
    for key in dataclasses.fields(layer):
        value = getattr(layer, key.name)
        if value != key.default:
            table[key.name] = value
    return table
