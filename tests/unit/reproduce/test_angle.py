"""The angle: the derivation against the definition, and the measured points against both."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from meshd.reproduce.angle import LIMIT, angles, expected_angle


def test_the_limits() -> None:
    assert pytest.approx(37.07, abs=0.005) == LIMIT
    assert expected_angle(1) == 0
    assert expected_angle(1e12) == pytest.approx(LIMIT, abs=1e-6)
    betas = [1, 2, 4, 16, 64, 1024]
    assert [expected_angle(b) for b in betas] == sorted(expected_angle(b) for b in betas)


@pytest.mark.parametrize(("dimension", "beta"), [(6, 0), (12, 4), (12, 3), (8, 1)])
def test_an_angle_is_the_definitions(dimension: int, beta: int) -> None:
    """Element by element, in plain Python."""
    seed = 3
    print(f"seed {seed}")
    found = angles(dimension, beta, 5, torch.Generator().manual_seed(seed))
    vectors = torch.randn(
        5, dimension, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    for x, degrees in zip(vectors.tolist(), found.tolist(), strict=True):
        h = []
        for start in range(0, dimension, beta or dimension):
            segment = x[start : start + (beta or dimension)]
            alpha = sum(map(abs, segment)) / len(segment)
            h += [math.copysign(alpha, value) for value in segment]
        cosine = np.dot(x, h) / math.sqrt(np.dot(x, x) * np.dot(h, h))
        assert degrees == pytest.approx(math.degrees(math.acos(min(1.0, cosine))), abs=1e-5)


def test_the_mean_of_the_squared_cosine_is_exact_at_every_dimension() -> None:
    """Also where the vector is short: the derivation needs no limit."""
    seed = 7
    print(f"seed {seed}")
    for dimension, beta in ((2, 0), (8, 4), (6, 2)):
        found = angles(dimension, beta, 200_000, torch.Generator().manual_seed(seed))
        mean = float(torch.deg2rad(found).cos().square().mean())
        wanted = math.cos(math.radians(expected_angle(beta or dimension))) ** 2
        assert mean == pytest.approx(wanted, abs=4 * 0.25 / math.sqrt(200_000))


def test_measured_points_lie_on_the_line(quick) -> None:
    points = quick("angle").figures["by_beta"]
    assert [point["beta"] for point in points] == [2**k for k in range(13)]
    for point in points:
        assert point["mean_degrees"] == pytest.approx(point["expected_degrees"], abs=0.1), point


def test_the_dimension_does_not_matter_where_beta_is_fixed(quick) -> None:
    points = quick("angle").figures["points"]
    for beta in (4, 64):
        far = [p for p in points if p["beta"] == beta and p["dimension"] >= 512]
        assert len({p["expected_degrees"] for p in far}) == 1
        assert all(p["mean_degrees"] == pytest.approx(expected_angle(beta), abs=0.3) for p in far)
