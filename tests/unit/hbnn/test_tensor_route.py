"""The tensor route forced on the CPU: rounded gradients against the kernels, gains, estimators."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from meshd.bits import ops
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


# Of few outputs: both routes are exact, whatever the setting.
@pytest.mark.parametrize("backward", ["exact", "int8", "planes(2)"])
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


ROUNDED = {
    "int8": 1 / 127,
    "planes(1)": 2.0,
    "planes(2)": 1.0,
    "planes(3)": 1 / 3,
    "planes(4)": 1 / 7,
}


@pytest.mark.parametrize(("setting", "distance"), ROUNDED.items())
def test_rounding_is_unbiased_and_within_a_step(normal, setting, distance):
    """`distance`: of two levels, over the largest |v|."""
    v = normal(5, 300)
    v[:, ::3] = 0
    largest = v.abs().amax(1, keepdim=True)
    torch.manual_seed(6)
    mean = torch.zeros_like(v)
    rounds = 400
    for _ in range(rounds):
        step, values = rounded(v, setting)
        place = (step * values + largest) / (distance * largest)
        torch.testing.assert_close(place, place.round(), rtol=0, atol=1e-4)
        assert bool(((step * values).abs() <= largest * 1.001).all())
        assert bool(((step * values - v).abs() <= distance * largest * 1.001).all())
        assert setting == "planes(1)" or not values[v == 0].any()
        mean += step * values / rounds
    assert float(((mean - v) / (distance * largest)).abs().max()) < 0.15  # 6 of 0.5 / sqrt(400)
    step, values = rounded(torch.tensor([[1e-31, -1e-31], [float("nan"), 1.0]]), setting)
    assert float(step[0]) == 0 and bool(step[1].isnan()) and not values.any()


def test_rounding_errors_of_planes_cancel(normal):
    v = normal(4, 20_000)
    step, values = rounded(v, "planes(2)")
    error = (step * values).sum(1, dtype=torch.float64) - v.sum(1, dtype=torch.float64)
    assert bool((error.abs() < 1.1 * v.abs().amax(1)).all())


@pytest.mark.parametrize("setting", ROUNDED)
def test_routes_round_to_the_same_levels_and_means(normal, setting):
    """Rows that count as zero and rows that are no numbers come out alike; others in the mean."""
    g, x = normal(9, M), normal(M, 64)
    g[2] = 0.0
    g[3, 4], g[5, 6] = float("nan"), float("inf")
    factor = TensorFactor.of(x, 64, "signed")
    words, scales = ops.pack_signed(x.numpy(), 64)
    more = {} if setting == "int8" else {"planes": int(setting[-2])}
    native = ops.backward_planes if more else ops.backward_int8
    torch.manual_seed(7)
    means = np.zeros((2, 9, 64))
    for seed in range(200):
        means[0] += product_with_factor(g, factor, setting).numpy() / 200
        means[1] += native(g.numpy(), words, scales, 64, 64, seed=seed, **more) / 200
    assert np.array_equal(np.isnan(means[0]), np.isnan(means[1]))
    assert np.isnan(means[0]).any(1).tolist() == [r in (3, 5) for r in range(9)]
    assert not means[:, 2].any()
    finite = [0, 1, 4, 6, 7, 8]
    v = g.numpy()[finite] * scales[:, 0]
    distance = np.abs(v).max(1, keepdims=True) * ROUNDED[setting]
    # Six deviations of a difference of two means, each of 40 roundings' sums.
    assert np.all(np.abs(means[0] - means[1])[finite] < 6 * distance * np.sqrt(2 * M / 4 / 200))


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
