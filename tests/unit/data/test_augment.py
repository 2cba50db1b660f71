"""Augmentation against a slow second implementation; it depends on seed, epoch and sample alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.data.augment import (
    AUGMENTATIONS,
    LARGEST_SHIFT,
    augment_rows,
    check_augmentation,
    sample_words,
    shifts,
)

MASK = (1 << 64) - 1
INTEGERS = st.integers(0, MASK)


def mix(z: int) -> int:
    """SplitMix64 as published, with Python's integers."""
    z = (z + 0x9E3779B97F4A7C15) & MASK
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    return z ^ (z >> 31)


def word(sample: int, seed: int, epoch: int) -> int:
    return mix((mix((mix(seed) + epoch) & MASK) + sample) & MASK)


def moved(image: np.ndarray, value: int, kind: str) -> np.ndarray:
    """Pixel by pixel."""
    most = LARGEST_SHIFT[kind]
    down, right = (((value >> 16 * k) & 0xFFFF) * (2 * most + 1) // 65_536 - most for k in (0, 1))
    out = np.zeros_like(image)
    _, height, width = image.shape
    for i in range(height):
        for j in range(width):
            if 0 <= i - down < height and 0 <= j - right < width:
                out[:, i, j] = image[:, i - down, j - right]
    return out[:, :, ::-1] if kind == "shift-flip" and value >> 63 else out


def test_splitmix64_gives_its_published_values() -> None:
    """The first outputs for seed 1234567, as in the reference implementation's test."""
    state = 1234567
    found = []
    for _ in range(3):
        found.append(mix(state))
        state = (state + 0x9E3779B97F4A7C15) & MASK
    assert found == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@given(st.lists(st.integers(0, (1 << 62)), min_size=1, max_size=5), INTEGERS, INTEGERS)
def test_words_are_those_of_python(picked: list[int], seed: int, epoch: int) -> None:
    words = sample_words(np.array(picked), seed, epoch)
    assert words.tolist() == [word(sample, seed, epoch) for sample in picked]


@pytest.mark.parametrize("kind", ["shift", "shift-flip"])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 9, 7), (1, 1, 1), (4, 3, 2)])
def test_as_moved_pixel_by_pixel(kind: str, shape: tuple[int, ...]) -> None:
    seed = 5
    print(f"seed {seed}")
    images = np.random.default_rng(seed).normal(size=(40, *shape)).astype(np.float32)
    picked = np.random.default_rng(seed).permutation(1000)[:40]
    rows = images.copy()
    augment_rows(rows, picked, kind, seed, 3)
    for image, row, sample in zip(images, rows, picked, strict=True):
        np.testing.assert_array_equal(row, moved(image, word(int(sample), seed, 3), kind))


@pytest.mark.parametrize("kind", AUGMENTATIONS)
def test_the_batch_does_not_matter(kind: str) -> None:
    images = np.random.default_rng(1).normal(size=(30, 3, 8, 8)).astype(np.float32)
    picked = np.arange(100, 130)
    whole, halves = images.copy(), images.copy()
    augment_rows(whole, picked, kind, 9, 2)
    augment_rows(halves[:11], picked[:11], kind, 9, 2)
    augment_rows(halves[11:], picked[11:], kind, 9, 2)
    np.testing.assert_array_equal(whole, halves)
    if kind == "none":
        np.testing.assert_array_equal(whole, images)
    else:
        other = images.copy()
        augment_rows(other, picked, kind, 9, 3)
        assert (other != whole).any(axis=(1, 2, 3)).sum() > 20


@pytest.mark.parametrize("most", [2, 4])
def test_every_shift_comes_as_often(most: int) -> None:
    words = sample_words(np.arange(90_000), 7, 0)
    for part in (words, words >> np.uint64(16)):
        counts = np.bincount(shifts(part, most) + most)
        assert len(counts) == 2 * most + 1
        expected = 90_000 / len(counts)
        assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)
    mirrored = int((words >> np.uint64(63)).sum())
    assert abs(mirrored - 45_000) < 5 * np.sqrt(22_500)


@pytest.mark.parametrize(
    ("kind", "shape", "message"),
    [
        ("flip", (1, 2, 2), "augment must be one of none, shift, shift-flip, not 'flip'"),
        ("shift", (784,), "needs images; a sample of this data is 784 numbers"),
    ],
)
def test_what_cannot_be(kind: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_augmentation(kind, shape)
    check_augmentation("none", (784,))


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="2 rows, but 3 indices"):
        augment_rows(np.zeros((2, 1, 3, 3), np.float32), np.arange(3), "shift", 0, 0)
