"""The presets: every one resolves on its usual data, with the published numbers of parameters."""

from __future__ import annotations

import pytest

from meshd.core.errors import UsageError
from meshd.core.network.graph import Network, resolve
from meshd.core.network.layers import HadamardConv, HadamardLinear, layer_table
from meshd.core.network.presets import BUILDERS, preset_layers
from meshd.core.network.spec import PRESETS, NetworkDescription, parse_network

MNIST, CIFAR, IMAGENET = (1, 28, 28), (3, 32, 32), (3, 224, 224)


def network(preset: str, shape: tuple[int, ...], classes: int = 10, **table) -> Network:
    return resolve(NetworkDescription(parse_network({"preset": preset, **table}), shape, classes))


def weights(found: Network) -> int:
    """Without normalisation and biases."""
    return sum(p.size for p in found.parameters() if len(p.shape) > 1)


def test_every_preset_has_a_builder():
    assert tuple(BUILDERS) == PRESETS


# From the layers' sizes as published, convolutions and matrices without biases.
FIGURES = {
    ("seed", (784,)): 784 * 512 + 512 * 512 + 512 * 10,
    # 32C5-MP2-64C5-MP2-512FC-10
    ("lenet", MNIST): 32 * 25 + 64 * 32 * 25 + 1024 * 512 + 512 * 10,
    # The usual network in network for CIFAR-10 has 966,986 with 1,418 biases.
    ("nin", CIFAR): 966_986 - 1_418,
    # 2x128C3-MP-2x256C3-MP-2x512C3-MP-2x1024FC-10: "14.0 M" without biases
    ("alexnet", CIFAR): 14_022_016,
    # ResNet-18 for CIFAR-10 has 11,173,962: 9,600 of normalisation, 10 biases
    ("resnet18", CIFAR): 11_173_962 - 9_600 - 10,
    # ResNet-18 for ImageNet has 11,689,512: 9,600 of normalisation, 1,000 biases
    ("resnet18", IMAGENET): 11_689_512 - 9_600 - 1_000,
    ("convnet", MNIST): 64 * 9 + 128 * 64 * 9 + 128 * 128 * 9 + 256 * 128 * 9 + 2304 * 10,
}


@pytest.mark.parametrize(("preset", "shape"), FIGURES, ids=str)
def test_numbers_of_weights_are_the_published_ones(preset, shape):
    found = network(preset, shape, 1000 if shape == IMAGENET else 10)
    assert weights(found) == FIGURES[preset, shape]


def test_resnet18_normalises_before_and_behind_each_binary_convolution():
    found = network("resnet18", CIFAR)
    total = sum(p.size for p in found.parameters())
    inputs = 2 * sum([64] * 5 + [128] * 4 + [256] * 4 + [512] * 3)
    assert total == 11_173_962 + inputs + 2 * 512
    assert sum(isinstance(node.layer, HadamardConv) for node in found.walk()) == 16


@pytest.mark.parametrize("preset", PRESETS)
def test_first_and_last_layer_are_dense_and_all_others_binary(preset):
    if preset == "seed":
        return  # its last layer is binary, as the seed's text has it
    matrices = [p for p in network(preset, CIFAR).parameters() if len(p.shape) > 1]
    matrices = [p for p in matrices if "shortcut" not in p.name]
    assert [p.kind for p in matrices] == ["dense", *["binary"] * (len(matrices) - 2), "dense"]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("shape", [MNIST, CIFAR])
def test_the_first_layer_can_be_binary_and_then_takes_floats(preset, shape):
    found = network(preset, shape, first="binary")
    layer = next(
        n.layer for n in found.walk() if isinstance(n.layer, HadamardConv | HadamardLinear)
    )
    assert found.parameters()[0].kind == "binary"
    assert (layer.beta_a, layer.coding, layer.cut_a) == (1, "signed", 0.0)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_can_as_well_be_written_as_layers(preset):
    spec = parse_network({"preset": preset, "beta_w": 8, "cut": 0.5})
    layers = [layer_table(layer) for layer in preset_layers(spec, CIFAR)]
    written = parse_network({"layers": layers, "beta_w": 8, "cut": 0.5})
    assert (
        resolve(NetworkDescription(written, CIFAR, 7)).nodes
        == network(preset, CIFAR, 7, beta_w=8, cut=0.5).nodes
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_half_the_width_has_fewer_parameters(preset):
    """`width` 0 is the preset's own; half of it shrinks every layer but the last."""
    whole = {"seed": 512, "lenet": 512, "nin": 192, "alexnet": 128, "resnet18": 64, "convnet": 64}
    own, half = whole[preset], {"width": whole[preset] // 2, "beta_w": 4, "beta_a": 4}
    assert weights(network(preset, CIFAR, width=own)) == weights(network(preset, CIFAR))
    assert weights(network(preset, CIFAR, **half)) < 0.6 * weights(network(preset, CIFAR))


def test_the_seeds_layers_on_rows_and_on_images():
    assert [n.name for n in network("seed", (784,)).nodes if n.output == (10,)] == ["5", "6"]
    assert [p.name for p in network("seed", MNIST).parameters()] == [
        "1.weight",
        "4.weight",
        "6.weight",
    ]


def test_a_network_of_images_on_rows_is_one_line():
    with pytest.raises(UsageError, match=r"layer 0 takes \(channels, height, width\)"):
        network("lenet", (784,))


def test_aggression_beyond_a_layers_channels():
    """LeNet's second convolution has 32 channels: a pixel is a segment. NIN's 160 are no 64s."""
    lenet = network("lenet", MNIST, beta_w=64, beta_a=64)
    assert [p.beta for p in lenet.parameters() if p.kind == "binary"] == [32, 64]
    with pytest.raises(UsageError, match=r"beta_w 64, which does not divide its 160 input"):
        network("nin", CIFAR, beta_w=64)
