"""Votes in bit planes, and what they do to latents. Rules for all of it: `meshd.bits.ops`.

Law: kernels/include/meshd_stream.h has the arithmetic of the updates, operation by operation. It
gives the same bits on every machine, so owners and backups keep the same latents.
"""

from __future__ import annotations

import numpy as np

from meshd.bits import _kernels
from meshd.bits.arguments import length, segment_count, size
from meshd.bits.layout import Floats, Words, words


def planes_add(planes: Words, bits: Words) -> None:
    """Count one voter: planes (P, W), in place, holds element i's count as bit i of each plane.

    Plane p weighs 2^p; bits (W). ValueError when a counter overflows: planes are then void.
    """
    _kernels.planes_add(planes, bits)


def planes_add_many(planes: Words, bits: Words) -> None:
    """Count the voters bits (V, W), any number of them: eight at a time pass over the planes once.

    Else as `planes_add`.
    """
    _kernels.planes_add_many(planes, bits)


def planes_sum(planes: Words, other: Words) -> None:
    """Add counts to counts: planes (P, W), in place, += other (Q, W). Else as `planes_add`."""
    _kernels.planes_sum(planes, other)


def apply_votes(
    planes: Words, members: int, scale: Floats, gamma: int, n: int, *, out: Floats | None = None
) -> Floats:
    """The ring's aggregate (n): scale * (2 V - members) / members, V the counts of n elements.

    planes (bit_length(members), W(n)), scale (S(n, gamma)), 1 <= members <= 65535. The quotient is
    rounded to float32, then the product. ValueError when a count is larger than members: nothing
    is written then.
    """
    out = np.empty(size(n, "n"), np.float32) if out is None else out
    _kernels.apply_votes(planes, members, scale, gamma, n, out)
    return out


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
    *,
    out_words: Words | None = None,
    out_scales: Floats | None = None,
) -> tuple[Words, Floats]:
    """Move latents (R, K) by what a ring decided, and binarize them again, in one pass.

    g = `apply_votes`, times 1 where |latents| <= cut (None: no cut), else times 0;
    velocity (R, K), in place, = velocity * momentum + g; latents, in place, -= velocity * rate.
    Returns `pack_signed(latents, beta)`: words (R, W(K)), scales (R, S(K, beta)).

    planes (bit_length(members), W(R K)), its rows dense but not necessarily side by side: columns
    of a wider array will do; scale (S(R K, gamma)). The numbers are rounded to float32. ValueError
    when a count is larger than members: nothing is written then. Where scale is NaN the latents
    become NaN, and with them the scales of their segments.
    """
    out_words, out_scales = _binary_outputs(latents, beta, out_words, out_scales)
    target = (latents, cut, beta, out_words, out_scales)
    _kernels.votes_sgd(planes, members, scale, gamma, velocity, momentum, rate, *target)
    return out_words, out_scales


def votes_sgd_dense(
    planes: Words,
    members: int,
    scale: Floats,
    gamma: int,
    velocity: Floats,
    momentum: float,
    rate: float,
    latents: Floats,
) -> None:
    """As `votes_sgd` for latents (n) that are neither cut nor binarized."""
    _kernels.votes_sgd_dense(planes, members, scale, gamma, velocity, momentum, rate, latents)


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
    *,
    out_words: Words | None = None,
    out_scales: Floats | None = None,
) -> tuple[Words, Floats]:
    """As `votes_sgd` by Adam's rule; first, second (R, K), in place.

    first = first * decay_1 + g * (1 - decay_1); second = second * decay_2 + g * g * (1 - decay_2);
    latents -= first / (sqrt(second * second_scale) + epsilon) * rate, where second_scale is
    1 / (1 - decay_2^t) and rate the learning rate / (1 - decay_1^t) of step t, counted from 1.
    1 - decay is taken in float64, then each number is rounded to float32.
    """
    out_words, out_scales = _binary_outputs(latents, beta, out_words, out_scales)
    target = (latents, cut, beta, out_words, out_scales)
    numbers = (decay_1, decay_2, epsilon, second_scale, rate)
    _kernels.votes_adam(planes, members, scale, gamma, first, second, *numbers, *target)
    return out_words, out_scales


def votes_adam_dense(
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
) -> None:
    """As `votes_adam` for latents (n) that are neither cut nor binarized."""
    numbers = (decay_1, decay_2, epsilon, second_scale, rate)
    _kernels.votes_adam_dense(planes, members, scale, gamma, first, second, *numbers, latents)


def _binary_outputs(
    latents: Floats, beta: int, out_words: Words | None, out_scales: Floats | None
) -> tuple[Words, Floats]:
    rows = length(latents, 2, "latents")
    k = int(latents.shape[1])
    if out_words is None:
        out_words = np.empty((rows, words(k)), np.uint64)
    if out_scales is None:
        out_scales = np.empty((rows, segment_count(k, beta, "beta")), np.float32)
    return out_words, out_scales
