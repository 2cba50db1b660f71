"""The [network] table: a preset with its settings, or a list of layers.

    preset = "lenet"            layers = [ { layer = "conv", out = 32, kernel = 5 }, ... ]

Together with the data's input shape and number of classes it describes a network completely
(`NetworkDescription`), which is what a model file holds.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from meshd.core.errors import UsageError
from meshd.core.network.layers import MAX_BETA, Layer, layer_table, parse_layers
from meshd.core.tables import bounded, choice, parse_table, refuse_unknown

LAYERS = "layers"
"""The preset's name where the network is a list of layers."""

PRESETS = ("seed", "lenet", "nin", "alexnet", "resnet18", "convnet")

Shape = tuple[int, ...]
MAX_INPUT = 1 << 24  # numbers of one sample: an image of 2,000 x 2,000 in colour
MAX_CLASSES = 65_536
MIN_WIDTH = 8  # the narrowest that every preset divides into channels
MAX_WIDTH = 16_384


@dataclass(frozen=True)
class NetworkSpec:
    """[network]: which layers, how wide, how aggressively binarized."""

    preset: str = choice(PRESETS[0], *PRESETS[1:], LAYERS, about="a whole network by name")
    width: int = bounded(0, 0, MAX_WIDTH, "units or channels of the preset; 0: the preset's own")
    beta_w: int = bounded(16, 1, MAX_BETA, "elements of a weight segment that share one scale")
    beta_a: int = bounded(16, 1, MAX_BETA, "elements of an activation segment that share one scale")
    cut: float = bounded(1.0, 0.0, 1000.0, "gradients of latents pass where |w| <= cut; 0: all")
    cut_a: float = bounded(1.0, 0.0, 1000.0, "gradients of activations pass where |x| <= cut_a")
    first: str = choice("dense", "binary", about="first layer's weights; its inputs stay float")
    layers: tuple[Layer, ...] = field(default=())


def parse_network(table: dict[str, Any], path: str = "network") -> NetworkSpec:
    """Read a [network] table.

    Raises:
        UsageError: unknown key, wrong type, out of bounds, both a preset and layers.
    """
    refuse_unknown(table, {f.name for f in dataclasses.fields(NetworkSpec)}, f"{path}.")
    rest = {key: value for key, value in table.items() if key != LAYERS}
    layers = parse_layers(table.get(LAYERS, []), f"{path}.{LAYERS}")
    if LAYERS in table:
        rest.setdefault("preset", LAYERS)
    spec = dataclasses.replace(parse_table(rest, NetworkSpec, path), layers=layers)
    if (spec.preset == LAYERS) != bool(layers):
        raise UsageError(
            f"job file: {path}: give either a preset or {path}.layers, a list of at least one layer"
        )
    if 0 < spec.width < MIN_WIDTH:
        raise UsageError(
            f"job file: {path}.width: {spec.width} is out of bounds, {MIN_WIDTH} to {MAX_WIDTH}"
        )
    if layers and (spec.width or spec.first != "dense"):
        raise UsageError(f"job file: {path}: width and first are a preset's, not for layers")
    return spec


def network_table(spec: NetworkSpec) -> dict[str, Any]:
    """The table of a spec, with every setting; `parse_network` reads it back."""
    table = {
        f.name: getattr(spec, f.name) for f in dataclasses.fields(NetworkSpec) if f.name != LAYERS
    }
    if spec.layers:
        table[LAYERS] = [layer_table(layer) for layer in spec.layers]
    return table


@dataclass(frozen=True)
class NetworkDescription:
    """A network on its data: `input` (features,) or (channels, height, width); `classes` >= 1."""

    spec: NetworkSpec
    input: Shape
    classes: int


def describe(description: NetworkDescription) -> dict[str, Any]:
    """As a table for a model file; `parse_description` reads it."""
    return {
        "network": network_table(description.spec),
        "input": list(description.input),
        "classes": description.classes,
    }


def parse_description(table: Any) -> NetworkDescription:
    """Read and check what `describe` wrote.

    Raises:
        UsageError: anything else than that.
    """
    if not isinstance(table, dict) or table.keys() != {"network", "input", "classes"}:
        raise UsageError("network description: must be a table of network, input and classes")
    if not isinstance(table["network"], dict):
        raise UsageError("network description: network must be a table")
    return check_description(
        NetworkDescription(
            parse_network(table["network"]), _shape(table["input"]), table["classes"]
        )
    )


def check_description(description: NetworkDescription) -> NetworkDescription:
    """Return it; UsageError where input or classes are out of bounds."""
    shape, classes = _shape(description.input), description.classes
    size = 1
    for length in shape:
        size *= length
    if size > MAX_INPUT:
        raise UsageError(f"network: a sample of {size} numbers, at most {MAX_INPUT}")
    if not isinstance(classes, int) or isinstance(classes, bool) or not 1 <= classes <= MAX_CLASSES:
        raise UsageError(f"network: classes must be 1 to {MAX_CLASSES}")
    return dataclasses.replace(description, input=shape)


def _shape(value: Any) -> Shape:
    whole = isinstance(value, list | tuple) and all(
        isinstance(v, int) and not isinstance(v, bool) and 1 <= v <= MAX_INPUT for v in value
    )
    if not whole or len(value) not in (1, 3):
        raise UsageError(
            "network: the input's shape must be (features,) or (channels, height, width)"
        )
    return tuple(value)
