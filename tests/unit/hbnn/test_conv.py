"""HadamardConv2d: kernels, tensor route and definition agree, forward and backward."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from meshd.bits import ops
from meshd.hbnn.conv import HadamardConv2d
from meshd.hbnn.conv_product import conv_native, native_conv_takes
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


@pytest.mark.parametrize("state", ["latents", "packed"])
@pytest.mark.parametrize("backward", ["exact", "planes(1)", "planes(2)", "planes(4)"])
@pytest.mark.parametrize("coding", ["signed", "unipolar"])
@pytest.mark.parametrize(("shape", "beta_w", "beta_a"), NATIVE)
def test_native_and_tensor_routes_agree(
    isa, normal, shape, beta_w, beta_a, coding, backward, state
):
    layer = layer_of(shape, beta_w, beta_a, coding, cut=0.1, cut_a=0.9, backward=backward)
    packed = None
    if state == "packed":
        packed = layer.packed()
        layer.load_packed(packed.words, packed.scales)
    values = normal(2, shape[0], *shape[-2:])
    assert native_conv_takes(values, layer.weight, layer.rule)
    found = []
    upstream = None
    for route in (conv_native, conv_tensor):
        x = values.clone().requires_grad_()
        weight = layer.weight.detach().clone().requires_grad_()
        gain = torch.linspace(-1, 2, shape[1]).requires_grad_()
        second = packed if route is conv_native else state == "latents"
        y = route(x, weight, second, layer.rule, gain)
        upstream = normal(*y.shape) if upstream is None else upstream
        y.backward(upstream)
        found.append((y.detach(), x.grad, weight.grad, gain.grad))
    for native, tensor in zip(*found, strict=True):
        torch.testing.assert_close(native, tensor, rtol=1e-4, atol=1e-4)
