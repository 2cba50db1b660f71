"""Products: what is compared with what; times are never judged."""

from __future__ import annotations

import pytest

from meshd.core.errors import UsageError
from meshd.reproduce.matmul import QUICK_SIZES, run
from meshd.reproduce.result import Options


def test_every_size_has_every_competitor(quick) -> None:
    rows = quick("matmul").figures["results"]
    for size in QUICK_SIZES:
        kernels = {row["kernel"] for row in rows if row["n"] == size}
        assert {"cmma", "mm", "product_signed"} <= kernels
    ours = [row for row in rows if row["kernel"] == "product_signed"]
    assert {row["beta"] for row in ours} >= {16, 64, max(QUICK_SIZES)}
    assert all(row["vs_cmma"] > 0 and row["seconds_best"] > 0 for row in ours)


def test_more_threads_than_cores_are_refused() -> None:
    with pytest.raises(UsageError, match="threads"):
        run(Options(quick=True, threads=100_000), print)
