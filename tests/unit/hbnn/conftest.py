"""What the tests of hbnn share: seeded inputs, and binarization written as the definition reads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small matrices: threads would cost more than they bring, and the machine is shared."""
    torch.set_num_threads(1)


@pytest.fixture
def normal(request: pytest.FixtureRequest) -> Callable[..., Tensor]:
    """Seeded standard normal float32 tensors; every test draws its own stream."""
    seed = sum(request.node.name.encode())
    print(f"seed {seed}")
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(*shape, generator=generator)


def slow_hadamard(x: Tensor, beta: int, coding: str) -> Floats:
    """H_beta of the rows of `x`, element by element, in float64."""
    rows = x.detach().numpy().astype(np.float64)
    result = np.zeros_like(rows)
    for r, row in enumerate(rows):
        for start in range(0, len(row), beta):
            segment = [float(v) for v in row[start : start + beta]]
            scale = sum(abs(v) for v in segment) / len(segment)
            for i, v in enumerate(segment):
                if coding == "signed":
                    result[r, start + i] = scale if v >= 0 else -scale
                else:
                    result[r, start + i] = scale if v > 0 else 0.0
    return result


@pytest.fixture
def oracle() -> Callable[[Tensor, int, str], Floats]:
    """The dumb second implementation."""
    return slow_hadamard
