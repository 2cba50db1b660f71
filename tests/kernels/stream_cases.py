"""What the tests of the streaming kernels share: sizes, numbers and equality of bits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from meshd.bits import layout, reference

SIZES = (0, 1, 3, 15, 16, 17, 31, 33, 63, 64, 65, 127, 128, 129, 500, 512, 1000, 2309)
SEGMENTS = (1, 2, 3, 7, 8, 16, 32, 64, 100, 128, 192, 512)


def betas(k: int) -> list[int]:
    return sorted({*SEGMENTS, max(k, 1), k + 5})


def floats(rng: np.random.Generator, *shape: int) -> layout.Floats:
    """Gaussian, with zeros of both signs, subnormal and huge numbers among them."""
    x = rng.standard_normal(shape, np.float32)
    special = np.array([0.0, -0.0, 1e-42, -1e-42, 3e4, -3e-4], np.float32)
    return np.where(rng.random(shape) < 0.1, rng.choice(special, shape), x)


def planes_of(counts: npt.NDArray[np.int64], planes: int) -> layout.Words:
    """Counts (n) as bit planes (planes, words(n))."""
    bits = [
        reference.pack_bits((counts >> p & 1).astype(np.uint8)[None, :])[0] for p in range(planes)
    ]
    return np.array(bits, np.uint64).reshape(planes, layout.words(counts.size))


def same(got: npt.NDArray[np.generic], wanted: npt.NDArray[np.generic], case: object) -> None:
    """Equal bits, signs of zeros included."""
    assert got.dtype == wanted.dtype and got.shape == wanted.shape, case
    assert np.array_equal(got.view(np.uint8), wanted.view(np.uint8)), f"{case}: {got} != {wanted}"
