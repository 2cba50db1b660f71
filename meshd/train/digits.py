"""`python -m meshd.train.digits OUT.npz`: scikit-learn's digits as a data file for the demo.

1,797 images of 8 x 8 in 0..16, the test part of the UCI Optical Recognition of Handwritten Digits
data (Alpaydin and Kaynak, 1998); they come with scikit-learn, so nothing is downloaded.
"""

from __future__ import annotations

import sys

import numpy as np
from sklearn.datasets import load_digits

TEST_SAMPLES = 360  # a fifth


def main() -> int:
    """Write the file named by the only argument."""
    if len(sys.argv) != 2:
        print("usage: python -m meshd.train.digits OUT.npz", file=sys.stderr)
        return 2
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    x = digits.data.astype(np.uint8).reshape(-1, 8, 8)[order]
    y = digits.target.astype(np.uint8)[order]
    np.savez_compressed(
        sys.argv[1],
        x_train=x[:-TEST_SAMPLES],
        y_train=y[:-TEST_SAMPLES],
        x_test=x[-TEST_SAMPLES:],
        y_test=y[-TEST_SAMPLES:],
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
