"""A network's layers with everything filled in: names, shapes, codings, parameters.

Names are those of torch modules in a `Sequential`: layer 3 is "3", the second layer of its
residual's body "3.body.1". Parameters come in the order of the layers: the order in which slices
are cut (`meshd.core.slices`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

from meshd.core.errors import UsageError
from meshd.core.network.layers import (
    INHERITED,
    UNSET,
    AvgPool,
    BatchNorm,
    Binarize,
    Binary,
    Conv,
    Dropout,
    Flatten,
    GlobalAvgPool,
    HadamardConv,
    HadamardLinear,
    Layer,
    Linear,
    MaxPool,
    Ramp,
    Residual,
    Sigmoid,
    Window,
)
from meshd.core.network.presets import preset_layers
from meshd.core.network.spec import NetworkDescription, NetworkSpec, Shape, check_description

MAX_PARAMETERS = 1 << 32
MAX_ACTIVATIONS = 1 << 28  # numbers of one layer's output for one sample: 1 GiB of float32


@dataclass(frozen=True)
class Parameter:
    """One parameter of `shape` as torch has it: (out, in), (out, channels, height, width) or (n,).

    `rows` x `columns`: as it is binarized, cut and packed; a convolution's row runs over kernel
    row, kernel column, channel. `kind` "binary": the network sees H_beta of each row; "dense": the
    floats, and beta is 0.
    """

    name: str
    shape: Shape
    rows: int
    columns: int
    kind: Literal["binary", "dense"]
    beta: int

    @property
    def size(self) -> int:
        """Elements."""
        return self.rows * self.columns


@dataclass(frozen=True)
class Node:
    """One layer, its settings resolved; `body` and `shortcut` are a residual's, else empty."""

    name: str
    layer: Layer
    input: Shape
    output: Shape
    body: tuple[Node, ...] = ()
    shortcut: tuple[Node, ...] = ()


@dataclass(frozen=True)
class Network:
    """A description and its nodes."""

    description: NetworkDescription
    nodes: tuple[Node, ...]

    def walk(self) -> Iterator[Node]:
        """Every node in the order of its parameters, a residual before its parts."""
        yield from _walk(self.nodes)

    def parameters(self) -> list[Parameter]:
        """Every trainable parameter, in order."""
        return [parameter for node in self.walk() for parameter in _parameters(node)]

    @property
    def widest(self) -> int:
        """Numbers of the largest input or output of a layer, for one sample."""
        return max(max(prod(node.input), prod(node.output)) for node in self.walk())

    def statistics(self) -> list[tuple[str, int]]:
        """Name and length of every buffer of running statistics, in order: mean, then variance."""
        return [
            (f"{node.name}.{what}", node.input[0])
            for node in self.walk()
            if isinstance(node.layer, BatchNorm)
            for what in ("running_mean", "running_var")
        ]


def resolve(description: NetworkDescription) -> Network:
    """Fill in everything; a pure function of the description.

    Raises:
        UsageError: a layer that does not fit what precedes it, an output that is not one number a
            class, or a network beyond MAX_PARAMETERS or MAX_ACTIVATIONS.
    """
    description = check_description(description)
    layers = preset_layers(description.spec, description.input)
    resolver = _Resolver(description.spec, description.classes)
    network = Network(description, resolver.chain(layers, "", description.input, "unipolar")[0])
    output = network.nodes[-1].output
    if output != (description.classes,):
        raise UsageError(
            f"network: ends in shape {output}, not one number for each of"
            f" {description.classes} classes; end in a linear layer without out"
        )
    total = sum(parameter.size for parameter in network.parameters())
    if total == 0:
        raise UsageError("network: has no parameters to train; it needs a linear or conv layer")
    if total > MAX_PARAMETERS:
        raise UsageError(f"network: {total} parameters, at most {MAX_PARAMETERS}")
    return network


def _walk(nodes: tuple[Node, ...]) -> Iterator[Node]:
    for node in nodes:
        yield node
        yield from _walk(node.body)
        yield from _walk(node.shortcut)


