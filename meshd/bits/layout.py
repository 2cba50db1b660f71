"""The layout of packed bits, the one contract between kernels, wire and files.

- A word is a `uint64`. Element i of a row is bit `i % 64` of word `i // 64`; on the wire and in
  files words are little-endian, so element i is bit `i % 8` of byte `i // 8`.
- A row of k elements takes `words(k)` words. The padding bits of the last word are zero.
- A row is cut into segments of `beta` elements, `segments(k, beta)` of them, one float32 scale
  each. The last segment may be shorter and is averaged over its real length; a beta of k or more is
  one segment. A segment need not start on a word: any beta >= 1 is legal.

So a float32 matrix (R, K) becomes words (R, words(K)) uint64 and scales (R, segments(K, beta))
float32.
"""

from __future__ import annotations

from operator import index

import numpy as np
import numpy.typing as npt

WORD_BITS = 64

Words = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float32]


def words(n: int) -> int:
    """Words that hold n elements. ValueError for a negative n."""
    if index(n) < 0:
        raise ValueError(f"n: must be at least 0, got {n}")
    return -(-n // WORD_BITS)


def segments(k: int, beta: int) -> int:
    """Segments of beta elements in a row of k. ValueError for k < 0 or beta < 1."""
    if index(k) < 0:
        raise ValueError(f"k: must be at least 0, got {k}")
    if index(beta) < 1:
        raise ValueError(f"beta: must be at least 1, got {beta}")
    return -(-k // beta)


def plane_count(members: int) -> int:
    """Bit planes of a counter that `members` voters cannot overflow: its values are 0..members."""
    if index(members) < 0:
        raise ValueError(f"members: must be at least 0, got {members}")
    return int(members).bit_length()


def padding_is_zero(packed: Words, n: int) -> bool:
    """Whether the bits after element n - 1 are zero in every row of packed (..., words(n)).

    The kernels rely on it, so words that came from outside are checked with this first.
    """
    if packed.shape[-1] != words(n):
        raise ValueError(f"packed: expected {words(n)} words a row, got {packed.shape[-1]}")
    used = n % WORD_BITS
    if used == 0:
        return True
    return not np.any(packed[..., -1] >> np.uint64(used))
