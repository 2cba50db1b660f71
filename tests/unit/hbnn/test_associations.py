"""Networks as the seed writes them, against the seed's seven lines computed in float64."""

from __future__ import annotations

import pytest
import torch

from meshd.hbnn.associations import (
    hb_act_forward,
    hb_w_forward,
    matrix_form,
    net_evaluate,
    network_of,
)
from meshd.hbnn.evaluator import evaluate

BETA = 4


@pytest.fixture
def given_weights(normal):
    """(in, out), as the seed has them."""
    return normal(9, 12), normal(12, 12) / 4, normal(12, 5) / 4


def fold_by_hand(x, w0, w1, w2, oracle):
    """The seed's seven lines, one after the other, with the slow binarization in float64."""

    def h(values, coding):
        return torch.from_numpy(oracle(values, BETA, coding))

    values = [x.double()]
    values.append(values[-1] @ w0.double())
    values.append(values[-1].abs() * (values[-1] >= 0))  # Abs[x] * UnitStep[x]
    values.append(h(values[-1], "unipolar"))
    values.append(h(values[-1], "unipolar") @ h(w1.T, "signed").T)  # binarized a second time
    values.append(values[-1].abs() * (values[-1] >= 0))
    values.append(h(values[-1], "unipolar") @ h(w2.T, "signed").T)
    values.append(1 / (1 + torch.exp(-values[-1])))
    return values


@pytest.fixture
def associations(given_weights):
    """The seed's definition, word for word."""
    w0, w1, w2 = given_weights
    return [
        {"LayerType": "LinearLayer", "Parameters": {"Weights": w0}},
        {"LayerType": "Ramp"},
        {"LayerType": "BinarizeLayer"},
        {"LayerType": "BinLayer", "Parameters": {"Weights": w1}},
        {"LayerType": "Ramp"},
        {"LayerType": "BinLayer", "Parameters": {"Weights": w2}},
        {"LayerType": "Sigmoid"},
    ]


def test_the_seeds_associations_give_the_seeds_values(associations, given_weights, normal, oracle):
    inputs = normal(7, 9)
    values = net_evaluate(associations, inputs[0:3], "Training", bin_aggression=BETA)
    wanted = fold_by_hand(inputs[:3], *given_weights, oracle)
    assert len(values) == len(wanted) == 8
    for found, expected in zip(values, wanted, strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(net_evaluate(associations, inputs[:3], "Test", BETA), values[-1])


def test_each_line_of_layer_eval(associations, normal):
    """layerEval, one definition after the other, with Dot as it is written there."""
    w = normal(12, 5)
    x = normal(3, 12)
    binary = {"LayerType": "BinLayer", "Parameters": {"Weights": w}}
    linear = {"LayerType": "LinearLayer", "Parameters": {"Weights": w}}
    for layer, wanted in (
        ({"LayerType": "Sigmoid"}, 1 / (1 + torch.exp(-x))),
        ({"LayerType": "Ramp"}, x.abs() * (x >= 0)),
        (linear, x @ w),
        (binary, hb_act_forward(x, BETA) @ hb_w_forward(w, BETA)),
        ({"LayerType": "BinarizeLayer"}, hb_act_forward(x, BETA)),
    ):
        found = net_evaluate([layer], x, "Test", BETA)
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_weights_are_binarized_along_the_sum_of_dot(normal, oracle):
    w = normal(10, 4)
    wanted = torch.from_numpy(oracle(w.T, BETA, "signed")).T.float()
    torch.testing.assert_close(hb_w_forward(w, BETA), wanted)


def test_weights_may_be_lists_and_are_copied(normal):
    w = normal(3, 2)
    net = network_of([{"LayerType": "LinearLayer", "Parameters": {"Weights": w.tolist()}}], 4)
    same = network_of([{"LayerType": "LinearLayer", "Parameters": {"Weights": w}}], 4)
    before = w.clone()
    assert torch.equal(net[0].weight, same[0].weight)
    with torch.no_grad():
        same[0].weight.zero_()
    assert torch.equal(w, before)


def test_a_network_of_associations_can_be_trained(associations, normal):
    net = network_of(associations, BETA)
    evaluate(net, normal(30, 9), "Test").square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in net.parameters())


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ({"LayerType": "Tanh"}, "layer 2: LayerType 'Tanh' is not one of Ramp, Sigmoid,"),
        ({"Parameters": {}}, 'layer 2: an association with "LayerType"'),
        ("Ramp", 'layer 2: an association with "LayerType"'),
        ({"LayerType": "Ramp", "Parameters": {"Weights": [[1.0]]}}, "Ramp takes no parameters"),
        ({"LayerType": "BinLayer"}, 'needs the parameter "Weights" and no other'),
        ({"LayerType": "BinLayer", "Parameters": {"Bias": 1}}, '"Weights" and no other'),
        ({"LayerType": "Ramp", "Name": "r"}, "unknown key 'Name'"),
        ({"LayerType": "LinearLayer", "Parameters": {"Weights": [1.0]}}, "a matrix"),
    ],
)
def test_wrong_associations_are_named(layer, words):
    with pytest.raises(ValueError) as refusal:
        network_of([{"LayerType": "Ramp"}, layer], 4)
    assert words in str(refusal.value)


def test_matrix_form():
    assert matrix_form(torch.tensor([[1.0, -0.5], [10.0, 1 / 3]])) == "\n".join(
        ["     1    -0.5", "    10  0.3333"]
    )
    assert matrix_form(torch.zeros(0, 3)) == ""
