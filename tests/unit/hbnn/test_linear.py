"""HadamardLinear: kernels, tensor route and definition agree; gradients; the packed state."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from meshd.bits import ops
from meshd.hbnn.binarize import hadamard_binarize, quantize_scales
from meshd.hbnn.linear import HadamardLinear
from meshd.hbnn.packed import pack_weight
from meshd.hbnn.product import native_route_takes, product_native, product_tensor

K = 130
BETAS = (1, 2, 3, 5, 7, 16, 64, 100, K, K + 9)
# Where neither divides the other and none covers the row, there is only the tensor route.
NESTED = [(7, 7), (2, 16), (64, 16), (1, 5), (3, 1), (100, 5), (16, K), (200, 7)]


def layer_of(beta_w, beta_a, coding="unipolar", cut=1.0, out=6, bias=False):
    return HadamardLinear(
        K, out, beta_w, beta_a, coding, cut, bias, generator=torch.Generator().manual_seed(3)
    )


@pytest.mark.parametrize("coding", ["signed", "unipolar"])
@pytest.mark.parametrize(
    ("beta_w", "beta_a"), [(b, b) for b in BETAS] + NESTED + [(7, 5), (100, 16)]
)
def test_forward_is_the_definition(normal, oracle, beta_w, beta_a, coding):
    layer, x = layer_of(beta_w, beta_a, coding), normal(4, K)
    wanted = oracle(x, beta_a, coding) @ oracle(layer.weight, beta_w, "signed").T
    np.testing.assert_allclose(layer(x).detach().numpy(), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("state", ["latents", "packed"])
@pytest.mark.parametrize("coding", ["signed", "unipolar"])
@pytest.mark.parametrize(("beta_w", "beta_a"), [(b, b) for b in BETAS] + NESTED)
def test_native_and_tensor_routes_agree(normal, beta_w, beta_a, coding, state):
    layer = layer_of(beta_w, beta_a, coding, cut=0.1)
    packed = None
    if state == "packed":
        packed = layer.packed()
        layer.load_packed(packed.words, packed.scales)
    values, upstream = normal(5, K), normal(5, 6)
    found = []
    for route in (product_native, product_tensor):
        x = values.clone().requires_grad_()
        weight = layer.weight.detach().clone().requires_grad_()
        second = packed if route is product_native else state == "latents"
        y = route(x, weight, second, layer.rule)
        y.backward(upstream)
        found.append((y.detach(), x.grad, weight.grad))
    for native, tensor in zip(*found, strict=True):
        torch.testing.assert_close(native, tensor, rtol=1e-4, atol=1e-5)


def test_the_layer_takes_the_kernels_only_where_they_can(normal):
    x = normal(2, K)
    assert native_route_takes(x, x, layer_of(16, 64).rule)
    assert native_route_takes(x, x, layer_of(9, 10**12).rule)  # one segment covers the row
    assert not native_route_takes(x, x, layer_of(9, 10).rule)
    assert not native_route_takes(x, x, layer_of(64, 1).rule)  # activations stay float
    assert not native_route_takes(x.double(), x, layer_of(16, 16).rule)
    assert not native_route_takes(x.to("meta"), x, layer_of(16, 16).rule)


def test_forward_of_a_layer_runs_on_the_kernels(normal, monkeypatch):
    calls = []
    real = ops.binarized_product_unipolar
    monkeypatch.setattr(
        ops,
        "binarized_product_unipolar",
        lambda *a, **named: calls.append(len(a)) or real(*a, **named),
    )
    layer_of(16, 16)(normal(3, K))
    assert len(calls) == 1


def test_float64_goes_by_the_tensor_route(normal, oracle):
    layer, x = layer_of(16, 16, "signed").double(), normal(4, K).double()
    wanted = oracle(x, 16, "signed") @ oracle(layer.weight, 16, "signed").T
    np.testing.assert_allclose(layer(x).detach().numpy(), wanted, rtol=1e-12)


def test_leading_dimensions_strides_and_no_rows(normal):
    layer, x = layer_of(16, 16), normal(2, 3, K)
    assert torch.equal(layer(x), layer(x.reshape(6, K)).reshape(2, 3, 6))
    across = normal(K, 4)  # its transpose is not contiguous
    assert torch.equal(layer(across.T), layer(across.T.contiguous()))
    assert layer(x[:0]).shape == (0, 3, 6)
    assert torch.equal(layer(x[0, 0]), layer(x)[0, 0])


@pytest.mark.parametrize("route", [product_native, product_tensor])
def test_gradients_by_hand(route):
    """K = 3, beta 2, unipolar: x_hat, w_hat and both cuts worked out on paper."""
    layer = HadamardLinear(3, 1, 2)
    x = torch.tensor([[0.5, 0.0, 2.0]], requires_grad=True)
    weight = torch.tensor([[-0.5, 1.5, 0.25]], requires_grad=True)
    y = route(x, weight, None if route is product_native else True, layer.rule)
    # x_hat = [.25, 0, 2], w_hat = [-1, 1, .25]
    assert y.tolist() == [[0.25]]
    y.backward(torch.tensor([[2.0]]))
    assert x.grad.tolist() == [[-2.0, 2.0, 0.0]]  # 2 * w_hat, cut at x = 2
    assert weight.grad.tolist() == [[0.5, 0.0, 4.0]]  # 2 * x_hat, cut at w = 1.5


def test_cut_none_lets_every_gradient_pass(normal):
    layer, x = layer_of(16, 16, "signed", cut=None), normal(4, K) * 3
    x.requires_grad_()
    with torch.no_grad():
        layer.weight.mul_(50)
    layer(x).sum().backward()
    w_hat, x_hat = hadamard_binarize(layer.weight.detach(), 16), hadamard_binarize(x.detach(), 16)
    torch.testing.assert_close(x.grad, w_hat.sum(0).expand(4, K), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(layer.weight.grad, x_hat.sum(0).expand(6, K), rtol=1e-4, atol=1e-4)


def test_bias_is_added_and_learns(normal):
    layer, x = layer_of(16, 16, bias=True), normal(4, K)
    before = layer(x)
    with torch.no_grad():
        layer.bias += 2.0
    torch.testing.assert_close(layer(x), before + 2.0)
    layer(x).sum().backward()
    assert layer.bias.grad.tolist() == [4.0] * 6


def test_a_binarized_input_is_binarized_again(normal):
    x = torch.relu(normal(4, K))
    for coding, same in (("signed", True), ("unipolar", False)):
        layer = layer_of(16, 16, coding)
        once = hadamard_binarize(x, 16, coding)
        assert torch.allclose(layer(once), layer(x), rtol=1e-4, atol=1e-5) == same
        wanted = hadamard_binarize(once, 16, coding) @ hadamard_binarize(layer.weight, 16).T
        torch.testing.assert_close(layer(once), wanted, rtol=1e-4, atol=1e-5)


def test_packed_layer_is_the_network_of_its_bits(normal):
    layer, x = layer_of(16, 64), normal(4, K)
    latents = layer.weight.detach().clone()
    assert not layer.is_packed
    packed = layer.packed()
    layer.load_packed(packed.words, packed.scales)
    assert layer.is_packed
    rows = torch.from_numpy(ops.unpack_signed(packed.words, packed.scales, 16, K))
    assert torch.equal(layer.weight, rows)
    exact = hadamard_binarize(latents, 16)
    assert torch.equal(layer.weight > 0, exact > 0)
    torch.testing.assert_close(layer.weight.detach(), exact, rtol=2**-11, atol=0)
    torch.testing.assert_close(
        layer(x), hadamard_binarize(x, 64, "unipolar") @ layer.weight.T, rtol=1e-4, atol=1e-5
    )


def test_packed_gradient_is_that_of_the_binarized_weight_uncut(normal):
    layer, x = layer_of(16, 16, cut=0.01), normal(4, K)
    packed = layer.packed()
    layer.load_packed(packed.words, packed.scales)
    assert (layer.weight.abs() > 0.01).all()  # a cut would leave nothing
    upstream = normal(4, 6)
    layer(x).backward(upstream)
    wanted = upstream.T @ hadamard_binarize(x, 16, "unipolar")
    torch.testing.assert_close(layer.weight.grad, wanted, rtol=1e-4, atol=1e-5)


def test_loaded_arrays_are_copied(normal):
    layer, x = layer_of(16, 16), normal(4, K)
    packed = layer.packed()
    words, scales = packed.words.copy(), packed.scales.copy()
    layer.load_packed(words, scales)
    before = layer(x)
    words[:] = 0
    scales[:] = 0
    assert torch.equal(layer(x), before)


def test_loading_again_replaces_what_the_network_sees(normal):
    layer, x = layer_of(16, 16), normal(4, K)
    for seed in (1, 2):
        other = HadamardLinear(K, 6, 16, generator=torch.Generator().manual_seed(seed))
        packed = other.packed()
        layer.load_packed(packed.words, packed.scales)
        other.load_packed(packed.words, packed.scales)
        assert torch.equal(layer(x), other(x))


def bad_loads():
    good = layer_of(16, 16).packed()
    words, scales = good.words, good.scales
    past = words.copy()
    past[2, -1] |= np.uint64(1) << np.uint64(K % 64)
    yield past, scales, "bits set past the 130 elements"
    yield words[:, :-1].copy(), scales, r"words must be uint64 of shape \(6, 3\)"
    yield words.astype(np.int64), scales, "words must be uint64"
    yield words, scales[:-1].copy(), r"scales must be float32 of shape \(6, 9\)"
    yield words, scales.astype(np.float64), "scales must be float32"
    yield words, torch.from_numpy(scales), "must be a numpy array"
    for bad in (-0.5, np.inf, np.nan, 0.1, 1e6):  # 0.1 has no float16 of its own
        wrong = scales.copy()
        wrong[1, 4] = bad
        yield words, wrong, "scales must be finite float16 values"


@pytest.mark.parametrize(("words", "scales", "said"), list(bad_loads()))
def test_a_bad_load_is_refused_and_changes_nothing(words, scales, said):
    layer = layer_of(16, 16)
    before = layer.weight.detach().clone()
    with pytest.raises(ValueError, match=said):
        layer.load_packed(words, scales)
    assert torch.equal(layer.weight, before) and not layer.is_packed


def test_packing_latents_rounds_the_scales_and_refuses_diverged_ones():
    layer = layer_of(16, 16)
    exact = pack_weight(layer.weight, 16)
    packed = layer.packed()
    assert np.array_equal(packed.words, exact.words)
    assert np.array_equal(packed.scales, quantize_scales(torch.from_numpy(exact.scales)).numpy())
    with torch.no_grad():
        layer.weight[0, 0] = float("inf")
    with pytest.raises(ValueError, match="diverged"):
        layer.packed()


def test_initial_latents_have_their_variance():
    seed = 11
    print(f"seed {seed}")
    layer = HadamardLinear(256, 256, 16, generator=torch.Generator().manual_seed(seed))
    weight = layer.weight.detach()
    assert float(weight.std()) == pytest.approx(256**-0.5, rel=0.02)
    assert abs(float(weight.mean())) < 1e-3
    again = HadamardLinear(256, 256, 16, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(layer.weight, again.weight)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((0, 3, 2), "in_features must be"),
        ((3, 2.5, 2), "out_features must be"),
        ((3, 3, 0), "beta_w must be"),
        ((3, 3, 2, 0), "beta_a must be"),
        ((3, 3, 2, 2, "binary"), "coding must be"),
        ((3, 3, 2, 2, "signed", -1.0), "cut must be"),
    ],
)
def test_construction_says_what_is_wrong(arguments, said):
    with pytest.raises(ValueError, match=said):
        HadamardLinear(*arguments)


def test_a_wrong_input_is_named(normal):
    with pytest.raises(ValueError, match=r"takes 130 features, the input has shape \(4, 129\)"):
        layer_of(16, 16)(normal(4, 129))
