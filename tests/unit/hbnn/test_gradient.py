"""The backward settings of the native route: what each returns, and what a forward pass keeps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from meshd.bits import ops
from meshd.hbnn.gradient import check_backward, kept_bits, look_up_is_faster
from meshd.hbnn.linear import HadamardLinear
from meshd.hbnn.product import product_native, product_tensor

M, K, N = 40, 512, 96


@pytest.fixture(params=ops.list_isas())
def isa(request):
    before = ops.isa()
    ops.use_isa(request.param)
    yield request.param
    ops.use_isa(before)


def gradients(route, backward, x, upstream, coding="signed", beta=256):
    """Return dL/dx and dL/dw of one layer with fixed latents."""
    generator = torch.Generator().manual_seed(5)
    layer = HadamardLinear(K, N, beta, coding=coding, backward=backward, generator=generator)
    x = x.clone().requires_grad_()
    weight = layer.weight.detach().clone().requires_grad_()
    route(x, weight, None if route is product_native else True, layer.rule).backward(upstream)
    return x.grad, weight.grad


@pytest.mark.parametrize(
    ("backward", "bound"),
    [
        ("exact", 1e-5),
        ("int8", 0.03),
        ("planes(1)", 4.0),
        ("planes(2)", 1.5),
        ("planes(3)", 0.6),
        ("planes(4)", 0.3),
    ],
)
@pytest.mark.parametrize("coding", ["signed", "unipolar"])
@pytest.mark.parametrize("beta", [16, 256])
def test_each_setting_is_near_the_dense_gradient(isa, normal, backward, bound, coding, beta):
    x, upstream = normal(M, K), normal(M, N)
    wanted = gradients(product_tensor, "exact", x, upstream, coding, beta)
    found = gradients(product_native, backward, x, upstream, coding, beta)
    for got, dense in zip(found, wanted, strict=True):
        assert got.shape == dense.shape
        assert float((got - dense).norm() / dense.norm()) < bound
        assert not got[dense == 0].any(), "what the cut takes away is zero"


@pytest.mark.parametrize("backward", ["exact", "int8", "planes(2)"])
def test_a_seed_repeats_a_run(isa, normal, backward):
    x, upstream = normal(M, K), normal(M, N)
    runs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        runs.append(gradients(product_native, backward, x, upstream))
    for first, again, other in zip(*runs, strict=True):
        assert torch.equal(first, again)
        assert torch.equal(first, other) == (backward == "exact")


@pytest.mark.parametrize("backward", ["int8", "planes(1)", "planes(2)"])
def test_a_layer_of_few_outputs_is_exact(normal, backward):
    for outputs in (63, 64):
        layers = [HadamardLinear(K, outputs, 64, backward=how) for how in ("exact", backward)]
        layers[1].load_state_dict(layers[0].state_dict())
        x, upstream = normal(M, K), normal(M, outputs)
        for layer in layers:
            layer(x).backward(upstream)
        assert torch.equal(layers[0].weight.grad, layers[1].weight.grad) == (outputs == 63)


def test_look_ups_are_for_long_segments_and_wide_registers():
    assert look_up_is_faster("avx512", 256) and look_up_is_faster("avx512bw", 64)
    assert not look_up_is_faster("avx512", 16) and not look_up_is_faster("scalar", 256)


def test_kept_bits_are_those_within_the_cut():
    x = torch.tensor([[1.0, -1.0, 1.0000001, -2.0, 0.0, float("nan"), float("inf"), 0.5]])
    assert kept_bits(x, 1.0).tolist() == [[0b10010011]]
    assert kept_bits(x, None) is None
    assert kept_bits(x[:0], 1.0).shape == (0, 1)


@pytest.mark.parametrize("wrong", ["", "planes", "planes(0)", "planes(5)", "int4", "exact ", None])
def test_a_wrong_setting_is_refused(wrong):
    with pytest.raises(ValueError, match="backward must be"):
        check_backward(wrong)


def test_infinite_gradients_are_not_hidden(normal):
    x, upstream = normal(M, K) / 10, normal(M, N)
    upstream[3, 5] = float("inf")
    for backward in ("exact", "int8", "planes(2)"):
        grad_x, _ = gradients(product_native, backward, x, upstream)
        assert not torch.isfinite(grad_x[3]).any()
        assert np.isfinite(np.delete(grad_x.numpy(), 3, 0)).all()
