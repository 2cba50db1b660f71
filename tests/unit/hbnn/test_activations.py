"""Ramp and Binarize: torch's numbers, and what they keep for backward."""

from __future__ import annotations

import pytest
import torch

from meshd.hbnn.activations import Binarize, Ramp
from meshd.hbnn.binarize import hadamard, hadamard_binarize

SHAPES = [(5,), (3, 64), (2, 3, 70), (2, 5, 4, 3), (0, 7), (3, 0)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_ramp_is_relu(normal, shape, dtype):
    values, upstream = normal(*shape).to(dtype), normal(*shape).to(dtype)
    found, wanted = (values.clone().requires_grad_() for _ in range(2))
    y = Ramp()(found)
    y.backward(upstream)
    torch.relu(wanted).backward(upstream)
    assert torch.equal(y, torch.relu(values)) and torch.equal(found.grad, wanted.grad)


def test_ramp_follows_how_an_image_lies(normal):
    values, upstream = normal(2, 5, 4, 3), normal(2, 5, 4, 3)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        for other in (torch.contiguous_format, torch.channels_last):
            x = values.clone(memory_format=memory_format).requires_grad_()
            Ramp()(x).backward(upstream.to(memory_format=other))
            assert torch.equal(x.grad, upstream * (values > 0))


def test_ramp_at_zero_and_of_a_scalar():
    x = torch.tensor([0.0, -0.0, 1e-45, float("inf")], requires_grad=True)
    Ramp()(x).sum().backward()
    assert x.grad.tolist() == [0, 0, 1, 1]
    assert Ramp()(torch.tensor(-2.0)) == 0


@pytest.mark.parametrize("coding", ["signed", "unipolar"])
@pytest.mark.parametrize("beta", [1, 3, 16, 64, 100])
def test_kernels_binarize_as_torch_does(normal, beta, coding):
    x = normal(2, 3, 70)
    x[0, 0, ::3] = 0.0
    torch.testing.assert_close(hadamard_binarize(x, beta, coding), hadamard(x, beta, coding))


def test_an_images_channels_are_binarized(normal):
    x = normal(2, 8, 3, 4)
    layer = Binarize(4, "unipolar", channels_first=True)
    wanted = hadamard(x.movedim(1, -1), 4, "unipolar").movedim(-1, 1)
    torch.testing.assert_close(layer(x), wanted)
    assert torch.equal(Binarize(4)(x), hadamard_binarize(x, 4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layer", [Ramp(), Binarize(64), Binarize(64, "unipolar", 0.5)])
def test_a_bit_an_element_is_kept(normal, layer, dtype):
    x = normal(4, 640).to(dtype).requires_grad_()
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(saved.append, lambda t: t):
        layer(x)
    assert sum(tensor.nbytes for tensor in saved) == x.numel() // 8
