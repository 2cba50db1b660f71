"""Declarative networks (`meshd.core.network`) in torch, and what training asks of a network.

    net = network_from_text('network = { preset = "lenet", beta_w = 16 }', (1, 28, 28), 10)

A network is a `torch.nn.Sequential` whose parameters and buffers have the names, shapes and order
of `Network.parameters()` and `.statistics()`. One that ends in a Sigmoid is trained on the value
before it (`logits`): softmax cross-entropy there is far better than squared error or binary
cross-entropy on the Sigmoid, and, the Sigmoid being monotone, with the same prediction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from meshd.core.jobspec import parse_network_toml
from meshd.core.network import layers as la
from meshd.core.network.graph import Network, Node, Parameter, resolve
from meshd.core.network.spec import NetworkDescription
from meshd.hbnn.activations import Binarize, Ramp
from meshd.hbnn.binary_layer import BinaryLayer
from meshd.hbnn.conv import HadamardConv2d
from meshd.hbnn.evaluator import Sigmoid
from meshd.hbnn.gradient import check_backward
from meshd.hbnn.initial import normal_latents
from meshd.hbnn.linear import HadamardLinear
from meshd.hbnn.modules import BatchNorm, Dropout, GlobalAvgPool, Residual
from meshd.hbnn.rows import filter_rows, filters_of


def build_network(network: Network, seed: int = 0, backward: str = "exact") -> nn.Sequential:
    """Return the network with initial weights that `seed` alone decides, alike on every machine.

    Weights are normal deviates (`meshd.hbnn.initial`), drawn in the order of the parameters: of
    variance 1 / columns in binary layers, 2 / columns in dense ones (arXiv 1502.01852), with
    `columns` the inputs of one output. Biases are 0, gains and normalisation's weights 1.
    `backward` is the precision of binary layers' gradients (`meshd.hbnn.gradient`).
    """
    draw = _Draw(torch.Generator().manual_seed(seed), check_backward(backward))
    return _chain(network.nodes, draw)


def network_from_text(
    text: str,
    input_shape: tuple[int, ...],
    classes: int,
    seed: int = 0,
    backward: str = "exact",
) -> nn.Sequential:
    """Return the network of a job file's text, or of its [network] table alone.

    `input_shape` is a sample's: (features,) or (channels, height, width). The rest as for
    `build_network`. UsageError, one line, where the text is wrong or does not fit the shape.
    """
    description = NetworkDescription(parse_network_toml(text), input_shape, classes)
    return build_network(resolve(description), seed, backward)


@dataclass(frozen=True)
class _Draw:
    """Where initial weights come from, and what all binary layers share."""

    generator: torch.Generator
    backward: str

    def dense(self, outputs: int, columns: int) -> Tensor:
        """Rows (outputs, columns) of a dense layer."""
        return normal_latents(outputs, columns, 2 / columns, self.generator)

    def binary(self, layer: la.Binary) -> dict[str, Any]:
        """What a binary layer's constructor takes besides its sizes."""
        return {
            "beta_w": layer.beta_w,
            "beta_a": layer.beta_a,
            "coding": layer.coding,
            "cut": layer.cut or None,
            "cut_a": layer.cut_a or None,
            "estimator": layer.estimator,
            "gain": layer.gain,
            "bias": layer.bias,
            "backward": self.backward,
            "generator": self.generator,
        }


def _chain(nodes: tuple[Node, ...], draw: _Draw) -> nn.Sequential:
    return nn.Sequential(*(_module(node, draw) for node in nodes))


def _module(node: Node, draw: _Draw) -> nn.Module:
    layer = node.layer
    if isinstance(layer, la.Residual):
        return Residual(_chain(node.body, draw), _chain(node.shortcut, draw))
    return MODULES[type(layer)](layer, node.input[0], draw)


def _linear(layer: la.Linear, features: int, draw: _Draw) -> nn.Module:
    module: Any = nn.utils.skip_init(  # type: ignore[no-untyped-call]
        nn.Linear, features, layer.out, bias=layer.bias
    )
    module.weight = nn.Parameter(draw.dense(layer.out, features))
    return _without_bias(module)


def _conv(layer: la.Conv, channels: int, draw: _Draw) -> nn.Module:
    size = (channels, layer.out, layer.kernel, layer.stride, layer.padding)
    module: Any = nn.utils.skip_init(  # type: ignore[no-untyped-call]
        nn.Conv2d, *size, bias=layer.bias
    )
    rows = draw.dense(layer.out, channels * layer.kernel**2)
    module.weight = nn.Parameter(filters_of(rows, module.weight.shape))
    return _without_bias(module)


