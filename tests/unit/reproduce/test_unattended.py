"""The long trainings: what their networks are, and that a run writes what it found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from meshd.hbnn.binary_layer import BinaryLayer
from meshd.hbnn.networks import binary_layers, network_from_text
from meshd.reproduce import convnet, lenet
from meshd.reproduce.fit import Recipe
from meshd.reproduce.unattended import Training, main

TRAININGS = [*lenet.TRAININGS, *convnet.TRAININGS]


@pytest.mark.parametrize("training", TRAININGS, ids=lambda t: t.name)
def test_first_and_last_layer_are_dense_and_the_rest_is_binary(training: Training) -> None:
    net = network_from_text(training.network, (1, 28, 28), 10)
    kinds = (nn.Linear, nn.Conv2d, BinaryLayer)
    products = [module for module in net.modules() if isinstance(module, kinds)]
    assert not isinstance(products[0], BinaryLayer)
    assert not isinstance(products[-1], BinaryLayer)
    assert len(products) > 3
    assert all(isinstance(module, BinaryLayer) for module in products[1:-1])
    assert net(torch.rand(2, 1, 28, 28)).shape == (2, 10)


def test_lenets_have_the_papers_segments() -> None:
    found = {}
    for training in lenet.TRAININGS:
        layers = binary_layers(network_from_text(training.network, (1, 28, 28), 10)).values()
        found[training.name] = {(layer.beta_w, layer.beta_a) for layer in layers}
        assert all(layer.rule.cut is None for layer in layers)
        assert all(layer.rule.coding == "signed" for layer in layers)
    assert found == {"HadaNet(4;4)": {(4, 4)}, "HadaNet(16;2)": {(16, 2)}, "HBWN(4;1)": {(4, 1)}}


def test_the_convnets_segments_are_64_long() -> None:
    net = network_from_text(convnet.NETWORK, (1, 28, 28), 10)
    assert {(layer.beta_w, layer.beta_a) for layer in binary_layers(net).values()} == {(64, 64)}


SMALL = Training(
    "small",
    """
    [network]
    beta_w = 4
    beta_a = 4
    layers = [
        { layer = "conv", out = 4, kernel = 3 },
        { layer = "batchnorm" },
        { layer = "hadamard_conv", out = 8, kernel = 3 },
        { layer = "ramp" },
        { layer = "dropout", rate = 0.1 },
        { layer = "flatten" },
        { layer = "linear", bias = true },
    ]
    """,
    Recipe(learning_rate=0.01, epochs=2, batch=20),
    90.0,
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A bright half says the class: 200 + 50 images of 8 x 8 pixels."""
    generator = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 200), ("test", 50)):
        y = np.arange(count) % 2
        x = generator.integers(0, 120, (count, 8, 8))
        x[y == 0, :4] += 120
        x[y == 1, 4:] += 120
        arrays |= {f"x_{part}": x.astype(np.uint8), f"y_{part}": y.astype(np.uint8)}
    np.savez(tmp_path / "halves.npz", **arrays)
    return tmp_path / "halves.npz"


def run(data: Path, *more: str) -> list[dict[str, object]]:
    said: list[object] = []
    trainings = [SMALL, replace(SMALL, name="other")]
    arguments = ["--data", str(data), "--device", "cpu", "--threads", "1", *more]
    results = main(trainings, "unused", "A test.", arguments, said.append)
    assert len(said) == sum(int(str(result["epochs"])) for result in results)
    return results


def test_a_run_learns_and_writes_what_it_found(data: Path) -> None:
    out = data.parent / "out.json"
    results = run(data, "--json", str(out), "--seeds", "0", "1", "--epochs", "3")
    assert json.loads(out.read_text()) == {"results": results}
    assert [(r["name"], r["seed"]) for r in results] == [
        ("small", 0),
        ("other", 0),
        ("small", 1),
        ("other", 1),
    ]
    for result in results:
        accuracy = result["accuracy"]
        assert isinstance(accuracy, list) and len(accuracy) == 3
        assert (result["best"], result["last"]) == (max(accuracy), accuracy[-1])
        assert accuracy[-1] > 80
    assert results[0]["accuracy"] == results[1]["accuracy"]
    assert not list(out.parent.glob("*.part"))


def test_one_training_can_be_chosen(data: Path) -> None:
    assert [result["name"] for result in run(data, "--only", "other")] == ["other"]
