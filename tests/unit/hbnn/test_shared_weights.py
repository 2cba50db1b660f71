"""Packed weights that a layer shares with who made them: the same network, floats when asked."""

from __future__ import annotations

import copy

import pytest
import torch

from meshd.hbnn.conv import HadamardConv2d
from meshd.hbnn.linear import HadamardLinear
from meshd.hbnn.packed import PackedWeight


def linear(beta: int) -> HadamardLinear:
    return HadamardLinear(40, 6, beta, generator=torch.Generator().manual_seed(1))


def conv(beta: int) -> HadamardConv2d:
    return HadamardConv2d(16, 6, 3, beta, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("make", "beta", "shape"),
    [
        (linear, 8, (5, 40)),
        (linear, 4, (5, 40)),
        (conv, 16, (2, 16, 5, 5)),
        (conv, 4, (2, 16, 5, 5)),
    ],
    ids=["linear native", "linear tensor", "conv native", "conv tensor"],
)
def test_shared_bits_are_loaded_bits(make, beta: int, shape: tuple[int, ...]) -> None:
    source, loaded = make(beta), make(beta)
    shared = copy.deepcopy(loaded)
    with torch.no_grad():
        source.weight.mul_(-1.5)
    packed = source.packed()
    loaded.load_packed(packed.words, packed.scales)
    shared.share_packed(packed)
    x = torch.rand(shape, generator=torch.Generator().manual_seed(2))
    results = []
    for layer in (loaded, shared):
        own = x.clone().requires_grad_()
        y = layer(own)
        y.square().sum().backward()
        results.append((y.detach(), own.grad, layer.weight.grad))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)
    assert torch.equal(shared.state_dict()["weight"], loaded.state_dict()["weight"])


def test_changed_arrays_are_seen_after_sharing_again() -> None:
    layer = linear(4)
    first = layer.packed()
    arrays = PackedWeight(first.words.copy(), first.scales.copy())
    layer.share_packed(arrays)
    x = torch.rand(3, 40)
    before = layer(x)
    arrays.scales[:] *= 2
    layer.share_packed(arrays)
    assert torch.equal(layer(x), 2 * before)
