"""Streaming kernels over the ring's votes: counting them in bit planes, and moving latents by them.

Each function takes the run's arrays and returns what is timed, what it moves and its error.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from meshd.bench import exact
from meshd.bench.arrays import (
    BITS_PER_FLOAT,
    MEMBERS,
    ROW,
    SAMPLE,
    SEGMENT,
    Arrays,
    Stream,
    aligned,
    counted,
    signs,
    spread,
)
from meshd.bench.timing import Turn
from meshd.bits import ops
from meshd.bits.layout import WORD_BITS, Floats, Words, plane_count, words

RATE, MOMENTUM = 1e-3, 0.9
DECAY_1, DECAY_2, EPSILON = 0.9, 0.999, 1e-8

Doubles = npt.NDArray[np.float64]
State = list[Floats]
Outputs = tuple[Words, Floats]
Step = Callable[[Words, Floats, State, Floats, Outputs], None]


def planes_add(arrays: Arrays) -> Stream:
    """Count one more voter: reads the planes and a bit, writes the planes."""
    return counting(arrays, 1, lambda planes, bits: ops.planes_add(planes, bits[0]))


def planes_add_many(arrays: Arrays) -> Stream:
    """Count eight voters at once: reads the planes and eight bits, writes the planes."""
    return counting(arrays, MEMBERS, ops.planes_add_many)


def counting(arrays: Arrays, voters: int, add: Callable[[Words, Words], None]) -> Stream:
    """Either way of counting `voters` voters; add(planes (P, W), bits (voters, W))."""
    size = words(BITS_PER_FLOAT * len(arrays.x))
    planes = np.zeros((plane_count(MEMBERS), size), np.uint64)
    bits = arrays.random_words(voters, size)

    def error() -> float:
        some = np.zeros((len(planes), 64), np.uint64)
        votes = arrays.random_words(MEMBERS, 64)
        for first in range(0, MEMBERS, voters):
            add(some, votes[first : first + voters])
        return exact.largest_error(counted(some), (signs(votes).sum(axis=0) + MEMBERS) / 2)

    turn = Turn(lambda: add(planes, bits), lambda: planes.fill(0), once=True)
    return Stream(turn, WORD_BITS * size, 2 * planes.nbytes + bits.nbytes, error)


def random_votes(arrays: Arrays, n: int) -> Words:
    """Planes of counts below MEMBERS, a power of two."""
    planes = np.zeros((plane_count(MEMBERS), words(n)), np.uint64)
    planes[:-1] = arrays.random_words(len(planes) - 1, words(n))
    return planes


def aggregate(planes: Words, scale: Floats) -> npt.NDArray[np.float64]:
    """The gradient that planes of votes stand for, in float64."""
    return spread(scale).astype(np.float64) * (2 * counted(planes) - MEMBERS) / MEMBERS


def apply_votes(arrays: Arrays) -> Stream:
    """Counts to the ring's aggregate: reads the planes, writes 4 bytes."""
    n = len(arrays.x)
    planes = random_votes(arrays, n)
    out = aligned(n)

    def call() -> object:
        return ops.apply_votes(planes, MEMBERS, arrays.scale, SEGMENT, n, out=out)

    def error() -> float:
        call()
        some = out[:SAMPLE]
        votes = np.ascontiguousarray(planes[:, : words(len(some))])
        return exact.largest_error(some, aggregate(votes, arrays.scale[: len(some) // SEGMENT]))

    return Stream(Turn(call), n, planes.nbytes + arrays.scale.nbytes + out.nbytes, error)


def votes_sgd(arrays: Arrays) -> Stream:
    """Move latents by SGD with momentum, binarize them: rewrites 8 bytes, writes a bit."""

    def step(planes: Words, scale: Floats, state: State, latents: Floats, out: Outputs) -> None:
        rule = (state[0], MOMENTUM, RATE)
        target = (latents, 1.0, SEGMENT)
        ops.votes_sgd(
            planes, MEMBERS, scale, SEGMENT, *rule, *target, out_words=out[0], out_scales=out[1]
        )

    def true(g: Doubles, state: list[Doubles], latents: Doubles) -> Doubles:
        velocity = state[0] * MOMENTUM + g * (np.abs(latents) <= 1)
        return np.asarray(latents - velocity * RATE)

    return moving(arrays, 1, step, true)


def votes_adam(arrays: Arrays) -> Stream:
    """Move latents by Adam, binarize them: rewrites 12 bytes, writes a bit."""
    second_scale, rate = 1 / (1 - DECAY_2), RATE / (1 - DECAY_1)

    def step(planes: Words, scale: Floats, state: State, latents: Floats, out: Outputs) -> None:
        rule = (state[0], state[1], DECAY_1, DECAY_2, EPSILON, second_scale, rate)
        target = (latents, 1.0, SEGMENT)
        ops.votes_adam(
            planes, MEMBERS, scale, SEGMENT, *rule, *target, out_words=out[0], out_scales=out[1]
        )

    def true(g: Doubles, state: list[Doubles], latents: Doubles) -> Doubles:
        g = g * (np.abs(latents) <= 1)
        first = state[0] * DECAY_1 + g * (1 - DECAY_1)
        second = state[1] * DECAY_2 + g * g * (1 - DECAY_2)
        return np.asarray(latents - first / (np.sqrt(second * second_scale) + EPSILON) * rate)

    return moving(arrays, 2, step, true)


def moving(
    arrays: Arrays,
    states: int,
    step: Step,
    true: Callable[[Doubles, list[Doubles], Doubles], Doubles],
) -> Stream:
    """Either rule, with `states` arrays of optimizer state; the error is that of the new latents
    and of the scales and signs that they are packed to."""

    def prepared(n: int) -> tuple[Words, Floats, State, Floats, Outputs]:
        state = [aligned(n).reshape(-1, ROW) for _ in range(states)]
        for array in state:
            array.fill(0.25)
        latents = arrays.copy_of_y(n).reshape(-1, ROW)
        rows = len(latents)
        out = np.empty((rows, words(ROW)), np.uint64), np.empty((rows, ROW // SEGMENT), np.float32)
        return random_votes(arrays, n), arrays.scale[: n // SEGMENT], state, latents, out

    def error() -> float:
        planes, scale, state, latents, out = prepared(min(SAMPLE, len(arrays.x)))
        g = aggregate(planes, scale).reshape(latents.shape)
        wanted = true(g, [s.astype(np.float64) for s in state], latents.astype(np.float64))
        step(planes, scale, state, latents, out)
        binarized = exact.binarized(latents, SEGMENT, "signed")
        packed = exact.largest_error(signs(out[0]) * spread(out[1]), binarized)
        return max(packed, exact.largest_error(latents, wanted))

    planes, scale, state, latents, out = prepared(len(arrays.x))
    moved = 2 * sum(a.nbytes for a in (*state, latents))
    moved += sum(a.nbytes for a in (planes, scale, *out))
    turn = Turn(lambda: step(planes, scale, state, latents, out))
    return Stream(turn, latents.size, moved, error)
