"""Sizes against what a model file really takes, and against published numbers."""

from __future__ import annotations

import pytest

from meshd.core.network.graph import Parameter
from meshd.hbnn.linear import HadamardLinear
from meshd.reproduce.size import model_file_bytes


@pytest.mark.parametrize(("rows", "columns", "beta"), [(5, 130, 64), (3, 64, 16), (1, 7, 16)])
def test_a_binary_parameter_takes_its_bits_and_float16_scales(
    rows: int, columns: int, beta: int
) -> None:
    packed = HadamardLinear(columns, rows, beta).packed()
    parameter = Parameter("3.weight", (rows, columns), rows, columns, "binary", beta)
    assert model_file_bytes(parameter) == rows * -(-columns // 8) + packed.scales.nbytes // 2


def test_binary_layers_are_smaller_by_what_the_formula_says(quick) -> None:
    """Less only by rows that end within a byte or a segment."""
    for name, sizes in quick("size").figures["networks"].items():
        ratio = sizes["float32_binary"] / sizes["ours_binary"]
        formula = 32 / (1 + 16 / sizes["beta"])
        assert 0.95 * formula < ratio <= formula, name


def test_whole_models(quick) -> None:
    networks = quick("size").figures["networks"]
    ratios = {name: sizes["float32"] / sizes["ours"] for name, sizes in networks.items()}
    assert ratios["seed's MLP, first layer binary"] > 20
    assert ratios["ResNet-18, 32 pixels"] > 15
    assert ratios["AlexNet-inspired"] > 20


def test_parts_add_up(quick) -> None:
    for sizes in quick("size").figures["networks"].values():
        for form in ("float32", "float16", "ours"):
            assert sum(layer[form] for layer in sizes["layers"]) == sizes[form]
        assert sizes["ours_binary"] + sizes["ours_dense"] == sizes["ours"]
        assert sizes["float32"] == 2 * sizes["float16"]


def test_resnet_18_has_the_published_number_of_parameters(quick) -> None:
    """11,689,512 (torchvision) less what real shortcuts save and add: within a hundredth."""
    sizes = quick("size").figures["networks"]["ResNet-18, 224 pixels"]
    assert sizes["float32"] / 4 == pytest.approx(11_689_512, rel=0.01)
