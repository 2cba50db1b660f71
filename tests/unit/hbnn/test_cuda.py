"""The tensor route on a GPU against the kernels on the CPU; skipped where there is none."""

from __future__ import annotations

import pytest
import torch

from meshd.hbnn.activations import Binarize, Ramp
from meshd.hbnn.conv import HadamardConv2d
from meshd.hbnn.linear import HadamardLinear

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="this machine has no CUDA device that torch can use"
)

LAYERS = [
    (lambda **o: HadamardLinear(256, 24, 64, 64, **o), (9, 256)),
    (lambda **o: HadamardLinear(256, 24, 64, 64, "signed", gain=True, bias=True, **o), (9, 256)),
    (lambda **o: HadamardConv2d(64, 8, 3, 64, padding=1, gain=True, **o), (2, 64, 6, 5)),
    (lambda **o: HadamardConv2d(64, 8, 3, 1000, padding=1, coding="unipolar", **o), (2, 64, 6, 5)),
]


def step(module, x, upstream):
    x = x.clone().requires_grad_()
    y = module(x)
    y.backward(upstream)
    return [t.detach().cpu() for t in (y, x.grad, *(p.grad for p in module.parameters()))]


@pytest.mark.parametrize("backward", ["exact", "planes(2)"])
@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_the_same_numbers_as_on_the_cpu(normal, monkeypatch, make, shape, backward):
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    torch.manual_seed(2)
    layer, x = make(backward=backward), normal(*shape)
    upstream = normal(*layer(x).shape)
    here = step(layer, x, upstream)
    layer.zero_grad()
    there = step(layer.cuda(), x.cuda(), upstream.cuda())
    for found, wanted in zip(there, here, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_int8_and_activations(normal):
    x, upstream = normal(64, 256), normal(64, 96)
    torch.manual_seed(2)
    exact = HadamardLinear(256, 96, 64, cut=None)
    rounded = HadamardLinear(256, 96, 64, cut=None, backward="int8")
    rounded.load_state_dict(exact.state_dict())
    here = step(exact, x, upstream)
    there = step(rounded.cuda(), x.cuda(), upstream.cuda())
    for found, wanted in zip(there, here, strict=True):
        assert float((found - wanted).norm() / wanted.norm()) < 0.03
    for layer in (Ramp(), Binarize(64), Binarize(64, "unipolar", estimator="polynomial")):
        same = step(layer, x, x)
        for found, wanted in zip(step(layer, x.cuda(), x.cuda()), same, strict=True):
            torch.testing.assert_close(found, wanted)
