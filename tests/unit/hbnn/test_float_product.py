"""Float activations with binary weights: the kernels against the tensor route."""

from __future__ import annotations

import pytest
import torch

from meshd.bits import ops
from meshd.hbnn.binarize import hadamard
from meshd.hbnn.conv import HadamardConv2d
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


@pytest.mark.parametrize("beta_w", [16, 64])  # the tensor route, the kernels
def test_float_activations_and_their_gradients_pass_as_they_are(normal, beta_w):
    layer = layer_of(beta_w)
    x = (3 * normal(7, K)).requires_grad_()  # negative ones too, and beyond any cut
    upstream = normal(7, N)
    y = layer(x)
    y.backward(upstream)
    w_hat = hadamard(layer.weight.detach(), beta_w, "signed")
    torch.testing.assert_close(y.detach(), x.detach() @ w_hat.T, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(x.grad, upstream @ w_hat, rtol=1e-4, atol=1e-4)
    kept = layer.weight.detach().abs() <= 1  # latents are cut as ever
    wanted = upstream.T @ x.detach() * kept
    torch.testing.assert_close(layer.weight.grad, wanted, rtol=1e-4, atol=1e-4)


def test_float_images_and_their_gradients_pass_as_they_are(normal):
    layer = HadamardConv2d(16, 8, 3, 16, 1, padding=1)
    x = (3 * normal(2, 16, 6, 5)).requires_grad_()
    upstream = normal(2, 8, 6, 5)
    layer(x).backward(upstream)
    rows = hadamard(layer.as_rows(layer.weight.detach()), 16, "signed")
    plain = x.detach().clone().requires_grad_()
    wanted = torch.nn.functional.conv2d(plain, layer.of_rows(rows), padding=1)
    wanted.backward(upstream)
    torch.testing.assert_close(layer(x), wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(x.grad, plain.grad, rtol=1e-4, atol=1e-4)


def test_what_is_asked_of_float_activations_holds(normal):
    assert (layer_of(64).rule.coding, layer_of(64).rule.cut_a) == ("signed", None)
    for layer in (layer_of(64, cut_a=0.5), HadamardConv2d(16, 8, 3, 16, 1, cut_a=0.5)):
        assert (layer.rule.coding, layer.rule.cut_a, layer.rule.cut) == ("signed", 0.5, 1.0)
    x = normal(7, K).requires_grad_()
    layer_of(64, cut_a=0.5)(x).sum().backward()
    assert torch.equal(x.grad != 0, x.abs() <= 0.5)
    ramp = layer_of(64, coding="unipolar")
    torch.testing.assert_close(ramp(x), layer_of(64)(x.relu()), rtol=1e-4, atol=1e-4)
    assert HadamardLinear(K, N, 1).rule.cut_a is None  # beta_a is beta_w
    assert HadamardLinear(K, N, 8).rule.coding == "unipolar"
    assert HadamardConv2d(16, 8, 3, 8).rule.coding == "signed"
