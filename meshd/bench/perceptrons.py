"""One multi-layer perceptron, as different programs compute it: float32, emulated, and binary.

`layers` products of `width` x `width` with a Ramp between them, no bias; the last one gives as many
logits as there are classes. Law: all programs share one list of weights (latents, where they are
binarized), so that one optimizer with one state serves them all, from the same memory.

The float32 programs differ in who multiplies. `torch.nn.Linear` goes to the library that torch was
built with, MKL as a rule, which is slow on other makers' processors; oneDNN is reached by the
operator below, forward and backward, and is the faster of the two there.

The emulation is what one writes in torch for the same network: scales by `mean`, codes by `sign`,
straight through where |x| <= 1, dense products. sign(0) = 0, so the same line serves activations
after a Ramp.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from meshd.hbnn.activations import Ramp
from meshd.hbnn.linear import HadamardLinear

CUT = 1.0
Network = Callable[[Tensor], Tensor]


def start_weights(width: int, layers: int, seed: int) -> list[nn.Parameter]:
    """Return `layers` matrices (width, width) of normal deviates of variance 1 / width."""
    generator = torch.Generator().manual_seed(seed)
    return [
        nn.Parameter(torch.randn(width, width, generator=generator) / width**0.5)
        for _ in range(layers)
    ]


def float_network(weights: Sequence[nn.Parameter]) -> Network:
    """`torch.nn.Linear` and ReLU, as torch computes them when nothing else is asked for."""

    def forward(x: Tensor) -> Tensor:
        for weight in weights[:-1]:
            x = torch.relu(functional.linear(x, weight))
        return functional.linear(x, weights[-1])

    return forward


def autocast_network(weights: Sequence[nn.Parameter]) -> Network:
    """The same under autocast to bfloat16; the weights and the optimizer stay float32."""
    inner = float_network(weights)

    def forward(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return inner(x)

    return forward


def onednn_network(weights: Sequence[nn.Parameter]) -> Network:
    """The same with oneDNN's float32 products, forward and backward."""

    def forward(x: Tensor) -> Tensor:
        for weight in weights[:-1]:
            x = torch.relu(_multiply(x, weight))
        return _multiply(x, weights[-1])

    return forward


def _multiply(x: Tensor, weight: Tensor) -> Tensor:
    result: Tensor = _OneDnnLinear.apply(x, weight)  # type: ignore[no-untyped-call]
    return result


class _OneDnnLinear(torch.autograd.Function):
    """x @ weight^T; oneDNN reads a transposed operand as it lies, which is faster than a copy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return onednn_product(x, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor]:
        x, weight = ctx.saved_tensors
        grad_x = onednn_product(grad, weight.t()) if ctx.needs_input_grad[0] else None
        return grad_x, onednn_product(grad.t(), x.t())


def onednn_product(x: Tensor, w: Tensor) -> Tensor:
    """Return x @ w^T by oneDNN: (M, K), (N, K) -> (M, N)."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, w, None, "none", [], "")
    return result


def emulated_network(weights: Sequence[nn.Parameter], beta: int) -> Network:
    """The binary network in dense torch operations; `beta` must divide the width."""

    def forward(x: Tensor) -> Tensor:
        for weight in weights[:-1]:
            x = torch.relu(functional.linear(_binarize(x, beta), _binarize(weight, beta)))
        return functional.linear(_binarize(x, beta), _binarize(weights[-1], beta))

    return forward


def _binarize(x: Tensor, beta: int) -> Tensor:
    result: Tensor = _SignTimesMean.apply(x, beta)  # type: ignore[no-untyped-call]
    return result


class _SignTimesMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, beta: int) -> Tensor:
        ctx.save_for_backward(x)
        segments = x.reshape(*x.shape[:-1], -1, beta)
        return (segments.sign() * segments.abs().mean(-1, keepdim=True)).reshape(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return grad * (x.abs() <= CUT), None


def binary_network(weights: Sequence[nn.Parameter], beta: int, backward: str) -> nn.Sequential:
    """The network of `meshd.hbnn`; `backward` is the precision of its gradients."""
    width = len(weights[0])
    net = nn.Sequential()
    for i, weight in enumerate(weights):
        with torch.device("meta"):  # its own latents would be drawn for nothing
            layer = HadamardLinear(
                width,
                width,
                beta,
                beta,
                coding="unipolar" if i else "signed",
                cut=CUT,
                backward=backward,
            )
        layer.weight = weight
        net.append(layer)
        if i + 1 < len(weights):
            net.append(Ramp())
    return net
