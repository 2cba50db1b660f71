"""From a network's nodes and weights to the steps that compute it, everything prepared once.

Which memory a step writes is decided here: it alternates between the two slots of its chain, and an
element-wise step works in place where its input is the chain's own.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from meshd.bits.layout import Floats
from meshd.core.network import layers as la
from meshd.core.network.graph import Network, Node
from meshd.hbnn.runtime import products, steps
from meshd.hbnn.runtime.memory import Slot
from meshd.hbnn.runtime.model_file import Weights

ELEMENTWISE: dict[type, Callable[..., Floats]] = {
    la.Ramp: steps.ramp,
    la.HardTanh: steps.hardtanh,
    la.Sigmoid: steps.sigmoid,
}


def plan(network: Network, weights: Weights) -> tuple[steps.Step, ...]:
    """The steps from samples to logits: a Sigmoid at the end is left out, as training does."""
    nodes = network.nodes
    if isinstance(nodes[-1].layer, la.Sigmoid):
        nodes = nodes[:-1]
    return _Planner(weights, network).chain(nodes, "")


def widest(network: Network) -> int:
    """Numbers of the largest array that one sample needs: an output, or an image's windows."""
    return max(max(prod(n.input), prod(n.output), _windows(n)) for n in network.walk())


def _windows(node: Node) -> int:
    """Numbers of all windows of a convolution, for those that im2col makes floats of."""
    layer = node.layer
    if not isinstance(layer, la.Conv | la.HadamardConv):
        return 0
    columns = node.input[0] * layer.kernel**2
    binary = isinstance(layer, la.HadamardConv) and _takes_bits(layer, columns)
    return 0 if binary else columns * prod(node.output[1:])


def _takes_bits(layer: la.Binary, columns: int) -> bool:
    """Whether the kernels compute a binary layer.

    They do it all the same where one scale covers a convolution's window: as floats, that scale
    would be another one for every window.
    """
    beta_w, beta_a = min(layer.beta_w, columns), min(layer.beta_a, columns)
    of_window = isinstance(layer, la.HadamardConv) and beta_a == columns > 1
    return beta_a > 1 and (of_window or products.nests(beta_w, beta_a, columns))


class _Planner:
    """Builds one chain at a time; `_own`: the chain's input so far is its own memory."""

    def __init__(self, weights: Weights, network: Network) -> None:
        self._weights = weights
        self._columns = {p.name: p.columns for p in network.parameters()}

    def chain(self, nodes: tuple[Node, ...], place: str) -> tuple[steps.Step, ...]:
        """The steps of a chain; `place` names its slots."""
        found: list[steps.Step] = []
        turn, own = 0, False
        for node in nodes:
            layer = node.layer
            if isinstance(layer, la.Dropout) or (
                isinstance(layer, la.Flatten) and len(node.input) == 1
            ):
                continue
            slot = (place, turn)
            if isinstance(layer, la.BatchNorm | la.Binarize | la.Ramp | la.HardTanh | la.Sigmoid):
                found.append(self._same_shape(node, own, slot))
                turn = turn if own else 1 - turn
            else:
                found.append(self._new_shape(node, slot))
                turn = 1 - turn
            own = True
        return tuple(found)

    def _same_shape(self, node: Node, own: bool, slot: Slot) -> steps.Step:
        layer = node.layer
        if isinstance(layer, la.BatchNorm):
            return self._normalise(node, layer, own, slot)
        if isinstance(layer, la.Binarize):
            return steps.Binarize(layer.beta, layer.coding == "unipolar", own, slot)
        return steps.Elementwise(ELEMENTWISE[type(layer)], own, slot)

    def _new_shape(self, node: Node, slot: Slot) -> steps.Step:
        layer = node.layer
        if isinstance(layer, la.Binary):
            return self._binary(node, layer, slot)
        if isinstance(layer, la.Linear | la.Conv):
            return self._dense(node, layer, slot)
        if isinstance(layer, la.MaxPool | la.AvgPool):
            return steps.Pool(_taps(node), isinstance(layer, la.MaxPool), slot)
        if isinstance(layer, la.GlobalAvgPool):
            return steps.Average(slot)
        if isinstance(layer, la.Flatten):
            return steps.Flatten(slot)
        body, shortcut = (
            self.chain(part, f"{slot[0]}{name}")
            for part, name in ((node.body, "b"), (node.shortcut, "s"))
        )
        return steps.Add(body, shortcut, slot)

    def _normalise(self, node: Node, layer: la.BatchNorm, own: bool, slot: Slot) -> steps.Normalise:
        dense, name = self._weights.dense, node.name
        deviation = np.sqrt(dense[f"{name}.running_var"] + np.float32(layer.eps))
        slope = dense[f"{name}.weight"] * (np.float32(1) / deviation)
        shift = dense[f"{name}.bias"] - dense[f"{name}.running_mean"] * slope
        return steps.Normalise(slope, shift, own, slot)

    def _dense(self, node: Node, layer: la.Linear | la.Conv, slot: Slot) -> steps.Step:
        weight = self._weights.dense[f"{node.name}.weight"]
        bias = self._weights.dense[f"{node.name}.bias"] if layer.bias else None
        taps = None
        if isinstance(layer, la.Conv):
            taps = _taps(node)
            weight = np.ascontiguousarray(weight.transpose(0, 2, 3, 1)).reshape(len(weight), -1)
        return products.FloatProduct(weight, bias, slot, taps)

    def _binary(self, node: Node, layer: la.Binary, slot: Slot) -> steps.Step:
        columns = self._columns[f"{node.name}.weight"]
        weights = self._binary_weights(node, layer, columns)
        activations = products.Activations(min(layer.beta_a, columns), layer.coding == "unipolar")
        taps = _taps(node) if isinstance(layer, la.HadamardConv) else None
        if not _takes_bits(layer, columns):
            return products.FloatProduct(weights.floats(), weights.bias, slot, taps, activations)
        if taps is None:
            return products.BinaryLinear.prepare(weights, activations, slot)
        channels, height, width = node.input
        image = (height, width, channels)
        return products.BinaryConv.prepare(weights, activations, taps, image, slot)

    def _binary_weights(self, node: Node, layer: la.Binary, columns: int) -> products.BinaryWeights:
        packed, scales = self._weights.binary[f"{node.name}.weight"]
        if layer.gain:
            scales = scales * self._weights.dense[f"{node.name}.gain"][:, None]
        bias = self._weights.dense[f"{node.name}.bias"] if layer.bias else None
        beta = min(layer.beta_w, columns)
        return products.BinaryWeights(packed, scales, beta, columns, bias)


def _taps(node: Node) -> steps.Taps:
    layer = node.layer
    assert isinstance(layer, la.Window)  # noqa: S101 - narrows the type; the caller has looked
    return steps.Taps(layer.kernel, layer.stride, layer.padding, node.output[1:])  # type: ignore[arg-type]
