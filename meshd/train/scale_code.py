"""Gradient scales on the wire: one byte each, on the way round as in the gather.

Law: every byte is a scale, and every member decodes the same float32 from it.

A code is a float of 5 bits of exponent and 3 of fraction, without a sign: the top of a float32's
bits, counted from FIRST. Eight codes an octave, 32 octaves:

    code 0    0
    code c    the float32 whose bits are (FIRST + c) << 20:  2^-27 (1 + c/8) for c < 8, ..., 30

Encoding rounds to the nearest of these, ties to the even fraction: off by 1/16 at most, 3 % in the
mean. Beyond 30 it stays at 30, below 2^-27 (1 + 1/16) it is 0. A may be coarse, because every
member subtracts the same A from what it wanted to say and carries the rest (docs/algorithm.md): an
A of 0 says nothing in this step and carries all of it, until the sum is large enough.

Round the ring goes the mean over the members so far, not their sum:

    mean_k = mean_(k-1) + (a - mean_(k-1)) / k         mean_(k-1) decoded from what arrived

Of a sum in such codes, the k-th addend is about 1/k and is lost to rounding once k > 16: in a ring
of 64 the sum ends at half of what it should be. The error of a mean has no side, and its
range does not grow with the ring (measured: docs/adr/0018).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]

SHIFT = 20  # bits of a float32's fraction that are dropped, of 23
FIRST = (127 - 27) << 3  # exponent -27 biased as float32's, then 3 bits of fraction
HALF_BELOW = (1 << (SHIFT - 1)) - 1

DECODED: Floats = (np.arange(FIRST, FIRST + 256, dtype=np.uint32) << np.uint32(SHIFT)).view(
    np.float32
)
DECODED[0] = 0.0
DECODED.flags.writeable = False


def encode_scales(scales: Floats) -> Codes:
    """Codes uint8 (n,) of scales float32 (n,).

    Raises:
        ValueError: a scale is negative or not finite.
    """
    if not bool((np.isfinite(scales) & (scales >= 0)).all()):
        raise ValueError("a scale is negative or not finite")
    bits = (scales + np.float32(0)).view(np.uint32)  # makes -0 a 0
    even = (bits >> np.uint32(SHIFT)) & np.uint32(1)
    rounded = (bits + np.uint32(HALF_BELOW) + even) >> np.uint32(SHIFT)
    kept = np.clip(rounded, np.uint32(FIRST), np.uint32(FIRST + 255))
    codes: Codes = (kept - np.uint32(FIRST)).astype(np.uint8)
    return codes


def decode_scales(codes: Codes) -> Floats:
    """Scales float32 (n,) of any codes uint8 (n,): finite, not negative, the same everywhere."""
    scales: Floats = DECODED[codes]
    return scales


def mean_with(codes: Codes, own: Floats, members: int) -> Floats:
    """The mean over `members` of whom this one is the last, float32 (n,), to be encoded again.

    codes (n,): the mean over the others, as it arrived. own (n,): this member's scales. Each
    operation is rounded on its own, so the result is the same on every machine.
    """
    before = decode_scales(codes)
    return before + (own - before) / np.float32(members)
