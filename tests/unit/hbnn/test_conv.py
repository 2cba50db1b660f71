"""HadamardConv2d: kernels, tensor route and definition agree, forward and backward."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from meshd.bits import ops
from meshd.hbnn.binarize import hadamard_binarize
from meshd.hbnn.conv import HadamardConv2d
from meshd.hbnn.conv_product import conv_native, native_conv_takes
from meshd.hbnn.linear import HadamardLinear
from meshd.hbnn.tensor_conv import conv_tensor

# in, out, kernel, stride, padding, dilation, groups, height, width
PLAIN = (16, 6, 3, 1, 1, 1, 1, 5, 6)
ODD = (32, 4, (2, 3), (2, 1), (0, 2), (1, 2), 2, 7, 8)
WIDE = (64, 8, 3, 2, 1, 1, 1, 6, 5)
NATIVE = [
    (PLAIN, 16, 16),
    (PLAIN, 8, 16),
    (PLAIN, 1000, 16),
    (PLAIN, 8, 1000),
    (PLAIN, 1000, 1000),
    (ODD, 8, 16),
    (ODD, 96, 96),
    (WIDE, 64, 64),
    (WIDE, 16, 64),
]


@pytest.fixture(params=ops.list_isas())
def isa(request):
    before = ops.isa()
    ops.use_isa(request.param)
    yield request.param
    ops.use_isa(before)


def layer_of(shape, beta_w, beta_a, coding="signed", **options):
    inputs, outputs, kernel, stride, padding, dilation, groups, *_ = shape
    generator = torch.Generator().manual_seed(3)
    return HadamardConv2d(
        *(inputs, outputs, kernel, beta_w, beta_a, stride, padding, dilation, groups, coding),
        **options,
        generator=generator,
    )


def slow_convolution(layer, x, beta_w, beta_a, oracle):
    """Window by window, in float64: binarized by the definition, padded taps left out."""
    rule = layer.rule
    weight = layer.weight.detach().permute(0, 2, 3, 1)  # (O, kh, kw, C / groups)
    outputs, kh, kw, tap = weight.shape
    w_hat = oracle(weight.reshape(outputs, -1), beta_w, "signed").reshape(weight.shape)
    image = x.detach().permute(0, 2, 3, 1).numpy().astype(np.float64)
    batch, height, width, _ = image.shape
    size = rule.shape((*image.shape,)).out_size
    y = np.zeros((batch, *size, outputs))
    for b, i, j, o in np.ndindex(y.shape):
        group = o // (outputs // rule.groups)
        channels = slice(group * tap, (group + 1) * tap)
        seen = {}
        for ty, tx in np.ndindex(kh, kw):
            row = i * rule.stride[0] - rule.padding[0] + ty * rule.dilation[0]
            column = j * rule.stride[1] - rule.padding[1] + tx * rule.dilation[1]
            if 0 <= row < height and 0 <= column < width:
                seen[ty, tx] = image[b, row, column, channels]
        window = np.array(list(seen.values()))
        for (ty, tx), pixel in seen.items():
            hat = oracle(torch.from_numpy(pixel[None]), beta_a, rule.coding)[0]
            if beta_a >= kh * kw * tap:
                hat = (
                    np.abs(window).mean()
                    * oracle(torch.from_numpy(np.sign(pixel)[None]), 1, rule.coding)[0]
                )
            y[b, i, j, o] += hat @ w_hat[o, ty, tx]
    return torch.from_numpy(y).permute(0, 3, 1, 2)


@pytest.mark.parametrize("coding", ["signed", "unipolar"])
@pytest.mark.parametrize(
    ("shape", "beta_w", "beta_a"),
    [*NATIVE[:7], (PLAIN, 5, 7), (PLAIN, 1, 1), (ODD, 4, 1), ((4, 4, 3, 1, 1, 1, 4, 4, 4), 1, 1)],
)
def test_forward_is_the_definition(normal, oracle, shape, beta_w, beta_a, coding):
    layer, x = layer_of(shape, beta_w, beta_a, coding), normal(2, shape[0], *shape[-2:])
    wanted = slow_convolution(layer, x, beta_w, beta_a, oracle)
    torch.testing.assert_close(layer(x).double(), wanted, rtol=1e-4, atol=1e-5)
    tensor = conv_tensor(x, layer.weight, True, layer.rule)
    torch.testing.assert_close(tensor.double(), wanted, rtol=1e-4, atol=1e-5)


def run(route, layer, values, upstream, state="latents", gain=None):
    """Return Y and the gradients of image, weight and gain by one route."""
    x = values.clone().requires_grad_()
    weight = layer.weight.detach().clone().requires_grad_()
    gain = None if gain is None else gain.clone().requires_grad_()
    second = state == "latents"
    if route is conv_native:
        second = None if state == "latents" else layer.packed()
    y = route(x, weight, second, layer.rule, gain)
    y.backward(upstream[: y.shape[0], :, : y.shape[2], : y.shape[3]])
    return y.detach(), x.grad, weight.grad, *([] if gain is None else [gain.grad])


def assert_routes_agree(layer, values, upstream, **how):
    assert native_conv_takes(values, layer.weight, layer.rule)
    native = run(conv_native, layer, values, upstream, **how)
    tensor = run(conv_tensor, layer, values, upstream, **how)
    for found, wanted in zip(native, tensor, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backward", ["exact", "planes(2)"])
@pytest.mark.parametrize("coding", ["signed", "unipolar"])
@pytest.mark.parametrize(("shape", "beta_w", "beta_a"), NATIVE)
def test_native_and_tensor_routes_agree(normal, shape, beta_w, beta_a, coding, backward):
    layer = layer_of(shape, beta_w, beta_a, coding, cut=0.1, cut_a=0.9, backward=backward)
    values, upstream = normal(2, shape[0], *shape[-2:]), normal(2, shape[1], 9, 9)
    assert_routes_agree(layer, values, upstream)


@pytest.mark.parametrize("state", ["latents", "packed"])
@pytest.mark.parametrize("estimator", ["cut", "polynomial"])
@pytest.mark.parametrize("backward", ["exact", "planes(2)"])
@pytest.mark.parametrize("beta", [64, 128])
def test_routes_agree_on_every_instruction_set(isa, normal, state, estimator, backward, beta):
    shape = (128, 6, 3, 1, 1, 1, 1, 4, 5)
    layer = layer_of(shape, beta, beta, cut=0.2, estimator=estimator, backward=backward)
    if state == "packed":
        packed = layer.packed()
        layer.load_packed(packed.words, packed.scales)
    values, upstream = normal(2, 128, 4, 5), normal(2, 6, 4, 5)
    assert_routes_agree(layer, values, upstream, state=state, gain=torch.linspace(-1, 2, 6))


@pytest.mark.parametrize(
    ("backward", "rounds", "bound"), [("int8", 1, 0.02), ("planes(2)", 16, 0.5)]
)
@pytest.mark.parametrize("coding", ["signed", "unipolar"])
def test_rounded_gradients_have_the_exact_ones_for_mean(normal, coding, backward, rounds, bound):
    """Random: the routes draw other bits, each unbiased, padded taps included."""
    shape = (64, 72, *WIDE[2:])
    layers = [
        layer_of(shape, 64, 64, coding, cut=None, backward=how) for how in ("exact", backward)
    ]
    values, upstream = normal(8, 64, 6, 5), normal(8, 72, 3, 3)
    torch.manual_seed(1)
    for route in (conv_native, conv_tensor):
        _, *wanted = run(route, layers[0], values, upstream)
        runs = [run(route, layers[1], values, upstream)[1:] for _ in range(rounds)]
        for exact, *found in zip(wanted, *runs, strict=True):
            error = float((sum(found) / rounds - exact).norm() / exact.norm())
            assert 0 < error < bound


def test_gradients_are_those_of_a_dense_convolution_straight_through(normal):
    """Float64, autograd of torch's own convolution of the binarized image and filters."""
    layer = layer_of(PLAIN, 16, 16, cut=0.1, cut_a=0.8).double()
    x = normal(2, 16, 5, 6).double().requires_grad_()
    y = layer(x)
    upstream = normal(*y.shape).double()
    y.backward(upstream)
    x_hat = hadamard_binarize(x.detach().movedim(1, -1), 16).movedim(-1, 1).requires_grad_()
    latents = layer.weight.detach()
    w_hat = hadamard_binarize(latents.movedim(1, -1), 16).movedim(-1, 1).requires_grad_()
    torch.nn.functional.conv2d(x_hat, w_hat, padding=1).backward(upstream)
    torch.testing.assert_close(x.grad, x_hat.grad * (x.detach().abs() <= 0.8))
    torch.testing.assert_close(layer.weight.grad, w_hat.grad * (latents.abs() <= 0.1))


