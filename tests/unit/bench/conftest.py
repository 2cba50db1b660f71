"""One tiny measurement for all tests, through the code of a long one: its figures say nothing."""

from __future__ import annotations

from typing import Any

import pytest

from meshd.bench import plans, run


@pytest.fixture(scope="session")
def report() -> dict[str, Any]:
    return run.measure(plans.TINY)
