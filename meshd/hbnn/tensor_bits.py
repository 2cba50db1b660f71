"""Packed bits as torch tensors: what is kept between forward and backward, on any device.

Element i of a row is bit i % 8 of byte i // 8, a uint8, and a row is whole words of eight bytes: on
the CPU the same bytes as `meshd.bits` has, so its kernels pack and unpack them where they can.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from meshd.bits import ops

BYTE_BITS, WORD_BITS = 8, 64


def on_kernels(x: Tensor) -> bool:
    """Whether the kernels can read `x`: float32 in the CPU's memory, and no graph is traced."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and not torch.compiler.is_compiling()


def pack_bits(mask: Tensor) -> Tensor:
    """Pack bool (..., K) to uint8 (..., 8 ceil(K/64)); the bits past K are zero."""
    padded = torch.nn.functional.pad(mask.to(torch.uint8), (0, -mask.shape[-1] % WORD_BITS))
    eights = padded.unflatten(-1, (padded.shape[-1] // BYTE_BITS, BYTE_BITS))  # type: ignore[no-untyped-call]
    # Bits are disjoint, so their sum is their union and stays within a byte.
    packed: Tensor = (eights << _places(mask.device)).sum(-1, dtype=torch.uint8)
    return packed


def unpack_bits(packed: Tensor, length: int) -> Tensor:
    """Return bool (..., length) of uint8 (..., 8 ceil(length/64))."""
    bits = (packed.unsqueeze(-1) >> _places(packed.device)) & 1
    return bits.flatten(-2)[..., :length].bool()


def times_bits(grad: Tensor, packed: Tensor) -> Tensor:
    """Return grad (..., K) where a bit of packed (..., 8 ceil(K/64)) is 1, else 0 times it."""
    length = grad.shape[-1]
    if not on_kernels(grad) or grad.numel() == 0:
        return grad * unpack_bits(packed, length)
    words = packed.reshape(-1, packed.shape[-1]).numpy().view(np.uint64)
    result = torch.empty(grad.shape)
    ones = np.ones((len(words), 1), np.float32)
    ops.unpack_unipolar(words, ones, length, length, out=result.view(-1, length).numpy())
    return result.mul_(grad)


def bytes_of(words: NDArray[np.uint64], shape: torch.Size) -> Tensor:
    """Return words (R, W), rows of a tensor of `shape` (..., K), as uint8 (..., 8 W)."""
    return torch.from_numpy(words.view(np.uint8)).view(*shape[:-1], words.shape[1] * BYTE_BITS)


def int64_of(words: NDArray[np.uint64]) -> Tensor:
    """Return words as a tensor that shares their memory: torch's uint64 can do little."""
    return torch.from_numpy(words.view(np.int64))


def words_of(tensor: Tensor) -> NDArray[np.uint64]:
    """Return the words of `int64_of`."""
    words: NDArray[np.uint64] = tensor.numpy().view(np.uint64)
    return words


def _places(device: torch.device) -> Tensor:
    return torch.arange(BYTE_BITS, dtype=torch.uint8, device=device)
