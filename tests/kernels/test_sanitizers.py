"""The kernels' own test program under the address and undefined-behaviour sanitizers: every array
is an allocation of exactly its size, and any finding ends the run with an error."""

from __future__ import annotations

from pathlib import Path

import native
import pytest

from meshd.bits import ops

SEED = 20_261_123


def sanitized() -> Path:
    return native.built("sanitized", MESHD_SANITIZE="ON")


def test_the_kernels_are_clean() -> None:
    reports = native.reports(native.run([sanitized(), "--seed", str(SEED)]))
    assert [report.isa for report in reports] == ops.list_isas()
    assert {report.digest for report in reports} == {native.native_digest(SEED)}


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("behind", "heap-buffer-overflow"),
        ("before", "heap-buffer-overflow"),
        ("overflow", "signed integer overflow"),
    ],
)
def test_a_fault_is_an_error(fault: str, words: str) -> None:
    done = native.run([sanitized(), "--fault", fault])
    assert done.returncode != 0 and words in done.stderr
