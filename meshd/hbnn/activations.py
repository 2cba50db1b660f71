"""The layers between binary layers: Ramp and Binarize.

Both keep one bit an element for their backward pass. torch.relu keeps its output, 32: before a
binary layer, which keeps bits itself, nobody else would need that float.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from meshd.bits import ops
from meshd.hbnn.binarize import check_beta, check_coding, hadamard_binarize
from meshd.hbnn.estimator import check_cut, check_estimator
from meshd.hbnn.tensor_bits import bytes_of, on_kernels, pack_bits, times_bits


class _Ramp(torch.autograd.Function):
    """max(x, 0); keeps whether x > 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        if ctx.needs_input_grad[0]:
            ctx.channels_last = _channels_last(x)
            ctx.save_for_backward(_positive(_in_memory_order(x, ctx.channels_last)))
        return torch.relu(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (bits,) = ctx.saved_tensors
        result = times_bits(_in_memory_order(grad, ctx.channels_last), bits)
        return result.permute(0, 3, 1, 2) if ctx.channels_last else result


def _channels_last(x: Tensor) -> bool:
    return x.dim() == 4 and not x.is_contiguous()


def _in_memory_order(x: Tensor, channels_last: bool) -> Tensor:
    """Return the elements of `x` as they lie, dense; a copy of any that lie otherwise."""
    return (x.permute(0, 2, 3, 1) if channels_last else x).contiguous()


def _positive(x: Tensor) -> Tensor:
    """Return bits of x > 0, of dense `x` (..., K)."""
    if x.dim() == 0 or x.numel() == 0 or not on_kernels(x):
        return pack_bits(x > 0)
    words, _ = ops.pack_unipolar(x.detach().view(-1, x.shape[-1]).numpy(), x.shape[-1])
    return bytes_of(words, x.shape)


def ramp(x: Tensor) -> Tensor:
    """Return max(x, 0) of floating `x`, any shape; the gradient passes where x > 0.

    Backward keeps a bit an element, in rows of whole 64-bit words along the last dimension (along
    the channels of an image that lies channels last).
    """
    if x.dim() == 0:
        return torch.relu(x)
    result: Tensor = _Ramp.apply(x)  # type: ignore[no-untyped-call]
    return result


class Ramp(nn.Module):
    """max(x, 0), element by element: `ramp`."""

    def forward(self, x: Tensor) -> Tensor:
        """Map each element."""
        return ramp(x)


class Binarize(nn.Module):
    """H_beta of the last dimension, or of an image's channels where `channels_first`.

    The settings are those of `hadamard_binarize`.
    """

    def __init__(
        self,
        beta: int,
        coding: str = "signed",
        cut: float | None = 1.0,
        estimator: str = "cut",
        *,
        channels_first: bool = False,
    ) -> None:
        super().__init__()
        self.beta = check_beta(beta)
        self.coding = check_coding(coding)
        self.cut = check_cut(cut)
        self.estimator = check_estimator(estimator)
        self.channels_first = channels_first

    def forward(self, x: Tensor) -> Tensor:
        """Binarize (..., K), or (B, K, ...) where `channels_first`; the same shape."""
        if self.channels_first:
            x = x.movedim(1, -1)
        x = hadamard_binarize(x, self.beta, self.coding, self.cut, self.estimator)
        return x.movedim(-1, 1) if self.channels_first else x

    def extra_repr(self) -> str:
        """Describe the layer in `print(net)`."""
        return f"beta={self.beta}, {self.coding}, cut={self.cut}, {self.estimator}"
