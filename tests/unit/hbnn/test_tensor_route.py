"""The tensor route forced on the CPU: rounded gradients against the kernels, gains, estimators."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from meshd.bits import backward_reference, ops
from meshd.hbnn.linear import HadamardLinear
from meshd.hbnn.product import product_native, product_tensor
from meshd.hbnn.tensor_gradient import TensorFactor, product_with_factor, rounded

M, K, N = 40, 200, 24


def gradients(route, layer, x, upstream, gain):
    x, gain = x.clone().requires_grad_(), gain.clone().requires_grad_()
    weight = layer.weight.detach().clone().requires_grad_()
    y = route(x, weight, None if route is product_native else True, layer.rule, gain)
    y.backward(upstream)
    return y.detach(), x.grad, weight.grad, gain.grad


@pytest.mark.parametrize("backward", ["exact", "planes(1)", "planes(2)", "planes(3)", "planes(4)"])
@pytest.mark.parametrize(
    "options", [{}, {"cut": 0.1, "cut_a": 0.5}, {"estimator": "polynomial"}, {"cut_a": None}]
)
@pytest.mark.parametrize("coding", ["signed", "unipolar"])
def test_it_has_the_kernels_numbers(normal, coding, options, backward):
    generator = torch.Generator().manual_seed(4)
    layer = HadamardLinear(K, N, 16, 32, coding, backward=backward, generator=generator, **options)
    arguments = (layer, normal(M, K), normal(M, N), torch.linspace(-1, 2, N))
    native = gradients(product_native, *arguments)
    for found, wanted in zip(gradients(product_tensor, *arguments), native, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("planes", [1, 2, 3, 4])
def test_planes_are_the_specification(normal, planes):
    g, x = normal(9, M), normal(M, K)
    g[2] = 0.0  # rows that count as zero, and rows that are no numbers
    g[3, 4], g[5, 6] = float("nan"), float("inf")
    found = product_with_factor(g, TensorFactor.of(x, 64, "signed"), f"planes({planes})")
    words, scales = ops.pack_signed(x.numpy(), 64)
    wanted = backward_reference.backward_planes(g.numpy(), words, scales, 64, K, planes=planes)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-4, atol=1e-4)


def test_int8_is_unbiased_and_within_a_step(normal):
    v = normal(5, 300)
    torch.manual_seed(6)
    step, mean = None, torch.zeros_like(v)
    rounds = 400
    for _ in range(rounds):
        step, values = rounded(v, "int8")
        assert torch.equal(values, values.round()) and float(values.abs().max()) <= 127
        assert bool(((step * values - v).abs() <= step * 1.001).all())
        mean += step * values / rounds
    assert float(((mean - v) / step).abs().max()) < 0.15  # 6 deviations of 0.5 / sqrt(400)
    step, values = rounded(torch.tensor([[1e-31, -1e-31], [float("nan"), 1.0]]), "int8")
    assert float(step[0]) == 0 and bool(step[1].isnan())


@pytest.mark.parametrize("route", [product_native, product_tensor])
def test_a_gain_is_a_factor_of_each_output(normal, route):
    layer, x, upstream = HadamardLinear(K, N, 16, cut=None), normal(M, K), normal(M, N)
    gain = torch.linspace(-1, 2, N)
    y, grad_x, grad_w, grad_gain = gradients(route, layer, x, upstream, gain)
    plain = gradients(route, layer, x, upstream, torch.ones(N))
    scaled = gradients(route, layer, x, upstream * gain, torch.ones(N))
    torch.testing.assert_close(y, plain[0] * gain, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(grad_x, scaled[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(grad_w, scaled[2], rtol=1e-4, atol=1e-5)
    wanted = (plain[0] * upstream).sum(0)
    torch.testing.assert_close(grad_gain, wanted, rtol=1e-4, atol=1e-4)
