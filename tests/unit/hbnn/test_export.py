"""Model files: what is saved is what is loaded; what is not whole is refused in one line."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save

from meshd.core.errors import UsageError
from meshd.core.network.graph import resolve
from meshd.core.network.spec import NetworkDescription, describe, parse_network
from meshd.hbnn.export import load_model, save_model, weight_hash
from meshd.hbnn.linear import HadamardLinear
from meshd.hbnn.networks import binary_layers, build_network, predict

# 70: two words a row, the second one not full
SPEC = NetworkDescription(parse_network({"width": 70, "beta_w": 16, "beta_a": 16}), (20,), 4)


@pytest.fixture
def net():
    return build_network(resolve(SPEC), seed=4)


@pytest.fixture
def path(tmp_path, net):
    save_model(tmp_path / "model.safetensors", net, SPEC)
    return tmp_path / "model.safetensors"


def parts(path):
    with safe_open(path, framework="numpy") as file:
        return dict(file.metadata()), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


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


def test_the_file_holds_bits(net, path):
    metadata, tensors = parts(path)
    assert {name: (t.dtype.name, t.shape) for name, t in tensors.items()} == {
        "0.weight": ("float32", (70, 20)),
        "3.weight.words": ("uint64", (70, 2)),
        "3.weight.scales": ("float16", (70, 5)),
        "5.weight.words": ("uint64", (4, 2)),
        "5.weight.scales": ("float16", (4, 5)),
    }
    assert json.loads(metadata["meshd"]) == {
        "format_version": 2,
        **describe(SPEC),
        "weight_hash": weight_hash(net),
    }
    row = net[3].weight[0]
    bits = [int(tensors["3.weight.words"][0, i // 64]) >> (i % 64) & 1 for i in range(70)]
    assert bits == (row >= 0).int().tolist()


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


def one_line_refusal(path: Path) -> str:
    with pytest.raises(ValueError) as caught:
        load_model(path)
    said = str(caught.value)
    assert said.startswith(f"{path} is not a usable model: ") and "\n" not in said
    return said


@pytest.mark.parametrize("kept", [0, 5, 8, 100, -1])
def test_a_truncated_file_is_refused(path, kept):
    path.write_bytes(path.read_bytes()[:kept])
    one_line_refusal(path)


def test_text_and_appended_bytes_are_refused(path):
    whole = path.read_bytes()
    for content in (whole + b"x", b"not a model at all", b"\xff" * 64):
        path.write_bytes(content)
        one_line_refusal(path)


def test_every_flipped_byte_of_the_weights_is_noticed(path):
    whole = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(whole[:8], "little")
    for position in range(start, len(whole), 97):
        bent = bytearray(whole)
        bent[position] ^= 0x10
        path.write_bytes(bent)
        one_line_refusal(path)


def network(**change):
    return lambda description: description["network"].update(change)


# width 16384 would take 1 GB: it has to be refused before that is allocated.
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.update(format_version=1), "format version is 1, this program reads 2"),
        (lambda d: d.pop("format_version"), "format version is None"),
        (lambda d: d.pop("network"), "must be a table of network, input and classes"),
        (lambda d: d.update(weight_hash="0" * 64), "do not match the file's own hash"),
        (lambda d: d.pop("weight_hash"), "do not match the file's own hash"),
        (network(code="x"), "network.code: unknown key"),
        (network(width=1 << 40), "width: 1099511627776 is out of bounds"),
        (network(width=16384), r"'0\.weight' is .* its network needs .*16384"),
        (lambda d: d.update(input=[21]), r"'0\.weight' is .* its network needs .*21"),
        (lambda d: d.update(classes=0), "classes must be 1 to"),
        (network(beta_w=8), r"3\.weight\.scales"),
        (network(cut=float("nan")), "network.cut: nan is out of bounds"),
    ],
)
def test_a_changed_description_is_refused(path, change, said):
    metadata, tensors = parts(path)
    description = json.loads(metadata["meshd"])
    change(description)
    path.write_bytes(save(tensors, metadata={"meshd": json.dumps(description)}))
    assert re.search(said, one_line_refusal(path))


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        (None, "not written by meshd"),
        ({"format": "pt"}, "not written by meshd"),
        ({"meshd": "{"}, "description is not JSON"),
        ({"meshd": "[" * 4000}, "description is not JSON"),
        ({"meshd": "[]"}, "not a JSON object"),
        ({"meshd": " " * (2 << 20)}, "longer than 1048576"),
    ],
)
def test_a_file_of_others_is_refused(path, metadata, said):
    path.write_bytes(save(parts(path)[1], metadata=metadata))
    assert said in one_line_refusal(path)


def tensor_changes():
    def with_bit_past_the_row(t):
        t["3.weight.words"] = t["3.weight.words"].copy()
        t["3.weight.words"][0, 1] |= np.uint64(1) << np.uint64(63)

    def with_negative_scale(t):
        t["5.weight.scales"] = -t["5.weight.scales"]

    def with_infinite_dense(t):
        t["0.weight"] = np.full_like(t["0.weight"], np.inf)

    yield lambda t: t.pop("5.weight.words"), r"tensor '5\.weight\.words' is missing"
    yield lambda t: t.update(extra=np.zeros(3, np.float32)), "'extra' does not belong"
    yield lambda t: t.update({"0.weight": t["0.weight"].T.copy()}), r"'0\.weight' is .*\(20, 70\)"
    yield lambda t: t.update({"0.weight": t["0.weight"].astype(np.float64)}), "F64"
    yield with_bit_past_the_row, r"parameter 3\.weight: words have bits set past the 70"
    yield with_negative_scale, r"parameter 5\.weight: scales must be finite"
    yield with_infinite_dense, r"0\.weight is not finite"


@pytest.mark.parametrize(("change", "said"), list(tensor_changes()))
def test_changed_tensors_are_refused(path, change, said):
    metadata, tensors = parts(path)
    change(tensors)
    path.write_bytes(save(tensors, metadata=metadata))
    assert re.search(said, one_line_refusal(path))


def test_a_missing_file_is_the_file_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_model(tmp_path / "none")
