"""Packed bits on any device, by torch alone: element i is bit i % 8 of byte i // 8, a uint8.

Little-endian words of `meshd.bits` are the same bytes. The kernels do not read these; the tensor
implementation keeps them between forward and backward.
"""

from __future__ import annotations

import torch
from torch import Tensor

BYTE_BITS = 8


def pack_bits(mask: Tensor) -> Tensor:
    """Pack bool (..., K) to uint8 (..., ceil(K/8)); the bits past K are zero."""
    padded = torch.nn.functional.pad(mask.to(torch.uint8), (0, -mask.shape[-1] % BYTE_BITS))
    eights = padded.reshape(*mask.shape[:-1], -1, BYTE_BITS)
    # Bits are disjoint, so their sum is their union and stays within a byte.
    packed: Tensor = (eights << _places(mask.device)).sum(-1, dtype=torch.uint8)
    return packed


def unpack_bits(packed: Tensor, length: int) -> Tensor:
    """Return bool (..., length) of uint8 (..., ceil(length/8))."""
    bits = (packed.unsqueeze(-1) >> _places(packed.device)) & 1
    return bits.flatten(-2)[..., :length].bool()


def _places(device: torch.device) -> Tensor:
    return torch.arange(BYTE_BITS, dtype=torch.uint8, device=device)
