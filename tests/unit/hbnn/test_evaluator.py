"""The layer evaluator against the seed's text, folded by hand."""

from __future__ import annotations

import pytest
import torch

from meshd.hbnn.activations import Ramp
from meshd.hbnn.binarize import hadamard_binarize
from meshd.hbnn.evaluator import (
    BinarizeLayer,
    BinLayer,
    LinearLayer,
    Sigmoid,
    evaluate,
)

BETA = 4


@pytest.fixture
def given_weights(normal):
    return normal(12, 9), normal(12, 12) / 4, normal(5, 12) / 4


@pytest.fixture
def net(given_weights):
    w0, w1, w2 = given_weights
    return [
        LinearLayer(9, 12, w0),
        Ramp(),
        BinarizeLayer(BETA),
        BinLayer(12, 12, BETA, weights=w1),
        Ramp(),
        BinLayer(12, 5, BETA, weights=w2),
        Sigmoid(),
    ]


def fold_by_hand(x, w0, w1, w2, oracle):
    """The seed's seven lines, one after the other, with the slow binarization in float64."""

    def h(values, coding):
        return torch.from_numpy(oracle(values, BETA, coding))

    values = [x.double()]
    values.append(values[-1] @ w0.double().T)
    values.append(values[-1].abs() * (values[-1] >= 0))  # Abs[x] * UnitStep[x]
    values.append(h(values[-1], "unipolar"))
    values.append(h(values[-1], "unipolar") @ h(w1, "signed").T)  # binarized a second time
    values.append(values[-1].abs() * (values[-1] >= 0))
    values.append(h(values[-1], "unipolar") @ h(w2, "signed").T)
    values.append(1 / (1 + torch.exp(-values[-1])))
    return values


def test_training_is_foldlist_and_test_is_fold(net, given_weights, normal, oracle):
    x = normal(3, 9)
    values = evaluate(net, x, "Training")
    wanted = fold_by_hand(x, *given_weights, oracle)
    assert len(values) == len(wanted) == 8
    assert values[0] is x
    for found, expected in zip(values, wanted, strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(evaluate(net, x, "Test"), values[-1])


def test_a_sequential_is_a_net_too(net, normal):
    x = normal(3, 9)
    sequential = torch.nn.Sequential(*net)
    assert torch.equal(evaluate(sequential, x, "Test"), sequential(x))


def test_no_layers_give_the_input_back(normal):
    x = normal(3, 9)
    assert evaluate([], x, "Test") is x
    assert evaluate([], x, "Training") == [x]


@pytest.mark.parametrize("mode", ["training", "Validation", "", None])
def test_other_words_are_refused(net, normal, mode):
    with pytest.raises(ValueError, match='"Training" or "Test"'):
        evaluate(net, normal(3, 9), mode)


def test_gradients_reach_every_weight(net, normal):
    evaluate(net, normal(30, 9), "Test").square().sum().backward()
    for layer in (net[0], net[3], net[5]):
        assert layer.weight.grad.abs().sum() > 0


def test_binarize_layer_is_binarize(normal):
    x = normal(3, 9)
    assert torch.equal(BinarizeLayer(4)(x), hadamard_binarize(x, 4, "unipolar"))
    assert torch.equal(BinarizeLayer(4, "signed")(x), hadamard_binarize(x, 4, "signed"))


def test_drawn_linear_weights_have_their_variance():
    seed = 2
    print(f"seed {seed}")
    weight = LinearLayer(200, 300, generator=torch.Generator().manual_seed(seed)).weight
    assert float(weight.detach().std()) == pytest.approx((2 / 200) ** 0.5, rel=0.02)


@pytest.mark.parametrize("make", [LinearLayer, lambda i, o, w: BinLayer(i, o, 4, weights=w)])
def test_given_weights_must_fit(make):
    with pytest.raises(ValueError, match=r"must have shape \(3, 2\) \(out, in\), not \(2, 3\)"):
        make(2, 3, torch.zeros(2, 3))


def test_layers_without_sense_are_refused():
    with pytest.raises(ValueError, match="in_features"):
        LinearLayer(0, 3)
    with pytest.raises(ValueError, match="beta"):
        BinarizeLayer(0)
    with pytest.raises(ValueError, match="coding"):
        BinarizeLayer(2, "both")