class _Resolver:
    def __init__(self, spec: NetworkSpec, classes: int) -> None:
        self._spec = spec
        self._classes = classes

    def chain(
        self, layers: tuple[Layer, ...], prefix: str, shape: Shape, coding: str
    ) -> tuple[tuple[Node, ...], str]:
        """The nodes of a chain, and the coding for what follows; `coding`: for its first layer.

        An input is coded unipolar: pixels are never negative, and 0 says nothing.
        """
        nodes = []
        for index, layer in enumerate(layers):
            node = self._node(layer, f"{prefix}{index}", shape, coding)
            if prod(node.output) > MAX_ACTIVATIONS:
                raise _misfit(node.name, f"gives {prod(node.output)} numbers a sample, too many")
            nodes.append(node)
            shape, coding = node.output, _coding_after(node.layer, coding)
        return tuple(nodes), coding

    def _node(self, layer: Layer, name: str, shape: Shape, coding: str) -> Node:
        if isinstance(layer, Residual):
            return self._residual(layer, name, shape, coding)
        layer = self._filled(layer, coding)
        output = _output(layer, name, shape)
        if isinstance(layer, HadamardConv):
            layer = _with_segments(layer, name, shape[0])
        return Node(name, layer, shape, output)

    def _residual(self, layer: Residual, name: str, shape: Shape, coding: str) -> Node:
        body, _ = self.chain(layer.body, f"{name}.body.", shape, coding)
        shortcut, _ = self.chain(layer.shortcut, f"{name}.shortcut.", shape, coding)
        ends = [part[-1].output if part else shape for part in (body, shortcut)]
        if ends[0] != ends[1]:
            raise _misfit(name, f"adds shapes {ends[0]} (body) and {ends[1]} (shortcut)")
        return Node(name, layer, shape, ends[0], body, shortcut)

    def _filled(self, layer: Layer, coding: str) -> Layer:
        """The layer with what it inherits, and with its coding.

        With one element a segment, activations stay as they are (signed: H_1 is the identity), and
        so do their gradients unless the layer itself asks for a cut.
        """
        if isinstance(layer, Linear | HadamardLinear | Conv | HadamardConv) and layer.out == 0:
            layer = dataclasses.replace(layer, out=self._classes)
        if not isinstance(layer, Binary | Binarize):
            return layer
        changes: dict[str, Any] = {}
        for key in INHERITED:
            if getattr(layer, key, None) == UNSET:
                changes[key] = getattr(self._spec, key)
        own = layer.beta if isinstance(layer, Binarize) else layer.beta_a
        beta = self._spec.beta_a if own == UNSET else own
        if isinstance(layer, Binarize):
            changes["beta"] = beta
        if beta == 1 and layer.cut_a == UNSET:
            changes["cut_a"] = 0.0
        if layer.coding == "auto":
            changes["coding"] = "signed" if beta == 1 else coding
        return dataclasses.replace(layer, **changes)


def _coding_after(layer: Layer, coding: str) -> str:
    """The coding that suits this layer's output."""
    if isinstance(layer, Ramp | Sigmoid):
        return "unipolar"
    if isinstance(layer, Binarize):
        return layer.coding
    if isinstance(layer, MaxPool | AvgPool | GlobalAvgPool | Flatten | Dropout):
        return coding
    return "signed"


def _output(layer: Layer, name: str, shape: Shape) -> Shape:
    """The shape behind a layer, without the batch; UsageError if it does not take `shape`."""
    if isinstance(layer, Linear | HadamardLinear):
        if len(shape) != 1:
            raise _misfit(name, f"linear takes (features,), not {shape}; put a flatten before it")
        return (layer.out,)
    if isinstance(layer, Window):
        if len(shape) != 3:
            raise _misfit(name, f"takes (channels, height, width), not {shape}")
        if not isinstance(layer, Conv | HadamardConv) and layer.padding > layer.kernel // 2:
            raise _misfit(name, f"pools with padding {layer.padding}, above half its kernel")
        sides = [(n + 2 * layer.padding - layer.kernel) // layer.stride + 1 for n in shape[1:]]
        if min(sides) < 1:
            raise _misfit(name, f"has a window larger than its input {shape} with padding")
        channels = shape[0] if isinstance(layer, MaxPool | AvgPool) else layer.out
        return (channels, *sides)
    if isinstance(layer, GlobalAvgPool):
        if len(shape) != 3:
            raise _misfit(name, f"takes (channels, height, width), not {shape}")
        return shape[:1]
    if isinstance(layer, Flatten):
        return (prod(shape),)
    return shape


def _with_segments(layer: HadamardConv, name: str, channels: int) -> HadamardConv:
    """The layer with the segments that hold: within a pixel's channels, or all of a window.

    A beta between the two is the pixel's channels. Kernels take what divides them (design section
    4), and one channel is no segment: its scale would be the weight.
    """
    window = layer.kernel * layer.kernel * channels
    found: dict[str, Any] = {}
    for key, beta in (("beta_w", layer.beta_w), ("beta_a", layer.beta_a)):
        held = window if beta >= window else min(beta, channels)
        if held <= channels and channels % held:
            raise _misfit(
                name,
                f"has {key} {beta}, which does not divide its {channels} input channels; choose"
                f" one that does, or {window} for one scale a window",
            )
        if held == 1 < min(beta, window):
            raise _misfit(
                name, f"has one input channel; set its {key} to {window}, one scale a window, or 1"
            )
        found[key] = held
    return dataclasses.replace(layer, **found)


def _parameters(node: Node) -> Iterator[Parameter]:
    layer, channels = node.layer, node.input[0]
    if isinstance(layer, BatchNorm):
        for what in ("weight", "bias"):
            yield _vector(f"{node.name}.{what}", channels)
    if not isinstance(layer, Linear | HadamardLinear | Conv | HadamardConv):
        return
    window = (layer.kernel, layer.kernel) if isinstance(layer, Window) else ()
    binary = isinstance(layer, Binary)
    yield Parameter(
        f"{node.name}.weight",
        (layer.out, channels, *window),
        layer.out,
        channels * prod(window),
        "binary" if binary else "dense",
        layer.beta_w if isinstance(layer, Binary) else 0,
    )
    if layer.bias:
        yield _vector(f"{node.name}.bias", layer.out)
    if isinstance(layer, Binary) and layer.gain:
        yield _vector(f"{node.name}.gain", layer.out)


def _vector(name: str, length: int) -> Parameter:
    return Parameter(name, (length,), 1, length, "dense", 0)


def _misfit(name: str, what: str) -> UsageError:
    return UsageError(f"network: layer {name} {what}")
