"""Augmentation of training images: a pure function of (seed, epoch, sample), everywhere the same.

`shift` moves an image by up to 2 pixels each way, as digits and clothes bear it; `shift-flip` by up
to 4 and mirrors every second one, as is usual for CIFAR-10 (He et al., "Deep Residual Learning for
Image Recognition", 2015, section 4.2). What comes in at the border is zero.

Chance comes from SplitMix64's finalizer (Steele, Lea, Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014), of the seed, the epoch and the sample's index in turn:

    word = mix(mix(mix(seed) + epoch) + sample),    mix(z) = finalizer(z + golden gamma)

so a sample's word depends on nothing else: not on the batch it is in, nor on who computes it. Its
lowest 16 bits choose the row shift, the next 16 the column shift, the highest bit the mirror.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

AUGMENTATIONS = ("none", "shift", "shift-flip")
LARGEST_SHIFT = {"shift": 2, "shift-flip": 4}

GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, made odd
MULTIPLIERS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
LOW_16 = np.uint64(0xFFFF)
WORD = 1 << 64

Words = NDArray[np.uint64]


def check_augmentation(kind: str, input_shape: tuple[int, ...]) -> None:
    """Refuse what cannot be done to samples of this shape (see `Dataset.input_shape`).

    Raises:
        ValueError: no such augmentation, or not images.
    """
    if kind not in AUGMENTATIONS:
        raise ValueError(f"augment must be one of {', '.join(AUGMENTATIONS)}, not {kind!r}")
    if kind != "none" and len(input_shape) != 3:
        raise ValueError(
            f"augment = {kind!r} needs images; a sample of this data is {input_shape[0]} numbers"
        )


def augment_rows(
    rows: NDArray[np.float32], picked: NDArray[np.int64], kind: str, seed: int, epoch: int
) -> None:
    """Augment a batch in place.

    Args:
        rows: (n, C, H, W) float32, as `Dataset.fill_rows` wrote them.
        picked: (n,) the samples' indices in the training part.
        kind: one of `AUGMENTATIONS`.
        seed, epoch: of the training; any integers, taken modulo 2^64.

    Raises:
        ValueError: as `check_augmentation`, or lengths that differ.
    """
    check_augmentation(kind, rows.shape[1:])
    if len(rows) != len(picked):
        raise ValueError(f"{len(rows)} rows, but {len(picked)} indices")
    if kind == "none" or not len(rows):
        return
    most = LARGEST_SHIFT[kind]
    words = sample_words(picked, seed, epoch)
    down, right = shifts(words, most), shifts(words >> np.uint64(16), most)
    n, channels, height, width = rows.shape
    padded = np.zeros((n, channels, height + 2 * most, width + 2 * most), np.float32)
    padded[:, :, most : most + height, most : most + width] = rows
    # A window that begins at (most - down, most - right) shows the image moved by (down, right).
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
    rows[...] = windows[np.arange(n), :, most - down, most - right]
    if kind == "shift-flip":
        mirrored = (words >> np.uint64(63)).astype(bool)
        rows[mirrored] = rows[mirrored, :, :, ::-1]


def sample_words(picked: NDArray[np.int64], seed: int, epoch: int) -> Words:
    """A random 64-bit word for each sample, (n,) uint64."""
    start = np.array([seed % WORD], np.uint64)
    return _mix(_mix(_mix(start) + np.uint64(epoch % WORD)) + picked.astype(np.uint64))


def shifts(words: Words, most: int) -> NDArray[np.int64]:
    """-most to most from the lowest 16 bits, (n,), all as likely as can be."""
    choices = np.uint64(2 * most + 1)
    return ((words & LOW_16) * choices >> np.uint64(16)).astype(np.int64) - most


def _mix(z: Words) -> Words:
    """SplitMix64's next value from each state; integers wrap modulo 2^64."""
    z = z + GOLDEN_GAMMA
    z = (z ^ (z >> np.uint64(30))) * MULTIPLIERS[0]
    z = (z ^ (z >> np.uint64(27))) * MULTIPLIERS[1]
    return z ^ (z >> np.uint64(31))
