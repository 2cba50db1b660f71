"""Float activations with binary weights: the kernels against the tensor route."""

from __future__ import annotations

import pytest
import torch

from meshd.bits import ops
from meshd.hbnn.float_product import float_route_takes, product_floats
from meshd.hbnn.linear import HadamardLinear
from meshd.hbnn.product import product_tensor

K, N = 130, 12


def layer_of(beta_w, **options):
    generator = torch.Generator().manual_seed(3)
    return HadamardLinear(K, N, beta_w, 1, generator=generator, **options)


@pytest.mark.parametrize("state", ["latents", "packed"])
@pytest.mark.parametrize("coding", ["signed", "unipolar"])
@pytest.mark.parametrize("options", [{}, {"cut_a": None, "cut": 0.1}, {"estimator": "polynomial"}])
@pytest.mark.parametrize("backward", ["exact", "planes(2)"])
@pytest.mark.parametrize("beta_w", [16, 64, K])
def test_routes_agree(normal, beta_w, backward, options, coding, state):
    layer = layer_of(beta_w, coding=coding, backward=backward, **options)
    packed = layer.packed() if state == "packed" else None
    if packed:
        layer.load_packed(packed.words, packed.scales)
    values, upstream = normal(7, K), normal(7, N)
    found = []
    for route, second in ((product_floats, packed), (product_tensor, packed is None)):
        x = values.clone().requires_grad_()
        weight = layer.weight.detach().clone().requires_grad_()
        gain = torch.linspace(-1, 2, N).requires_grad_()
        y = route(x, weight, second, layer.rule, gain)
        y.backward(upstream)
        found.append((y.detach(), x.grad, weight.grad, gain.grad))
    for native, tensor in zip(*found, strict=True):
        torch.testing.assert_close(native, tensor, rtol=1e-4, atol=1e-4)


def test_the_layer_takes_the_kernel_where_it_is_faster(normal, monkeypatch):
    x, calls = normal(3, K), []
    wide = "avx512" in ops.isa()
    assert float_route_takes(x, x, layer_of(64).rule) == wide
    assert not float_route_takes(x, x, layer_of(16).rule)
    assert not float_route_takes(x, x, HadamardLinear(K, N, 64, 64).rule)
    assert not float_route_takes(x.double(), x, layer_of(64).rule)
    real = ops.product_floats
    monkeypatch.setattr(
        ops, "product_floats", lambda *a, **named: calls.append(1) or real(*a, **named)
    )
    layer_of(64)(x)
    assert len(calls) == wide
