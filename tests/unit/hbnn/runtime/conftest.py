"""A dumb second implementation of every layer in torch, and random weights for any network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from meshd.bits import ops
from meshd.core.network import layers as la
from meshd.core.network.graph import Network, Node, resolve
from meshd.core.network.spec import NetworkDescription, NetworkSpec, parse_network
from meshd.hbnn.runtime.model_file import Header, Weights, model_bytes


def described(spec: NetworkSpec | list[dict[str, object]], shape, classes=10) -> Network:
    """The network of a spec, or of a list of layer tables."""
    if isinstance(spec, list):
        spec = parse_network({"layers": spec})
    return resolve(NetworkDescription(spec, shape, classes))


def random_weights(network: Network, seed: int) -> Weights:
    """Values of the size that training leaves; scales are float16 values, as a file has them."""
    rng = np.random.default_rng(seed)
    binary, dense = {}, {}
    for p in network.parameters():
        v = rng.standard_normal((p.rows, p.columns), np.float32) / np.float32(p.columns**0.5)
        if p.kind == "binary":
            words, scales = ops.pack_signed(v, p.beta)
            binary[p.name] = words, scales.astype(np.float16).astype(np.float32)
        elif p.rows > 1:
            dense[p.name] = v.reshape(p.shape)
        else:
            ones = p.name.endswith(("weight", "gain"))
            dense[p.name] = (v * np.float32(0.3 * p.columns**0.5) + ones).reshape(p.shape)
            dense[p.name] = dense[p.name].astype(np.float32)
    for name, length in network.statistics():
        dense[name] = rng.random(length, np.float32) + np.float32(name.endswith("var"))
    return Weights(binary, dense)


def slow_h(x: Tensor, beta: int, coding: str) -> Tensor:
    """H_beta along the last dimension, a segment at a time."""
    parts = []
    for begin in range(0, x.shape[-1], beta):
        s = x[..., begin : begin + beta]
        code = (s > 0).float() if coding == "unipolar" else torch.where(s >= 0, 1.0, -1.0)
        parts.append(s.abs().mean(-1, keepdim=True) * code)
    return torch.cat(parts, -1)


class Second:
    """The network on dequantized weights, images as (B, C, H, W)."""

    def __init__(self, network: Network, weights: Weights) -> None:
        self.network, self.weights = network, weights

    def logits(self, x: Tensor) -> np.ndarray:
        nodes = self.network.nodes
        if isinstance(nodes[-1].layer, la.Sigmoid):
            nodes = nodes[:-1]
        with torch.no_grad():
            return self.chain(nodes, x).numpy()

    def chain(self, nodes, x: Tensor) -> Tensor:
        for node in nodes:
            x = self.layer(node, x)
        return x

    def dense(self, node: Node, what: str) -> Tensor:
        return torch.from_numpy(self.weights.dense[f"{node.name}.{what}"])

    def rows(self, node: Node, columns: int) -> Tensor:
        layer = node.layer
        words, scales = self.weights.binary[f"{node.name}.weight"]
        rows = ops.unpack_signed(words, scales, min(layer.beta_w, columns), columns)
        gain = self.dense(node, "gain")[:, None] if layer.gain else 1
        return torch.from_numpy(rows) * gain

    def layer(self, node: Node, x: Tensor) -> Tensor:
        layer = node.layer
        bias = self.dense(node, "bias") if getattr(layer, "bias", False) else None
        if isinstance(layer, la.Binary):
            return self.binary(node, x, bias)
        if isinstance(layer, la.Linear):
            return F.linear(x, self.dense(node, "weight"), bias)
        if isinstance(layer, la.Conv):
            return F.conv2d(x, self.dense(node, "weight"), bias, layer.stride, layer.padding)
        if isinstance(layer, la.BatchNorm):
            mean, var, weight, shift = (
                self.dense(node, what) for what in ("running_mean", "running_var", "weight", "bias")
            )
            return F.batch_norm(x, mean, var, weight, shift, eps=layer.eps)
        if isinstance(layer, la.Binarize):
            return slow_h(x.movedim(1, -1), layer.beta, layer.coding).movedim(-1, 1)
        if isinstance(layer, la.Residual):
            return self.chain(node.body, x) + self.chain(node.shortcut, x)
        if isinstance(layer, la.MaxPool):
            return F.max_pool2d(x, layer.kernel, layer.stride, layer.padding)
        if isinstance(layer, la.AvgPool):
            return F.avg_pool2d(x, layer.kernel, layer.stride, layer.padding)
        plain = {
            la.Ramp: torch.relu,
            la.HardTanh: F.hardtanh,
            la.Sigmoid: torch.sigmoid,
            la.GlobalAvgPool: lambda v: v.mean((2, 3)),
            la.Flatten: lambda v: v.flatten(1),
            la.Dropout: lambda v: v,
        }
        return plain[type(layer)](x)

    def binary(self, node: Node, x: Tensor, bias: Tensor | None) -> Tensor:
        layer = node.layer
        if isinstance(layer, la.HadamardLinear):
            seen = slow_h(x, layer.beta_a, layer.coding)
            return F.linear(seen, self.rows(node, x.shape[1]), bias)
        channels, kernel = x.shape[1], layer.kernel
        filters = self.rows(node, channels * kernel**2).reshape(-1, kernel, kernel, channels)
        filters = filters.permute(0, 3, 1, 2)
        if layer.beta_a < channels * kernel**2:
            seen = slow_h(x.movedim(1, -1), layer.beta_a, layer.coding).movedim(-1, 1)
            return F.conv2d(seen, filters, bias, layer.stride, layer.padding)
        # One scale for a window: the mean of |x| over its taps inside the image.
        ones = torch.ones(1, channels, kernel, kernel)
        settings = {"stride": layer.stride, "padding": layer.padding}
        inside = F.conv2d(torch.ones_like(x[:1]), ones, **settings)
        scale = F.conv2d(x.abs(), ones, **settings) / inside.clamp(min=1)
        unipolar = layer.coding == "unipolar"
        code = (x > 0).float() if unipolar else torch.where(x >= 0, 1.0, -1.0)
        y = F.conv2d(code, filters, None, **settings) * scale
        return y if bias is None else y + bias[:, None, None]


@pytest.fixture(scope="session")
def network_of() -> Callable[..., Network]:
    return described


@pytest.fixture(scope="session")
def weights_of() -> Callable[..., Weights]:
    return random_weights


@pytest.fixture(scope="session")
def second() -> type[Second]:
    return Second


@pytest.fixture
def model_path(tmp_path):
    """A file of `network` with random weights."""

    def write(network: Network, seed: int = 1, **header: object):
        path = tmp_path / "model.safetensors"
        path.write_bytes(model_bytes(Header(network, **header), random_weights(network, seed)))
        return path

    return write
