"""Layers of declarative networks against torch's own, where torch has them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from meshd.hbnn.modules import BatchNorm, Dropout, GlobalAvgPool, Residual
from meshd.hbnn.networks import seed_dropout


@pytest.mark.parametrize("shape", [(7, 5), (3, 5, 4, 2)], ids=str)
def test_batchnorm_is_torchs(shape, normal):
    kind = nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d
    ours, theirs = BatchNorm(5, 0.3, 1e-3), kind(5, 1e-3, 0.3)
    for _ in range(3):
        x = normal(*shape) * 2 + 1
        assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.running_mean, theirs.running_mean)
    assert torch.equal(ours.running_var, theirs.running_var)
    assert torch.equal(ours.eval()(x), theirs.eval()(x))
    assert list(ours.state_dict()) == ["weight", "bias", "running_mean", "running_var"]


@pytest.mark.parametrize("shape", [(1, 5), (1, 5, 1, 1)], ids=str)
def test_one_value_a_feature_is_normalised_by_what_was_seen_before(shape, normal):
    layer = BatchNorm(5)
    layer(normal(20, 5) * 3 + 1 if len(shape) == 2 else normal(20, 5, 2, 2) * 3 + 1)
    mean, variance = layer.running_mean.clone(), layer.running_var.clone()
    x = normal(*shape)
    y = layer(x)
    torch.testing.assert_close(y.flatten(), (x.flatten() - mean) / (variance + 1e-5).sqrt())
    assert torch.equal(layer.running_mean, mean) and torch.equal(layer.running_var, variance)
    assert torch.isfinite(y).all()


def test_dropout_follows_from_its_seed_alone(normal):
    net = nn.Sequential(Dropout(0.3), Dropout(0.3))
    x = torch.ones(100, 100)
    seed_dropout(net, 5)
    torch.manual_seed(1)
    first = net[0](x), net[1](x)
    torch.manual_seed(2)
    twin = copy.deepcopy(net)
    seed_dropout(twin, 5)
    assert torch.equal(twin[0](x), first[0]) and torch.equal(twin[1](x), first[1])
    assert not torch.equal(first[0], first[1])
    seed_dropout(net, 6 + (1 << 63))
    assert not torch.equal(net[0](x), first[0])
    assert set(first[0].unique().tolist()) == {0.0, (1 / torch.tensor(0.7)).item()}
    assert 0.65 < (first[0] > 0).float().mean() < 0.75
    assert torch.equal(net.eval()(x), x)
    assert not torch.equal(Dropout(0.5)(x), x)  # unseeded: torch's generator
    assert torch.equal(Dropout(0.0)(x), x)


def test_dropouts_gradient_is_that_of_its_mask():
    layer = Dropout(0.5)
    layer.seed(1)
    x = torch.ones(50, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_residual_and_global_pooling(normal):
    x = normal(2, 3, 4, 4)
    assert torch.equal(Residual(nn.Sequential(nn.ReLU()), nn.Sequential())(x), x.relu() + x)
    torch.testing.assert_close(
        GlobalAvgPool()(x), nn.functional.adaptive_avg_pool2d(x, 1).flatten(1)
    )
