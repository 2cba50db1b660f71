"""The seed's network as jobs name it: layers, parameter table, logits, specs."""

from __future__ import annotations

import pytest
import torch

from meshd.hbnn.activations import Ramp
from meshd.hbnn.evaluator import BinarizeLayer, BinLayer, LinearLayer, Sigmoid
from meshd.hbnn.export import weight_hash
from meshd.hbnn.linear import HadamardLinear
from meshd.hbnn.networks import (
    MAX_UNITS,
    ParameterEntry,
    binary_layers,
    build_network,
    check_spec,
    logits,
    parameter_table,
    predict,
    seed_network,
)

SPEC = {
    "preset": "seed",
    "inputs": 20,
    "classes": 4,
    "width": 33,
    "beta_w": 8,
    "beta_a": 16,
    "cut": 1.0,
}


def small(seed=0):
    return seed_network(20, 4, 33, 8, 16, 1.0, seed)


def test_the_seeds_seven_layers():
    net = small()
    wanted = [LinearLayer, Ramp, BinarizeLayer, BinLayer, Ramp, BinLayer, Sigmoid]
    assert [type(layer) for layer in net] == wanted
    assert (net[2].beta, net[2].coding) == (16, "unipolar")
    assert [(net[i].beta_w, net[i].beta_a, net[i].rule.coding) for i in (3, 5)] == [
        (8, 16, "unipolar")
    ] * 2


def test_parameter_table_in_the_order_of_the_layers():
    assert parameter_table(small()) == [
        ParameterEntry("0.weight", 33, 20, "dense", 0),
        ParameterEntry("3.weight", 33, 33, "binary", 8),
        ParameterEntry("5.weight", 4, 33, "binary", 8),
    ]
    assert list(binary_layers(small())) == ["3.weight", "5.weight"]


def test_vectors_are_one_row_and_a_lone_layer_has_a_table():
    layer = HadamardLinear(6, 3, 2, bias=True)
    assert parameter_table(layer) == [
        ParameterEntry("weight", 3, 6, "binary", 2),
        ParameterEntry("bias", 1, 3, "dense", 0),
    ]
    assert list(binary_layers(layer)) == ["weight"]
    assert [e.name for e in parameter_table(torch.nn.Sequential(layer))] == ["0.weight", "0.bias"]


def test_a_parameter_that_is_no_matrix_is_refused():
    with pytest.raises(ValueError, match=r"0\.weight has 4 dimensions"):
        parameter_table(torch.nn.Sequential(torch.nn.Conv2d(1, 1, 3)))


def test_the_seed_alone_decides_the_latents():
    torch.manual_seed(1)
    first = small()
    torch.manual_seed(2)
    second = small()
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(small(1)[0].weight, first[0].weight)


def test_the_same_seed_gives_the_same_bits_on_every_machine():
    """Golden: a machine or library that draws others would start a ring that cannot agree."""
    assert (
        weight_hash(small()) == "cd5d3e73c3de5e8a09f48970deac085ae57fc3471ca83aa402033a279425b7d9"
    )


def test_logits_are_what_the_sigmoid_gets(normal):
    net, x = small(), normal(7, 20)
    torch.testing.assert_close(torch.sigmoid(logits(net, x)), net(x))
    assert torch.equal(predict(net, x), net(x).argmax(-1))
    assert predict(net, x).dtype == torch.int64
    assert logits(net, x).requires_grad


def test_logits_need_a_final_sigmoid(normal):
    with pytest.raises(ValueError, match="last layer must be a Sigmoid"):
        logits(torch.nn.Sequential(*list(small())[:-1]), normal(2, 20))


def test_a_spec_builds_its_network():
    net = build_network(SPEC, seed=3)
    for a, b in zip(net.parameters(), small(3).parameters(), strict=True):
        assert torch.equal(a, b)
    assert build_network({**SPEC, "cut": None})[2].cut is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layers": 9}, "unknown key 'layers'"),
        ({"width": None}, "width must be 1 to"),
        ({"width": 0}, "width must be 1 to"),
        ({"width": True}, "width must be 1 to"),
        ({"inputs": MAX_UNITS + 1}, "inputs must be 1 to"),
        ({"width": MAX_UNITS}, "parameters, at most"),
        ({"classes": "10"}, "classes must be 1 to"),
        ({"beta_w": 0}, "beta_w must be"),
        ({"beta_a": 1.5}, "beta_a must be"),
        ({"cut": -1}, "cut must be"),
        ({"preset": "resnet"}, "preset must be"),
    ],
)
def test_a_wrong_spec_is_refused_by_its_key(change, said):
    with pytest.raises(ValueError, match=said):
        check_spec({**SPEC, **change})


@pytest.mark.parametrize("key", sorted(SPEC))
def test_a_missing_key_is_named(key):
    with pytest.raises(ValueError, match=f"key '{key}' is missing"):
        check_spec({k: v for k, v in SPEC.items() if k != key})


def test_a_spec_is_a_table():
    with pytest.raises(ValueError, match="not list"):
        check_spec(["seed"])
