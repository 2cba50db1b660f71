"""The order of samples: a function of (seed, epoch) alone, equal on every machine.

From raw 64-bit words of the Philox counter generator (Salmon et al., "Parallel random numbers: as
easy as 1, 2, 3", SC 2011), whose stream numpy promises never to change; the distributions of
library generators may differ by version.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def epoch_order(seed: int, epoch: int, samples: int) -> NDArray[np.int64]:
    """A permutation of range(samples), int64 (samples,): sort by a random 64-bit word each."""
    words = np.random.Philox(key=np.array([seed, epoch], dtype=np.uint64)).random_raw(samples)
    return np.argsort(words, kind="stable")
