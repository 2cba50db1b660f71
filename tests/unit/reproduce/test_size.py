"""Sizes against what a model file really takes, and against published numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from meshd.core.network.graph import resolve
from meshd.core.network.spec import NetworkDescription, NetworkSpec
from meshd.hbnn.export import save_model
from meshd.hbnn.networks import build_network
from meshd.reproduce.size import FILES, FORMS, layers_of

HEADER_BYTES = 8


@pytest.mark.parametrize(("form", "dense"), FILES.items())
def test_a_file_has_just_these_bytes(form: str, dense: str, tmp_path: Path) -> None:
    """safetensors: 8 bytes of length, a JSON header, then the tensors."""
    spec = NetworkSpec(preset="lenet", width=32, beta_w=4, beta_a=4)
    network = resolve(NetworkDescription(spec, (1, 28, 28), 10))
    path = tmp_path / "model.safetensors"
    save_model(path, build_network(network), network.description, dense=dense)
    content = path.read_bytes()
    header = int.from_bytes(content[:HEADER_BYTES], "little")
    json.loads(content[HEADER_BYTES : HEADER_BYTES + header])
    stored = len(content) - HEADER_BYTES - header
    assert stored == sum(layer[form] for layer in layers_of(network))


def test_binary_layers_are_smaller_by_what_the_formula_says(quick) -> None:
    """Less only by rows that end within a byte or a segment."""
    for name, sizes in quick("size").figures["networks"].items():
        ratio = sizes["binary"]["float32"] / sizes["binary"]["ours"]
        formula = 32 / (1 + 16 / sizes["beta"])
        assert 0.97 * formula < ratio <= formula, name


def test_whole_models(quick) -> None:
    networks = quick("size").figures["networks"]
    ratios = {name: sizes["float32"] / sizes["ours"] for name, sizes in networks.items()}
    assert ratios["seed's MLP, first layer binary"] > 20
    assert ratios["ResNet-18, 32 pixels"] > 15
    assert ratios["AlexNet-inspired"] > 20


def test_parts_add_up(quick) -> None:
    for sizes in quick("size").figures["networks"].values():
        for form in FORMS:
            assert sum(layer[form] for layer in sizes["layers"]) == sizes[form]
        assert sizes["float32"] == 2 * sizes["float16"]
        assert sizes["ours16"] <= sizes["ours"] < sizes["float16"]


def test_resnet_18_has_the_published_number_of_parameters(quick) -> None:
    """11,689,512 (torchvision), but for shortcuts of its own and the statistics: a hundredth."""
    sizes = quick("size").figures["networks"]["ResNet-18, 224 pixels"]
    assert sizes["float32"] / 4 == pytest.approx(11_689_512, rel=0.01)
