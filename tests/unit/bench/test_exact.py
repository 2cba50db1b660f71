"""The float64 definitions that errors are taken against, against the kernels' own specification."""

from __future__ import annotations

import numpy as np
import pytest

from meshd.bench import exact
from meshd.bits import reference


@pytest.mark.parametrize("beta", [1, 3, 16, 50, 64])
@pytest.mark.parametrize("coding", ["signed", "unipolar"])
def test_binarized_is_what_is_packed(beta: int, coding: str) -> None:
    x = np.random.default_rng(3).standard_normal((4, 50), np.float32)
    x[0, :7] = 0.0
    pack = getattr(reference, f"pack_{coding}")
    unpack = getattr(reference, f"unpack_{coding}")
    packed, scales = pack(x, min(beta, 50))
    assert np.allclose(
        exact.binarized(x, beta, coding), unpack(packed, scales, min(beta, 50), 50), rtol=1e-6
    )


def test_rows_are_all_or_evenly_spread() -> None:
    assert exact.spread_evenly(5, 9).tolist() == [0, 1, 2, 3, 4]
    some = exact.spread_evenly(1000, 4).tolist()
    assert some == [0, 333, 666, 999]
    assert exact.spread_evenly(0, 4).tolist() == []


def test_an_error_is_a_share_of_the_largest_true_value() -> None:
    true = np.array([[4.0, -8.0]])
    assert exact.largest_error(np.array([[5.0, -8.0]], np.float32), true) == 1 / 8
    assert exact.largest_error(np.zeros((1, 2), np.float32), 0 * true) == 0
    assert np.isnan(exact.largest_error(np.array([[np.nan, 0.0]], np.float32), true))
