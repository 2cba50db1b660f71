"""What the kernel tests share: every instruction set that runs here, and a seed that is printed."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from meshd.bits import ops

sys.path.insert(0, str(Path(__file__).parent))  # for `import native`


@pytest.fixture(params=ops.list_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test once with each instruction set."""
    before = ops.isa()
    ops.use_isa(request.param)
    yield request.param
    ops.use_isa(before)


@pytest.fixture
def rng() -> np.random.Generator:
    """A fresh generator; a failing test shows the seed that replays it."""
    seed = int(os.environ.get("MESHD_TEST_SEED") or secrets.randbits(32))
    print(f"replay with MESHD_TEST_SEED={seed}")
    return np.random.default_rng(seed)
