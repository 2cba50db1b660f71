"""The operations of `backward` in plain numpy, as `reference` has the others, and by its law."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from meshd.bits.layout import Floats, Words
from meshd.bits.reference import unpack_bits

COUNTS_AS_ZERO = np.float32(1e-30)
MASK64 = 2**64 - 1


def backward_exact(
    g: Floats,
    words: Words,
    scales: Floats,
    beta: int,
    k: int,
    *,
    transposed: bool = False,
    unipolar: bool = False,
    keep: Words | None = None,
) -> Floats:
    """Out (R, k): c ascending in groups of five, each group summed on its own first."""
    g = g.T if transposed else g
    bits = unpack_bits(words, k).astype(np.float32)
    codes = bits if unipolar else 2 * bits - 1
    out = np.zeros((g.shape[0], k), np.float32)
    for s, (begin, end) in enumerate(_cuts(k, beta)):
        out[:, begin:end] = _sum_by_fives(g * scales[:, s], codes[:, begin:end])
    return _kept(out, keep)


def _cuts(k: int, beta: int) -> list[tuple[int, int]]:
    return [(begin, min(begin + beta, k)) for begin in range(0, k, beta)]


def _kept(out: Floats, keep: Words | None) -> Floats:
    return out if keep is None else np.where(unpack_bits(keep, out.shape[1]), out, np.float32(0))


def _sum_by_fives(v: Floats, codes: Floats) -> Floats:
    """Product v (R, C) @ codes (C, n), C padded to a multiple of five with zeros."""
    fives = -(-v.shape[1] // 5) * 5
    v = np.pad(v, ((0, 0), (0, fives - v.shape[1])))
    codes = np.pad(codes, ((0, fives - codes.shape[0]), (0, 0)))
    total = np.zeros((v.shape[0], codes.shape[1]), np.float32)
    for first in range(0, fives, 5):
        group = v[:, first, None] * codes[first]
        for c in range(first + 1, first + 5):
            group = group + v[:, c, None] * codes[c]
        total = total + group
    return total


def product_floats(x: Floats, w_words: Words, w_scales: Floats, beta_w: int, k: int) -> Floats:
    """Y (M, N) = x W^T with a signed W of -1 and +1, segment by segment."""
    signs = (2 * unpack_bits(w_words, k).astype(np.float32) - 1).T
    acc = np.zeros((x.shape[0], w_words.shape[0]), np.float32)
    for s, (begin, end) in enumerate(_cuts(k, beta_w)):
        acc = acc + w_scales[:, s] * _sum_by_fives(x[:, begin:end], signs[begin:end])
    return acc


def backward_int8(
    g: Floats,
    words: Words,
    scales: Floats,
    beta: int,
    k: int,
    *,
    seed: int,
    transposed: bool = False,
    unipolar: bool = False,
    keep: Words | None = None,
) -> Floats:
    """Out (R, k) from v = step * int8, rounded up or down by a hash of (seed, r, s, c)."""
    g = g.T if transposed else g
    codes = unpack_bits(words, k).astype(np.int64) * (1 if unipolar else 2) - (not unipolar)
    out = np.zeros((g.shape[0], k), np.float32)
    for s, (begin, end) in enumerate(_cuts(k, beta)):
        for r, v in enumerate(g * scales[:, s]):
            largest = np.max(np.abs(v), initial=np.float32(0))
            step, q = np.float32(np.nan), np.zeros(v.size, np.int64)
            if np.isfinite(largest):
                step = largest / np.float32(127) if largest >= COUNTS_AS_ZERO else np.float32(0)
            if step > 0:
                fixed = (v * (np.float32(127 * 65536) / largest)).astype(np.int64)
                key = _mixed(_mixed(_mixed(seed, 0), r), s)
                q = np.minimum((fixed + (_hashes(key, v.size) >> 16)) >> 16, 127)
            out[r, begin:end] = step * (q @ codes[:, begin:end]).astype(np.float32)
    return _kept(out, keep)


def _mixed(state: int, part: int) -> int:
    """One step of splitmix64 from state, at distance `part`."""
    state = (state + (part + 1) * 0x9E3779B97F4A7C15) & MASK64
    state = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) & MASK64
    state = ((state ^ state >> 27) * 0x94D049BB133111EB) & MASK64
    return state ^ state >> 31


def _hashes(key: int, n: int) -> npt.NDArray[np.int64]:
    """32 bits for each counter c < n."""
    x = (np.arange(n, dtype=np.uint64) + np.uint64(key & 0xFFFFFFFF)).astype(np.uint32)
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x7FEB352D)
    x ^= x >> np.uint32(15)
    x ^= np.uint32(key >> 32)
    x *= np.uint32(0x846CA68B)
    return x.astype(np.int64)


def backward_planes(
    g: Floats,
    words: Words,
    scales: Floats,
    beta: int,
    k: int,
    *,
    planes: int,
    seed: int,
    transposed: bool = False,
    unipolar: bool = False,
    keep: Words | None = None,
) -> Floats:
    """Out (R, k) from v = step * (2 d - L), digit d = 0..L, rounded by a hash of (seed, r, s)."""
    g = g.T if transposed else g
    codes = unpack_bits(words, k).astype(np.int64) * (1 if unipolar else 2) - (not unipolar)
    out = np.zeros((g.shape[0], k), np.float32)
    most = 1 if planes == 1 else 2**planes - 2
    for s, (begin, end) in enumerate(_cuts(k, beta)):
        for r, v in enumerate(g * scales[:, s]):
            largest = np.max(np.abs(v), initial=np.float32(0))
            step, values = np.float32(np.nan), np.zeros(v.size, np.int64)
            if np.isfinite(largest):
                step = largest / np.float32(most) if largest >= COUNTS_AS_ZERO else np.float32(0)
            if step > 0:
                fixed = np.rint(v * (np.float32(32768 * most) / largest)).astype(np.int64)
                key = _mixed(_mixed(_mixed(seed, 0), r), s)
                values = 2 * _digits_in_chains(fixed + 32768 * most, key) - most
            out[r, begin:end] = step * (values @ codes[:, begin:end]).astype(np.float32)
    return _kept(out, keep)


def _digits_in_chains(fixed: npt.NDArray[np.int64], key: int) -> npt.NDArray[np.int64]:
    """How many times 2^16 each number brings the running sum of its chain past a multiple of it.

    c = j * groups + g, in groups of seven j; groups of the same g mod 16 are a chain, by g, then j.
    """
    groups = -(-fixed.size // 7)
    digits = np.zeros(fixed.size, np.int64)
    for chain in range(16):
        carry = _mixed(key, chain // 4) >> 16 * (chain % 4) & 0xFFFF
        places = np.arange(chain, groups, 16)[:, None] + groups * np.arange(7)
        places = places[places < fixed.size]  # flat, row by row
        sums = carry + np.concatenate([[0], np.cumsum(fixed[places])])
        digits[places] = np.diff(sums >> 16)
    return digits