def test_a_pointwise_convolution_is_a_linear_layer_of_pixels(normal):
    conv = layer_of((32, 6, 1, 1, 0, 1, 1, 3, 4), 16, 32)
    linear = HadamardLinear(32, 6, 16, 32, "signed")
    with torch.no_grad():
        linear.weight.copy_(conv.weight[:, :, 0, 0])
    x = normal(2, 32, 3, 4)
    wanted = linear(x.movedim(1, -1)).movedim(-1, 1)
    torch.testing.assert_close(conv(x), wanted, rtol=1e-5, atol=1e-5)


def test_memory_formats_and_no_images(normal):
    layer, x = layer_of(PLAIN, 16, 16), normal(3, 16, 5, 6)
    assert layer.weight.is_contiguous(memory_format=torch.channels_last)
    last = x.to(memory_format=torch.channels_last)
    assert torch.equal(layer(x), layer(last)) and torch.equal(layer(x[1:2]), layer(x)[1:2])
    assert layer(x).is_contiguous(memory_format=torch.channels_last)
    assert layer(x[:0]).shape == (0, 6, 5, 6)
    layer(x).sum().backward()
    assert layer.weight.grad.stride() == layer.weight.stride()


def test_packed_layer_is_the_network_of_its_bits(normal):
    layer, x = layer_of(PLAIN, 8, 16, bias=True, gain=True), normal(2, 16, 5, 6)
    exact = layer(x)
    packed = layer.packed()
    assert packed.words.shape == (6, 3) and packed.scales.shape == (6, 18)
    layer.load_packed(packed.words, packed.scales)
    assert layer.is_packed
    torch.testing.assert_close(layer(x), exact, rtol=5e-3, atol=5e-3)  # scales of 16 bits
    rows = torch.from_numpy(ops.unpack_signed(packed.words, packed.scales, 8, 144))
    assert torch.equal(layer.as_rows(layer.weight), rows)
    assert (layer.rows, layer.columns, layer.beta_w) == (6, 144, 8)


