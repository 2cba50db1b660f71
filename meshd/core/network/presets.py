"""Whole networks by name, each a list of layers that could as well stand in a job file.

The convolutional ones follow HadaNets (arXiv 1905.10759): first and last layer dense, and in every
binary block batch normalisation, binarization, convolution, activation, pooling, in this order
(a binary layer binarizes its own input). `width` scales them, 0 is the published size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from meshd.core.network.layers import (
    UNSET,
    AvgPool,
    BatchNorm,
    Binarize,
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
)
from meshd.core.network.spec import LAYERS, NetworkSpec, Shape

Layers = list[Layer]


def preset_layers(spec: NetworkSpec, shape: Shape) -> tuple[Layer, ...]:
    """The layers of a spec for inputs of `shape`; those it lists, if it lists them."""
    if spec.preset == LAYERS:
        return spec.layers
    return tuple(BUILDERS[spec.preset](spec, shape))


def _first_linear(spec: NetworkSpec, out: int) -> Layer:
    return HadamardLinear(out=out, beta_a=1) if spec.first == "binary" else Linear(out=out)


def _first_conv(
    spec: NetworkSpec, shape: Shape, out: int, kernel: int, padding: int, stride: int = 1
) -> Layer:
    """Binary: one scale a filter where segments of beta_w do not fit into the image's channels."""
    window = Conv(out=out, kernel=kernel, padding=padding, stride=stride)
    if spec.first == "dense":
        return window
    beta_w = kernel * kernel * shape[0] if shape[0] % spec.beta_w else UNSET
    return HadamardConv(**dataclasses.asdict(window), beta_w=beta_w, beta_a=1)


def _seed(spec: NetworkSpec, shape: Shape) -> Layers:
    """The seed's seven layers, inputs -> width -> width -> classes; its activations binarize twice,
    in a BinarizeLayer and again in the BinLayer behind it."""
    width = spec.width or 512
    flat: Layers = [Flatten()] if len(shape) == 3 else []
    return [
        *flat,
        _first_linear(spec, width),
        Ramp(),
        Binarize(),
        HadamardLinear(out=width),
        Ramp(),
        HadamardLinear(),
        Sigmoid(),
    ]


def _block(out: int, kernel: int = 3, padding: int = 1) -> Layers:
    return [BatchNorm(), HadamardConv(out=out, kernel=kernel, padding=padding), Ramp()]


def _lenet(spec: NetworkSpec, shape: Shape) -> Layers:
    """32C5-MP2-64C5-MP2-512FC-10; width: units of the fully connected layer."""
    width = spec.width or 512
    return [
        _first_conv(spec, shape, max(1, width // 16), 5, 0),
        BatchNorm(),
        Ramp(),
        MaxPool(),
        *_block(max(1, width // 8), 5, 0),
        MaxPool(),
        Flatten(),
        BatchNorm(),
        HadamardLinear(out=width),
        Ramp(),
        Linear(bias=True),
    ]


def _nin(spec: NetworkSpec, shape: Shape) -> Layers:
    """Network in network (arXiv 1312.4400) as usual for binary CIFAR-10 networks; width: 192."""
    width = spec.width or 192
    narrow, half = max(1, width * 5 // 6), max(1, width // 2)
    return [
        _first_conv(spec, shape, width, 5, 2),
        BatchNorm(),
        Ramp(),
        *_block(narrow, 1, 0),
        *_block(half, 1, 0),
        MaxPool(kernel=3, stride=2, padding=1),
        Dropout(),
        *_block(width, 5, 2),
        *_block(width, 1, 0),
        *_block(width, 1, 0),
        AvgPool(kernel=3, stride=2, padding=1),
        Dropout(),
        *_block(width, 3, 1),
        *_block(width, 1, 0),
        BatchNorm(),
        Conv(kernel=1),
        GlobalAvgPool(),
    ]


def _alexnet(spec: NetworkSpec, shape: Shape) -> Layers:
    """2x128C3-MP-2x256C3-MP-2x512C3-MP-2x1024FC-10 of the HadaNet paper; width: 128."""
    width = spec.width or 128
    layers: Layers = [
        _first_conv(spec, shape, width, 3, 1),
        BatchNorm(),
        Ramp(),
        *_block(width),
        MaxPool(),
    ]
    for times in (2, 4):
        layers += [*_block(times * width), *_block(times * width), MaxPool()]
    layers.append(Flatten())
    for _units in range(2):
        layers += [BatchNorm(), HadamardLinear(out=8 * width), Ramp()]
    return [*layers, BatchNorm(), Linear(bias=True)]


def _convnet(spec: NetworkSpec, shape: Shape) -> Layers:
    """64C3-MP-128C3-128C3-MP-256C3-MP-10 for images of 28 to 32 pixels; width: 64."""
    width = spec.width or 64
    return [
        _first_conv(spec, shape, width, 3, 1),
        BatchNorm(),
        Ramp(),
        MaxPool(),
        *_block(2 * width),
        *_block(2 * width),
        MaxPool(),
        *_block(4 * width),
        MaxPool(),
        Flatten(),
        BatchNorm(),
        Linear(bias=True),
    ]


def _resnet18(spec: NetworkSpec, shape: Shape) -> Layers:
    """ResNet-18 (arXiv 1512.03385) with binary 3x3 convolutions, each with a shortcut of its own as
    in Bi-Real Net (arXiv 1808.00278); 1x1 shortcuts, first and last layer dense; width: 64.

    Images below 64 pixels get the 3x3 stem without pooling that is usual for CIFAR-10.
    """
    width = spec.width or 64
    large = len(shape) == 3 and min(shape[1:]) >= 64
    stem = (
        _first_conv(spec, shape, width, 7, 3, 2) if large else _first_conv(spec, shape, width, 3, 1)
    )
    layers: Layers = [stem, BatchNorm(), Ramp()]
    if large:
        layers.append(MaxPool(kernel=3, stride=2, padding=1))
    for stage in range(4):
        for conv in range(4):
            layers.append(_real_shortcut(width << stage, widens=stage > 0 and conv == 0))
    return [*layers, BatchNorm(), Ramp(), GlobalAvgPool(), Linear(bias=True)]


def _real_shortcut(out: int, widens: bool) -> Residual:
    conv = HadamardConv(out=out, kernel=3, padding=1, stride=2 if widens else 1)
    shortcut: tuple[Layer, ...] = ()
    if widens:
        # Sides halve, rounded up, as behind a 3x3 window with padding 1.
        halved = AvgPool(kernel=3, stride=2, padding=1)
        shortcut = (halved, Conv(out=out, kernel=1), BatchNorm())
    return Residual((BatchNorm(), conv, BatchNorm()), shortcut)


BUILDERS: dict[str, Callable[[NetworkSpec, Shape], Layers]] = {
    "seed": _seed,
    "lenet": _lenet,
    "nin": _nin,
    "alexnet": _alexnet,
    "resnet18": _resnet18,
    "convnet": _convnet,
}
