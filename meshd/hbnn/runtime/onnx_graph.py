"""A model as an ONNX graph of floats, for programs that know nothing of bits.

Weights are dequantized, so the file is as large as the float32 network's. H_beta of activations,
with x cut into segments along the channels, is

    mean over the segment of |x|  *  code(x)        code: x > 0, or x >= 0 ? 1 : -1

as Reshape, Abs, ReduceMean, Greater and Mul. Input: samples as the data has them, float32
(batch, *input); the model's scale is in the graph. Output: logits (batch, classes). The batch may
have any size.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from meshd.bits import ops
from meshd.core.network import layers as la
from meshd.core.network.graph import Node
from meshd.hbnn.runtime.errors import ModelError
from meshd.hbnn.runtime.model_file import Header, Weights

OPSET = 17
IR_VERSION = 8  # what came with this opset, so that older programs read it too
MAX_BYTES = (1 << 31) - (1 << 20)  # a protocol buffer has less than 2 GiB

PLAIN = {la.Ramp: "Relu", la.Sigmoid: "Sigmoid"}


def onnx_model(header: Header, weights: Weights) -> onnx.ModelProto:
    """The checked graph of a model.

    Raises:
        ModelError: as floats it would be larger than an ONNX file can be.
    """
    network, description = header.network, header.network.description
    if 4 * sum(p.size for p in network.parameters()) > MAX_BYTES:
        raise ModelError("as float32 the model has more than 2 GiB, which ONNX does not take")
    builder = _Builder(weights)
    nodes = network.nodes
    if isinstance(nodes[-1].layer, la.Sigmoid):
        nodes = nodes[:-1]
    x = "input"
    if header.scale != 1:
        x = builder.node("Mul", x, builder.constant(np.float32(header.scale)))
    builder.rename(builder.chain(nodes, x), "logits")
    graph = helper.make_graph(
        builder.nodes,
        "meshd",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", *description.input])],
        [
            helper.make_tensor_value_info(
                "logits", TensorProto.FLOAT, ["batch", description.classes]
            )
        ],
        builder.tensors,
    )
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(
        graph, producer_name="meshd", opset_imports=opset, ir_version=IR_VERSION
    )
    properties = {"weight_hash": header.weight_hash}
    if header.class_names:
        properties["class_names"] = "\n".join(header.class_names)
    helper.set_model_props(model, properties)
    onnx.checker.check_model(model, full_check=True)
    return model


class _Builder:
    """Collects nodes and constants; a value is the name that it has in the graph."""

    def __init__(self, weights: Weights) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self._weights = weights
        self._count = 0

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; return its output."""
        out = self._name()
        self.nodes.append(helper.make_node(kind, list(inputs), [out], **attributes))
        return out

    def constant(self, value: Any) -> str:
        """Add a constant array; its name."""
        name = self._name()
        self.tensors.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def rename(self, value: str, name: str) -> None:
        """Give the graph's last value the name of its output."""
        self.nodes.append(helper.make_node("Identity", [value], [name]))

    def chain(self, nodes: tuple[Node, ...], x: str) -> str:
        """One layer after the other."""
        for node in nodes:
            x = self._layer(node, x)
        return x

    def _name(self) -> str:
        self._count += 1
        return f"v{self._count}"

    def _layer(self, node: Node, x: str) -> str:
        layer = node.layer
        if isinstance(layer, la.Dropout):
            return x
        if type(layer) in PLAIN:
            return self.node(PLAIN[type(layer)], x)
        if isinstance(layer, la.HardTanh):
            return self.node("Clip", x, *(self.constant(np.float32(v)) for v in (-1, 1)))
        if isinstance(layer, la.Flatten):
            return self.node("Flatten", x, axis=1)
        if isinstance(layer, la.GlobalAvgPool):
            return self.node("Flatten", self.node("GlobalAveragePool", x), axis=1)
        if isinstance(layer, la.MaxPool):
            return self.node("MaxPool", x, **_window(layer))
        if isinstance(layer, la.AvgPool):
            return self.node("AveragePool", x, count_include_pad=1, **_window(layer))
        if isinstance(layer, la.Residual):
            return self.node("Add", self.chain(node.body, x), self.chain(node.shortcut, x))
        if isinstance(layer, la.BatchNorm):
            names = ("weight", "bias", "running_mean", "running_var")
            parts = (self._dense(node, name) for name in names)
            return self.node("BatchNormalization", x, *parts, epsilon=layer.eps)
        if isinstance(layer, la.Binarize):
            return self._binarized(x, node.input, layer.beta, layer.coding)
        return self._product(node, x)

    def _product(self, node: Node, x: str) -> str:
        layer = node.layer
        if isinstance(layer, la.Linear | la.Conv):
            weight = self._dense(node, "weight")
        else:
            assert isinstance(layer, la.Binary)  # noqa: S101 - narrows the type: all others are done
            weight = self.constant(_dequantized(node, self._weights))
            columns = node.input[0]
            if isinstance(layer, la.HadamardConv):
                columns *= layer.kernel**2
                if layer.beta_a >= columns > 1:
                    return self._window_scaled(node, layer, x, weight)
            x = self._binarized(x, node.input, min(layer.beta_a, columns), layer.coding)
        assert isinstance(layer, la.Linear | la.Conv | la.Binary)  # noqa: S101 - as above
        bias = [self._dense(node, "bias")] if layer.bias else []
        if isinstance(layer, la.Window):
            return self.node("Conv", x, weight, *bias, **_window(layer))
        return self.node("Gemm", x, weight, *bias, transB=1)

    def _window_scaled(self, node: Node, layer: la.HadamardConv, x: str, weight: str) -> str:
        """One scale a window: the mean of |x| over its taps inside the image."""
        channels, height, width = node.input
        window = _window(layer)
        y = self.node("Conv", self._code(x, layer.coding), weight, **window)
        ones = self.constant(np.ones((1, channels, layer.kernel, layer.kernel), np.float32))
        sums = self.node("Conv", self.node("Abs", x), ones, **window)
        rows, columns = (
            _taps_inside(length, outputs, layer)
            for length, outputs in zip((height, width), node.output[1:], strict=True)
        )
        inside = np.maximum(np.outer(rows, columns), 1) * channels
        share = self.constant((1 / inside).astype(np.float32)[None, None])
        y = self.node("Mul", y, self.node("Mul", sums, share))
        if layer.bias:
            shape = self._weights.dense[f"{node.name}.bias"][:, None, None]
            y = self.node("Add", y, self.constant(shape))
        return y

    def _binarized(self, x: str, shape: tuple[int, ...], beta: int, coding: str) -> str:
        """H_beta of (batch, *shape) along the first of shape."""
        length, rest = shape[0], shape[1:]
        beta = min(beta, length)
        if beta == 1:
            return x if coding == "signed" else self.node("Relu", x)
        segments = -(-length // beta)
        missing = segments * beta - length
        if missing:
            pads = np.zeros(2 * (len(shape) + 1), np.int64)
            pads[len(shape) + 2] = missing
            x = self.node("Pad", x, self.constant(pads))
        cut = self.constant(np.array([0, segments, beta, *rest], np.int64))
        x = self.node("Reshape", x, cut)
        mean = self.node("ReduceMean", self.node("Abs", x), axes=[2], keepdims=1)
        if missing:  # the last segment's mean is over its real length
            share = np.ones((segments, 1, *(1 for _ in rest)), np.float32)
            share[-1] = beta / (beta - missing)
            mean = self.node("Mul", mean, self.constant(share))
        y = self.node("Mul", mean, self._code(x, coding))
        whole = self.constant(np.array([0, segments * beta, *rest], np.int64))
        y = self.node("Reshape", y, whole)
        if missing:
            ends = (np.array([value], np.int64) for value in (0, length, 1))
            y = self.node("Slice", y, *(self.constant(end) for end in ends))
        return y

    def _code(self, x: str, coding: str) -> str:
        zero = self.constant(np.float32(0))
        if coding == "unipolar":
            return self.node("Cast", self.node("Greater", x, zero), to=TensorProto.FLOAT)
        signs = (self.constant(np.float32(value)) for value in (1, -1))
        return self.node("Where", self.node("GreaterOrEqual", x, zero), *signs)

    def _dense(self, node: Node, what: str) -> str:
        return self.constant(self._weights.dense[f"{node.name}.{what}"])


def _window(layer: la.Window) -> dict[str, Any]:
    return {
        "kernel_shape": [layer.kernel] * 2,
        "strides": [layer.stride] * 2,
        "pads": [layer.padding] * 4,
    }


def _taps_inside(length: int, outputs: int, layer: la.Window) -> NDArray[np.int64]:
    """How many taps of each output's window, along one side, are not padding."""
    taps = np.arange(outputs)[:, None] * layer.stride + np.arange(layer.kernel) - layer.padding
    inside: NDArray[np.int64] = ((taps >= 0) & (taps < length)).sum(1)
    return inside


def _dequantized(node: Node, weights: Weights) -> NDArray[np.float32]:
    """A binary layer's weights as torch has them, learned gains put in."""
    layer = node.layer
    assert isinstance(layer, la.HadamardLinear | la.HadamardConv)  # noqa: S101 - narrows the type
    words, scales = weights.binary[f"{node.name}.weight"]
    if layer.gain:
        scales = scales * weights.dense[f"{node.name}.gain"][:, None]
    window = (layer.kernel, layer.kernel) if isinstance(layer, la.HadamardConv) else ()
    channels = node.input[0]
    columns = channels * prod(window)
    rows = ops.unpack_signed(words, scales, min(layer.beta_w, columns), columns)
    if not window:
        return rows
    return np.ascontiguousarray(rows.reshape(-1, *window, channels).transpose(0, 3, 1, 2))