def test_filters_that_lie_otherwise_are_the_same_layer(normal):
    """Regression: packed bits were loaded into a copy of such a weight."""
    layer, other = layer_of(PLAIN, 8, 16), layer_of(PLAIN, 8, 16)
    x = normal(2, 16, 5, 6)
    other.to(memory_format=torch.contiguous_format)
    other.weight = torch.nn.Parameter(other.weight.detach().contiguous())
    assert torch.equal(layer(x), other(x))
    packed = layer.packed()
    packed.words[:, -1] ^= np.uint64(2**16 - 1)  # other signs in the last 16 elements of 144
    for one in (layer, other):
        one.load_packed(packed.words, packed.scales)
    assert torch.equal(layer.weight, other.weight) and torch.equal(layer(x), other(x))


def test_betas_between_a_tap_and_a_filter_count_as_a_tap():
    layer = layer_of(PLAIN, 100, 17)
    assert (layer.beta_w, layer.beta_a) == (16, 16)
    whole = layer_of(PLAIN, 144, 10**9)
    assert (whole.beta_w, whole.beta_a) == (144, 144)


def test_the_layer_takes_the_kernels_only_where_they_can(normal):
    x = normal(1, 16, 5, 6)
    for beta_w, beta_a in ((16, 1), (6, 6), (8, 6), (4, 4)):
        layer = layer_of(PLAIN, beta_w, beta_a)
        assert not native_conv_takes(x, layer.weight, layer.rule)
    layer = layer_of(PLAIN, 16, 8)
    assert native_conv_takes(x, layer.weight, layer.rule)
    assert not native_conv_takes(x.double(), layer.weight, layer.rule)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((0, 8, 3, 8), "in_channels must be"),
        ((8, 8, 0, 8), "kernel_size must be"),
        ((8, 8, (3, 3, 3), 8), "kernel_size must be"),
        ((8, 8, 3, 8, 0), "beta_a must be"),
        ((8, 8, 3, 8, 8, 0), "stride must be"),
        ((8, 8, 3, 8, 8, 1, -1), "padding must be"),
        ((8, 8, 3, 8, 8, 1, "same"), "padding must be"),
        ((8, 9, 3, 8, 8, 1, 1, 1, 2), "groups must divide"),
        ((8, 8, 3, 8, 8, 1, 1, 1, 1, "ternary"), "coding must be"),
    ],
)
def test_construction_says_what_is_wrong(arguments, said):
    with pytest.raises(ValueError, match=said):
        HadamardConv2d(*arguments)


def test_a_wrong_input_is_named(normal):
    layer = layer_of(PLAIN, 16, 16)
    with pytest.raises(ValueError, match=r"takes images \(B, 16, H, W\), .* \(2, 15, 5, 5\)"):
        layer(normal(2, 15, 5, 5))
    with pytest.raises(ValueError, match="kernel"):
        layer_of((16, 6, 9, 1, 0, 1, 1, 5, 5), 16, 16)(normal(2, 16, 5, 5))
