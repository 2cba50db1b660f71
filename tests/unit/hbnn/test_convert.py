"""binarize_model: what is converted, what stays, and that the original is left alone."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn

from meshd.hbnn.binarize import hadamard_binarize
from meshd.hbnn.conv import HadamardConv2d
from meshd.hbnn.convert import binarize_model
from meshd.hbnn.linear import HadamardLinear


class Block(nn.Module):
    """A residual block, whose order of use no Sequential shows."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(16, 16, 3, padding="same", bias=False)
        self.second = nn.Conv2d(16, 16, (3, 1), stride=2, padding=(1, 0), groups=2)
        self.short = nn.Conv2d(16, 16, 1, stride=2)

    def forward(self, x):
        return self.short(x) + self.second(torch.relu(self.first(x)))


def small_model():
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        Block(),
        nn.ReLU(),
        nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(16, 24, 2)),
        nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Dropout()),
        nn.Linear(24, 32),
        nn.Tanh(),
        nn.Linear(32, 32, bias=False),
        nn.Linear(32, 4),
    )


class TwoWays(nn.Module):
    """torchvision's BasicBlock: one ReLU, called twice by `forward`."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(16, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.norm = nn.BatchNorm2d(16)

    def forward(self, x):
        return self.relu(x + self.norm(self.conv2(self.relu(self.conv1(x)))))


def residual_net():
    torch.manual_seed(2)
    layers = nn.Conv2d(3, 16, 3), nn.ReLU(), TwoWays(), TwoWays(), nn.Flatten(), nn.Linear(576, 4)
    return nn.Sequential(*layers)


CONVS = ["2.conv1", "2.conv2", "3.conv1", "3.conv2"]


def codings(model):
    return {n: m.rule.coding for n, m in model.named_modules() if hasattr(m, "rule")}


def test_without_a_sample_guessed_codings_are_named_once():
    with pytest.warns(UserWarning) as caught:
        new = binarize_model(residual_net(), 8)
    (said,) = [str(warning.message) for warning in caught]
    assert ", ".join(CONVS) in said and "sample=" in said and "coding=" in said
    assert set(codings(new).values()) == {"signed"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        binarize_model(residual_net(), 8, coding="signed")
        floats = binarize_model(residual_net(), 8, 1)
        rules = [m.rule for m in floats.modules() if hasattr(m, "rule")]
        assert {(rule.coding, rule.cut_a) for rule in rules} == {("signed", None)}
        chain = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 8), nn.ReLU())
        chain.extend([nn.Linear(8, 8), nn.Linear(8, 8)])
        assert codings(binarize_model(chain, 8)) == {"2": "signed", "4": "unipolar"}


@pytest.mark.parametrize("inplace", [False, True])
def test_a_sample_shows_the_codings_and_leaves_the_model(normal, inplace):
    model, sample = residual_net(), normal(2, 3, 8, 8)
    model[2].eval()
    modes = {name: module.training for name, module in model.named_modules()}
    statistics = model[3].norm.running_mean.clone()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        new = binarize_model(model, 8, sample=sample, inplace=inplace)
        assert codings(new) == dict.fromkeys(CONVS, "unipolar")
        signed = binarize_model(residual_net(), 8, skip=["5"], sample=sample)
        assert codings(signed) == {"0": "signed"} | codings(new)
    assert {name: module.training for name, module in new.named_modules()} == modes
    assert torch.equal(new[3].norm.running_mean, statistics)
    assert not any(module._forward_pre_hooks for module in [*model.modules(), *new.modules()])


def test_a_layer_that_once_saw_a_negative_value_is_signed(normal):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x):
            return self.used(torch.relu(x)) + self.used(x) + self.used(x.abs())

    with pytest.warns(UserWarning, match=r"nor the sample .* negative: idle;"):
        new = binarize_model(Twice(), 8, skip=None, sample=normal(5, 8))
    assert set(codings(new).values()) == {"signed"}


def test_wrong_models_and_samples(normal):
    with pytest.raises(TypeError, match=r"model must be a torch nn\.Module, not int"):
        binarize_model(3, 8)
    with pytest.raises(TypeError, match="sample must be a tensor, not list"):
        binarize_model(residual_net(), 8, sample=[1])
    with pytest.raises(ValueError, match="give one of the two"):
        binarize_model(residual_net(), 8, sample=normal(1, 3, 8, 8), coding="signed")
    model = residual_net()
    with pytest.raises(ValueError, match="sample: the model does not take it: "):
        binarize_model(model, 8, sample=normal(1, 2, 8, 8), inplace=True)
    assert all(module.training and not module._forward_pre_hooks for module in model.modules())
    assert type(model[2].conv1) is nn.Conv2d


@pytest.mark.filterwarnings("ignore:coded signed")
def test_layers_are_replaced_and_the_rest_is_as_it_was(normal):
    model, x = small_model().eval(), normal(2, 3, 8, 8)
    before, state = model(x), copy.deepcopy(model.state_dict())
    new = binarize_model(model, 8, 16)
    binary = {n for n, m in new.named_modules() if isinstance(m, HadamardLinear | HadamardConv2d)}
    assert binary == {"2.first", "2.second", "2.short", "4.1", "6", "8"}
    assert type(new[0]) is nn.Conv2d and type(new[9]) is nn.Linear
    assert new.state_dict().keys() == state.keys()
    for name, tensor in new.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    assert torch.equal(model(x), before) and type(model[6]) is nn.Linear
    assert new(x).shape == before.shape and not torch.equal(new(x), before)
    new.train()(x).sum().backward()
    assert all(p.grad is not None for p in new.parameters())


@pytest.mark.filterwarnings("ignore:coded signed")
def test_the_coding_is_what_precedes_a_layer():
    new = binarize_model(small_model(), 8)
    codings = {n: m.rule.coding for n, m in new.named_modules() if hasattr(m, "rule")}
    unipolar = {name for name, coding in codings.items() if coding == "unipolar"}
    assert unipolar == {"4.1", "6"}
    assert (
        binarize_model(nn.Sequential(nn.Sigmoid(), nn.Linear(8, 8)), 8, skip=None)[1].rule.coding
        == "unipolar"
    )
    new = binarize_model(small_model(), 8, coding="unipolar")
    assert all(m.rule.coding == "unipolar" for m in new.modules() if hasattr(m, "rule"))


def test_a_converted_layer_computes_the_binarized_one(normal):
    conv = nn.Conv2d(16, 24, 3, (2, 1), "valid", (1, 2), 2)
    new, x = binarize_model(conv, 8, 8, None, coding="signed"), normal(2, 16, 9, 9)
    last = (x.movedim(1, -1), conv.weight.detach().movedim(1, -1))
    hats = [hadamard_binarize(tensor, 8).movedim(-1, 1) for tensor in last]
    wanted = nn.functional.conv2d(*hats, conv.bias, (2, 1), 0, (1, 2), 2)
    torch.testing.assert_close(new(x), wanted, rtol=1e-4, atol=1e-4)
    linear = nn.Linear(16, 8).double().requires_grad_(False).eval()
    new, x = binarize_model(linear, 4, 8, None, coding="signed"), normal(3, 16).double()
    wanted = hadamard_binarize(x, 8) @ hadamard_binarize(linear.weight, 4).T + linear.bias
    torch.testing.assert_close(new(x), wanted)
    assert not new.weight.requires_grad and not new.training


@pytest.mark.filterwarnings("ignore:coded signed")
def test_skip_and_options():
    model = small_model()
    new = binarize_model(model, 8, skip=["0", "2.first"], cut=0.5, cut_a=None, gain=True)
    assert type(new[0]) is nn.Conv2d and type(new[2].first) is nn.Conv2d
    assert type(new[9]) is HadamardLinear
    assert (new[9].rule.cut, new[9].rule.cut_a) == (0.5, None) and new[9].gain is not None
    everything = binarize_model(model, 8, skip=None)
    assert not any(type(m) in (nn.Linear, nn.Conv2d) for m in everything.modules())


@pytest.mark.filterwarnings("ignore:coded signed")
def test_in_place_and_a_layer_that_is_used_twice():
    model = small_model()
    shared = nn.Linear(4, 4)
    model.extend([shared, nn.Tanh(), shared, nn.Linear(4, 2)])
    before = torch.get_rng_state()
    assert binarize_model(model, 8, inplace=True) is model
    assert torch.equal(torch.get_rng_state(), before)
    assert type(model[10]) is HadamardLinear and model[10] is model[12]


def test_what_cannot_be_converted_is_named():
    class Own(nn.Linear):
        pass

    tied, hooked = [nn.Linear(8, 8) for _ in range(2)], nn.Linear(8, 8)
    tied[1].weight = tied[0].weight
    hooked.register_forward_hook(lambda *_: None)
    model = nn.Sequential(
        nn.Embedding(5, 8),
        *tied,
        hooked,
        Own(8, 8),
        nn.Conv2d(8, 8, 3, padding_mode="circular"),
        nn.Conv2d(8, 8, 2, padding="same"),
        nn.Linear(8, 8),
    )
    with pytest.warns(UserWarning) as caught:
        new = binarize_model(model, 8, skip=None, coding="signed")
    (said,) = [str(warning.message) for warning in caught]
    for what in (
        "0: Embedding has no binary form",
        "1: another layer shares its weights",
        "2: another layer shares its weights",
        "3: has hooks",
        "4: Own has no binary form",
        "5: padding_mode 'circular'",
        "6: padding 'same' is not alike on both sides",
    ):
        assert what in said
    assert "7:" not in said and type(new[7]) is HadamardLinear
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        binarize_model(model, 8, skip=[str(n) for n in range(7)], coding="signed")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"beta_w": 0}, "beta_w must be"),
        ({"beta_w": 8, "beta_a": 0}, "beta_a must be"),
        ({"beta_w": 8, "skip": "first"}, "skip must be"),
        ({"beta_w": 8, "skip": ["nowhere"]}, "no module 'nowhere'"),
        ({"beta_w": 8, "skip": ["0", "1", "2"]}, "all 3 that could be are skipped"),
        ({"beta_w": 8, "estimator": "sigmoid"}, "estimator must be"),
    ],
)
def test_an_error_changes_nothing(arguments, said):
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(3)))
    with pytest.raises(ValueError, match=said):
        binarize_model(model, **arguments, inplace=True)
    assert all(type(layer) is nn.Linear for layer in model)


def test_nothing_to_convert():
    with pytest.raises(ValueError, match=r"no nn\.Linear or nn\.Conv2d"):
        binarize_model(nn.Sequential(nn.ReLU()), 8)
    with pytest.raises(ValueError, match="in place"):
        binarize_model(nn.Linear(4, 4), 8, skip=None, inplace=True)
