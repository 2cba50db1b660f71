"""Shapes of outputs that a caller did not give, from arguments that are not yet checked."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from meshd.bits.layout import Floats, Words, segments, words


def length(a: npt.NDArray[np.generic], ndim: int, name: str) -> int:
    """First dimension of an array from which an output's shape is taken."""
    if not isinstance(a, np.ndarray):
        raise TypeError(f"{name}: expected a numpy array, got {type(a).__name__}")
    if a.ndim != ndim:
        raise ValueError(f"{name}: expected {ndim} dimension(s), got {a.ndim}")
    return int(a.shape[0])


def size(n: int, name: str) -> int:
    """Return n, a number of elements: ValueError below 0."""
    if n < 0:
        raise ValueError(f"{name}: must be at least 0, got {n}")
    return n


def segment_count(n: int, length: int, name: str) -> int:
    """Return how many segments of `length` cut n elements: ValueError when length < 1."""
    if length < 1:
        raise ValueError(f"{name}: must be at least 1, got {length}")
    return segments(n, length)


def matrix(out: Floats | None, rows: int, columns: int) -> Floats:
    """Return `out`, or a new float32 matrix when the caller gave none."""
    return np.empty((rows, size(columns, "k")), np.float32) if out is None else out


def pack_outputs(
    x: Floats, beta: int, out_words: Words | None, out_scales: Floats | None
) -> tuple[Words, Floats]:
    """Return the words and scales of x (R, K) binarized: those given, or new ones."""
    rows = length(x, 2, "x")
    k = int(x.shape[1])
    if out_words is None:
        out_words = np.empty((rows, words(k)), np.uint64)
    if out_scales is None:
        out_scales = np.empty((rows, segment_count(k, beta, "beta")), np.float32)
    return out_words, out_scales