def _without_bias(module: Any) -> nn.Module:
    """The module with its bias, where it has one, at 0."""
    if module.bias is not None:
        nn.init.zeros_(module.bias)
    found: nn.Module = module
    return found


def _hadamard_linear(layer: la.HadamardLinear, features: int, draw: _Draw) -> nn.Module:
    return HadamardLinear(features, layer.out, **draw.binary(layer))


def _hadamard_conv(layer: la.HadamardConv, channels: int, draw: _Draw) -> nn.Module:
    return HadamardConv2d(
        channels,
        layer.out,
        layer.kernel,
        stride=layer.stride,
        padding=layer.padding,
        **draw.binary(layer),
    )


def _binarize(layer: la.Binarize, _: int, draw: _Draw) -> nn.Module:
    return Binarize(layer.beta, layer.coding, layer.cut_a or None, channels_first=True)


MODULES: dict[type, Callable[[Any, int, _Draw], nn.Module]] = {
    la.Linear: _linear,
    la.HadamardLinear: _hadamard_linear,
    la.Conv: _conv,
    la.HadamardConv: _hadamard_conv,
    la.BatchNorm: lambda layer, n, _: BatchNorm(n, layer.momentum, layer.eps),
    la.Ramp: lambda *_: Ramp(),
    la.HardTanh: lambda *_: nn.Hardtanh(),
    la.Sigmoid: lambda *_: Sigmoid(),
    la.Binarize: _binarize,
    la.MaxPool: lambda pool, *_: nn.MaxPool2d(pool.kernel, pool.stride, pool.padding),
    la.AvgPool: lambda pool, *_: nn.AvgPool2d(pool.kernel, pool.stride, pool.padding),
    la.GlobalAvgPool: lambda *_: GlobalAvgPool(),
    la.Flatten: lambda *_: nn.Flatten(),
    la.Dropout: lambda layer, *_: Dropout(layer.rate),
}


def parameter_table(net: nn.Module) -> list[Parameter]:
    """Return every parameter of `net` in the order of its layers: the order that slices are cut in.

    Of a network of `build_network` that is `Network.parameters()`; other modules have a table too.
    ValueError for a parameter that has not 1, 2 or 4 dimensions.
    """
    table = []
    for prefix, module in net.named_modules():
        for name, parameter in module.named_parameters(prefix, recurse=False):
            if parameter.dim() not in (1, 2, 4):
                raise ValueError(
                    f"parameter {name} has {parameter.dim()} dimensions, not 1, 2 or 4"
                )
            rows, columns = as_rows(parameter).shape
            size = (name, tuple(parameter.shape), rows, columns)
            if isinstance(module, BinaryLayer) and parameter is module.weight:
                table.append(Parameter(*size, "binary", module.beta_w))
            else:
                table.append(Parameter(*size, "dense", 0))
    return table


def as_rows(tensor: Tensor) -> Tensor:
    """Return a parameter, or what has its shape, as the rows x columns of its `Parameter`.

    Filters (O, C, kh, kw) are rows of kh * kw * C; a view where they lie channels last, as those of
    `build_network` do. A vector is one row.
    """
    if tensor.dim() == 4:
        return filter_rows(tensor)
    return tensor if tensor.dim() == 2 else tensor[None]


def binary_layers(net: nn.Module) -> dict[str, BinaryLayer]:
    """Return the layers of the table's binary entries, by parameter name, in the table's order."""
    return {
        f"{prefix}.weight" if prefix else "weight": module
        for prefix, module in net.named_modules()
        if isinstance(module, BinaryLayer)
    }


def seed_dropout(net: nn.Module, seed: int) -> None:
    """Give each Dropout of `net` numbers of its own that follow from `seed`, 0 to 2^64 - 1."""
    drops = [module for module in net.modules() if isinstance(module, Dropout)]
    for index, module in enumerate(drops):
        module.seed((seed + index) % (1 << 64))


def logits(net: nn.Sequential, x: Tensor) -> Tensor:
    """Return the value before a final Sigmoid, or the output without one: (B, classes)."""
    for index, layer in enumerate(net):
        if index < len(net) - 1 or not isinstance(layer, Sigmoid | nn.Sigmoid):
            x = layer(x)
    return x


@torch.no_grad()
def predict(net: nn.Sequential, x: Tensor) -> Tensor:
    """Return the class of each sample of `x` (B, ...): (B,) int64, the first of equal ones.

    In evaluation mode (running statistics, no dropout), whatever mode `net` is in; it keeps that.
    """
    was_training = net.training
    net.eval()
    try:
        return logits(net, x).argmax(-1)
    finally:
        net.train(was_training)
