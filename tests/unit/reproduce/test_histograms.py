"""Distances of distributions: against another implementation, and on what they must say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from meshd.reproduce.histograms import BINS, histogram, kolmogorov_smirnov, wasserstein

SAMPLES = st.lists(st.integers(-5, 5), min_size=1, max_size=20)


@given(
    st.integers(1, 20).flatmap(
        lambda n: st.tuples(*[st.lists(st.integers(-5, 5), min_size=n, max_size=n)] * 2)
    )
)
def test_wasserstein_is_scipys(samples: tuple[list[int], list[int]]) -> None:
    p, q = (np.array(sample, np.float64) for sample in samples)
    assert wasserstein(p, q) == pytest.approx(stats.wasserstein_distance(p, q), abs=1e-12)


@given(SAMPLES, SAMPLES)
def test_kolmogorov_smirnov_is_the_definition(p: list[int], q: list[int]) -> None:
    """At every place, the share of each sample that does not lie beyond it."""
    differences = [
        abs(sum(v <= x for v in p) / len(p) - sum(v <= x for v in q) / len(q)) for x in (*p, *q)
    ]
    found = kolmogorov_smirnov(np.array(p, np.float64), np.array(q, np.float64))
    assert found == pytest.approx(max(differences), abs=1e-12)


def test_unequal_samples_have_no_order_to_compare() -> None:
    with pytest.raises(ValueError, match="equally large"):
        wasserstein(np.zeros(2), np.zeros(3))


def test_a_histogram_counts_all_but_outliers() -> None:
    values = np.random.default_rng(5).normal(size=10_000)
    shown = histogram(values)
    assert len(shown["counts"]) == BINS == len(shown["edges"]) - 1
    assert 0.995 * len(values) < sum(shown["counts"]) <= len(values)
    assert shown["edges"][0] == -shown["edges"][-1]


def test_two_values_are_counted_as_they_are() -> None:
    assert histogram(np.array([1.0, -1.0, 1.0])) == {"values": [-1.0, 1.0], "counts": [1, 2]}


def test_signs_lose_the_shape_and_hadamard_keeps_more_of_it(quick) -> None:
    layers = quick("histograms").figures["layers"]
    assert layers["float"]["latents"]["wasserstein"] == 0
    assert layers["bnn"]["seen"]["distinct"] == 2 < layers["hbnn"]["seen"]["distinct"]
    for key in ("ks", "wasserstein", "shape_ks", "shape_wasserstein"):
        assert layers["hbnn"]["seen"][key] < layers["bnn"]["seen"][key], key
