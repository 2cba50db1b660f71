"""Model files: what is saved is what is loaded; what is not whole is refused in one line."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest
import torch

from meshd.core.errors import UsageError
from meshd.core.network.graph import resolve
from meshd.core.network.spec import NetworkDescription, parse_network
from meshd.hbnn.export import load_model, save_model, weight_hash
from meshd.hbnn.linear import HadamardLinear
from meshd.hbnn.networks import binary_layers, build_network, predict
from meshd.hbnn.runtime.model_file import read_model

# 70: two words a row, the second one not full
SPEC = NetworkDescription(parse_network({"width": 70, "beta_w": 16, "beta_a": 16}), (20,), 4)


@pytest.fixture
def net():
    return build_network(resolve(SPEC), seed=4)


@pytest.fixture
def path(tmp_path, net):
    save_model(tmp_path / "model.safetensors", net, SPEC)
    return tmp_path / "model.safetensors"


def test_round_trip(net, path, normal):
    loaded, spec = load_model(path)
    assert spec == SPEC
    assert all(layer.is_packed for layer in binary_layers(loaded).values())
    assert weight_hash(loaded) == weight_hash(net)
    assert torch.equal(loaded[0].weight, net[0].weight)
    for name, layer in binary_layers(net).items():
        packed = layer.packed()
        layer.load_packed(packed.words, packed.scales)  # what the file holds: rounded scales
        assert torch.equal(binary_layers(loaded)[name].weight, layer.weight)
    x = normal(50, 20)
    assert torch.equal(loaded(x), net(x))
    assert torch.equal(predict(loaded, x), predict(net, x))


def test_what_is_loaded_can_be_saved_again(path, tmp_path):
    loaded, spec = load_model(path)
    save_model(tmp_path / "again", loaded, spec)
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_the_hash_sees_every_part(net):
    first = weight_hash(net)
    assert len(first) == 64 and first == weight_hash(net)
    seen = {first}
    with torch.no_grad():
        for layer, change in ((0, 1.001), (3, -1.0), (5, 1.01)):
            net[layer].weight[1, 7] *= change
            if layer == 5:
                net[layer].weight[1] *= 1.01
            seen.add(weight_hash(net))
    seen.add(weight_hash(HadamardLinear(6, 4, 2)))
    assert len(seen) == 5


def test_the_hash_names_what_it_covers():
    """Equal bytes in another shape are another network."""
    hashes = set()
    for inputs, outputs, beta in ((8, 2, 8), (8, 2, 9), (16, 1, 8)):
        layer = HadamardLinear(inputs, outputs, beta)
        with torch.no_grad():
            layer.weight.fill_(0.5)
        hashes.add(weight_hash(layer))
    assert len(hashes) == 3


def test_writing_leaves_no_other_file_and_replaces_whole(path, net):
    before = path.read_bytes()
    with torch.no_grad():
        net[0].weight += 1
    save_model(str(path), net, SPEC)
    assert path.read_bytes() != before
    assert os.listdir(path.parent) == [path.name]


def test_a_failed_write_leaves_the_old_file(path, net, monkeypatch):
    before = path.read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_model(path, net, SPEC)
    assert os.listdir(path.parent) == [path.name] and path.read_bytes() == before


def test_saving_refuses_a_spec_of_another_network(tmp_path, net):
    for table in ({"width": 71}, {"width": 70, "beta_w": 8}, {"preset": "lenet"}):
        with pytest.raises((ValueError, UsageError)):
            save_model(tmp_path / "m", net, dataclasses.replace(SPEC, spec=parse_network(table)))
    assert os.listdir(tmp_path) == []


def test_running_statistics_are_in_the_file_and_in_the_hash(tmp_path, normal):
    layers = [{"layer": "conv", "out": 8}, {"layer": "batchnorm"}, {"layer": "ramp"}]
    layers += [{"layer": "hadamard_conv", "beta_w": 8, "beta_a": 8}, {"layer": "globalavgpool"}]
    description = NetworkDescription(parse_network({"layers": layers}), (1, 9, 9), 4)
    net = build_network(resolve(description))
    fresh = weight_hash(net)
    net(normal(7, 1, 9, 9))
    assert weight_hash(net) != fresh
    save_model(tmp_path / "m", net, description)
    loaded, again = load_model(tmp_path / "m")
    assert again == description
    assert weight_hash(loaded) == weight_hash(net)
    assert torch.equal(loaded[1].running_var, net[1].running_var)
    for layer in binary_layers(net).values():
        packed = layer.packed()
        layer.load_packed(packed.words, packed.scales)
    x = normal(3, 1, 9, 9)
    assert torch.equal(loaded.eval()(x), net.eval()(x))
    assert torch.equal(predict(loaded, x), predict(net.train(), x))


@pytest.mark.parametrize("layer", [0, 3])
def test_saving_refuses_diverged_weights(tmp_path, net, layer):
    with torch.no_grad():
        net[layer].weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match="diverged"):
        save_model(tmp_path / "m", net, SPEC)
    assert os.listdir(tmp_path) == []


def test_what_the_runtime_needs_is_in_the_file(tmp_path, net):
    save_model(tmp_path / "m", net, SPEC, scale=1 / 255, class_names=["a", "b", "c", "d"])
    header, weights = read_model(tmp_path / "m")
    assert header.scale == np.float32(1 / 255) and header.class_names == ("a", "b", "c", "d")
    assert header.weight_hash == weight_hash(net)
    assert weights.dense.keys() == {"0.weight"}


def test_dense_float16_is_another_network_of_half_the_bytes(tmp_path, net):
    save_model(tmp_path / "m", net, SPEC, dense="float16")
    loaded, _ = load_model(tmp_path / "m")
    assert torch.equal(loaded[0].weight, net[0].weight.half().float())
    assert weight_hash(loaded) != weight_hash(net)
    with torch.no_grad():
        net[0].weight[0, 0] = 1e6
    with pytest.raises(ValueError, match="store float32"):
        save_model(tmp_path / "m", net, SPEC, dense="float16")


def test_a_file_that_is_not_whole_is_one_line(path):
    """All the ways in which it can be wrong: runtime/test_model_file.py."""
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError) as caught:
        load_model(path)
    said = str(caught.value)
    assert said.startswith(f"{path} is not a usable model: ") and "\n" not in said


def test_a_missing_file_is_the_file_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_model(tmp_path / "none")
