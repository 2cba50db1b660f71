"""Every operation of `ops` in plain numpy: the tests' oracle, written to be read, not to be fast.

Law: the same names, arguments and results as `ops`, straight from the definitions, sharing no code
with the kernels. float32 throughout; each addition and product is rounded on its own. Arguments are
not checked here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from meshd.bits.layout import WORD_BITS, Floats, Words, segments, words

Bits = npt.NDArray[np.uint8]

LANES = 16  # partial sums of a mean, see mean_abs


def pack_bits(bits: Bits) -> Words:
    """Bits (R, K), each 0 or 1, to words (R, words(K))."""
    rows, k = bits.shape
    padded = np.zeros((rows, words(k) * WORD_BITS), np.uint8)
    padded[:, :k] = bits
    return np.packbits(padded, axis=1, bitorder="little").view("<u8").astype(np.uint64)


def unpack_bits(packed: Words, k: int) -> Bits:
    """Words (R, words(k)) to bits (R, k)."""
    as_bytes = packed.astype("<u8").view(np.uint8)
    return np.unpackbits(as_bytes, axis=1, count=k, bitorder="little")


def mean_abs(x: Floats, beta: int) -> Floats:
    """Mean |x| of the segments of x (R, K): (R, segments(K, beta)).

    The order of the sum is part of the contract, since every member must get the same bits: lane j
    of 16 adds |x[i]| for i = j mod 16, i counted from the segment's start, upwards from +0; then
    lanes[j] += lanes[j + 8], += lanes[j + 4], += lanes[j + 2], += lanes[j + 1].
    """
    rows, k = x.shape
    count = segments(k, beta)
    means = np.zeros((rows, count), np.float32)
    for s in range(count):
        segment = np.abs(x[:, s * beta : (s + 1) * beta])
        length = segment.shape[1]
        lanes = np.zeros((rows, LANES), np.float32)
        for start in range(0, length, LANES):
            block = segment[:, start : start + LANES]
            lanes[:, : block.shape[1]] += block
        for half in (8, 4, 2, 1):
            lanes = lanes[:, :half] + lanes[:, half:]
        means[:, s] = lanes[:, 0] / np.float32(length)
    return means


def spread(scales: Floats, beta: int, k: int) -> Floats:
    """Each element's scale: scales (..., segments(k, beta)) to (..., k)."""
    return scales[..., np.arange(k) // beta]


def pack_signed(x: Floats, beta: int) -> tuple[Words, Floats]:
    """Bit = x >= 0, scale = mean |x|."""
    return pack_bits((x >= 0).astype(np.uint8)), mean_abs(x, beta)


def pack_unipolar(x: Floats, beta: int) -> tuple[Words, Floats]:
    """Bit = x > 0, scale = mean |x|."""
    return pack_bits((x > 0).astype(np.uint8)), mean_abs(x, beta)


def within(x: Floats, cut: float) -> Words:
    """Packed bits of |x| <= cut."""
    return pack_bits((np.abs(x) <= np.float32(cut)).astype(np.uint8))


def unpack_signed(words: Words, scales: Floats, beta: int, k: int) -> Floats:
    """Matrix (R, k) of +scale and -scale."""
    alpha = spread(scales, beta, k)
    return np.where(unpack_bits(words, k), alpha, -alpha)


def unpack_unipolar(words: Words, scales: Floats, beta: int, k: int) -> Floats:
    """Matrix (R, k) of scale and 0."""
    return np.where(unpack_bits(words, k), spread(scales, beta, k), np.float32(0))


def product_signed(
    a_words: Words,
    a_scales: Floats,
    beta_a: int,
    w_words: Words,
    w_scales: Floats,
    beta_w: int,
    k: int,
    bias: Floats | None = None,
) -> Floats:
    """Y (M, N) with A and W of -1 and +1."""
    a = 2 * unpack_bits(a_words, k).astype(np.int32) - 1
    w = 2 * unpack_bits(w_words, k).astype(np.int32) - 1
    return _scaled_product(a, a_scales, beta_a, w, w_scales, beta_w, bias)


def product_unipolar(
    a_words: Words,
    a_scales: Floats,
    beta_a: int,
    w_words: Words,
    w_scales: Floats,
    beta_w: int,
    k: int,
    bias: Floats | None = None,
) -> Floats:
    """Y (M, N) with A of 0 and 1, W of -1 and +1."""
    a = unpack_bits(a_words, k).astype(np.int32)
    w = 2 * unpack_bits(w_words, k).astype(np.int32) - 1
    return _scaled_product(a, a_scales, beta_a, w, w_scales, beta_w, bias)


def _scaled_product(
    a: npt.NDArray[np.int32],
    a_scales: Floats,
    beta_a: int,
    w: npt.NDArray[np.int32],
    w_scales: Floats,
    beta_w: int,
    bias: Floats | None,
) -> Floats:
    k = a.shape[1]
    fine = min(beta_a, beta_w)
    acc = np.zeros((a.shape[0], w.shape[0]), np.float32)
    if bias is not None:
        acc = acc + bias
    for begin in range(0, k, fine):
        dot = (a[:, begin : begin + fine] @ w[:, begin : begin + fine].T).astype(np.float32)
        alpha_a = a_scales[:, begin // beta_a][:, None]
        alpha_w = w_scales[:, begin // beta_w][None, :]
        acc = fused_multiply_add(alpha_a, alpha_w * dot, acc)
    return acc


def fused_multiply_add(x: Floats, y: Floats, z: Floats) -> Floats:
    """x * y + z in float32, rounded once (C99 fma), for finite results.

    In float64 the product is exact and the sum is off by an error that Knuth's two-sum gives
    exactly (The Art of Computer Programming, volume 2, section 4.2.2, theorem B). Where there is
    an error, the sum is rounded to odd before it is rounded to float32: a last bit of 1 stands for
    "and something more", so the second rounding sees on which side the true value lies (Boldo and
    Melquiond, "Emulation of FMA and correctly rounded sums", IEEE Trans. Computers 57(4), 2008).
    """
    product = x.astype(np.float64) * y.astype(np.float64)
    addend = np.broadcast_to(z.astype(np.float64), product.shape)
    total = product + addend
    part = total - product
    error = (product - (total - part)) + (addend - part)
    even = (total.view(np.int64) & 1) == 0
    towards = np.where(error > 0, np.inf, -np.inf)
    odd = np.where((error != 0) & even, np.nextafter(total, towards), total)
    return odd.astype(np.float32)


def carry_binarize(
    grad: Floats, carried: Floats, weight: float, gamma: int
) -> tuple[Words, Floats]:
    """carried, in place, = grad * weight + carried; then its bits and means."""
    carried[:] = grad * np.float32(weight) + carried
    bits, means = pack_signed(carried[None, :], gamma)
    return bits[0], means[0]


def carry_settle(carried: Floats, bits: Words, scale: Floats, gamma: int) -> None:
    """carried, in place, -= what bits and scale say."""
    carried -= unpack_signed(bits[None, :], scale[None, :], gamma, carried.size)[0]


def feedback_binarize(
    grad: Floats, carried: Floats, weight: float, scale: Floats, gamma: int
) -> tuple[Words, Floats]:
    """Both of the above with a scale known beforehand."""
    bits, means = carry_binarize(grad, carried, weight, gamma)
    carry_settle(carried, bits, scale, gamma)
    return bits, means


def segment_means(x: Floats, beta: int) -> Floats:
    """Scales alone."""
    return mean_abs(x, beta)


def planes_counts(planes: Words, n: int) -> npt.NDArray[np.uint16]:
    """The counts (n) that bit planes (P, words(n)) hold, P <= 16: plane p weighs 2^p."""
    counts = np.zeros(n, np.uint16)
    for p, plane in enumerate(planes):
        counts += unpack_bits(plane[None, :], n)[0].astype(np.uint16) << np.uint16(p)
    return counts


def planes_add(planes: Words, bits: Words) -> None:
    """Count one voter, in place. ValueError when a counter overflows."""
    planes_sum(planes, bits[None, :])


def planes_add_many(planes: Words, bits: Words) -> None:
    """Count the voters (V, W) one by one, in place. ValueError when a counter overflows."""
    for voter in bits:
        planes_add(planes, voter)


def planes_sum(planes: Words, other: Words) -> None:
    """Add counts, in place. ValueError when a counter overflows."""
    n = planes.shape[1] * WORD_BITS
    counts = planes_counts(planes, n).astype(np.int64) + planes_counts(other, n)
    if counts.size and counts.max() >> len(planes):
        raise ValueError("planes: overflow")
    for p, plane in enumerate(planes):
        plane[:] = pack_bits((counts >> p & 1).astype(np.uint8)[None, :])[0]


def apply_votes(planes: Words, members: int, scale: Floats, gamma: int, n: int) -> Floats:
    """scale * (2 V - members) / members. ValueError when a count V is larger than members."""
    votes = planes_counts(planes, n).astype(np.int32)
    if np.any(votes > members):
        raise ValueError("planes: a count is larger than members")
    ratio = (2 * votes - members).astype(np.float32) / np.float32(members)
    return spread(scale, gamma, n) * ratio


def votes_sgd(
    planes: Words,
    members: int,
    scale: Floats,
    gamma: int,
    velocity: Floats,
    momentum: float,
    rate: float,
    latents: Floats,
    cut: float | None,
    beta: int,
) -> tuple[Words, Floats]:
    """velocity and latents in place, each product, sum and difference rounded; then pack."""
    g = _cut_votes(planes, members, scale, gamma, latents, cut)
    velocity[:] = velocity * np.float32(momentum) + g
    latents -= velocity * np.float32(rate)
    return pack_signed(latents, beta)


def votes_adam(
    planes: Words,
    members: int,
    scale: Floats,
    gamma: int,
    first: Floats,
    second: Floats,
    decay_1: float,
    decay_2: float,
    epsilon: float,
    second_scale: float,
    rate: float,
    latents: Floats,
    cut: float | None,
    beta: int,
) -> tuple[Words, Floats]:
    """first, second and latents in place, each operation rounded; then pack."""
    g = _cut_votes(planes, members, scale, gamma, latents, cut)
    first[:] = first * np.float32(decay_1) + g * np.float32(1.0 - decay_1)
    second[:] = second * np.float32(decay_2) + (g * g) * np.float32(1.0 - decay_2)
    root = np.sqrt(second * np.float32(second_scale))
    latents -= first / (root + np.float32(epsilon)) * np.float32(rate)
    return pack_signed(latents, beta)


def _cut_votes(
    planes: Words, members: int, scale: Floats, gamma: int, latents: Floats, cut: float | None
) -> Floats:
    g = apply_votes(planes, members, scale, gamma, latents.size).reshape(latents.shape)
    return g if cut is None else g * (np.abs(latents) <= np.float32(cut)).astype(np.float32)
