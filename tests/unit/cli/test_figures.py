"""Numbers as a person reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.cli.figures import (
    age_text,
    bytes_text,
    count_text,
    duration_text,
    percent_text,
    printable,
    ratio_text,
)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (9_994, "9.99 kB"),
        (9_996, "10.0 kB"),
        (99_960, "100 kB"),
        (999_499, "999 kB"),
        (999_501, "1.00 MB"),
        (25_400_000, "25.4 MB"),
        (3_000_000_000, "3.00 GB"),
        (64 * 2**40, "70.4 TB"),
    ],
)
def test_bytes(count: int, text: str) -> None:
    assert bytes_text(count) == text


@given(st.integers(0, 10**15))
def test_bytes_are_within_a_percent(count: int) -> None:
    number, unit = bytes_text(count).split()
    size = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}[unit]
    assert abs(float(number) * size - count) <= 0.01 * count


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (41.4, "41 s"),
        (59.9, "1 min"),
        (125, "2 min 5 s"),
        (3600, "1 h"),
        (3840, "1 h 4 min"),
        (86_400 * 3 + 7200, "3 d 2 h"),
        (-5, "0 s"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "never"),
        (0.5, "now"),
        (8.4, "8 s ago"),
        (59.9, "60 s ago"),
        (60, "1 min ago"),
        (7199, "1 h ago"),
        (200_000, "2 d ago"),
    ],
)
def test_age(seconds: float | None, text: str) -> None:
    assert age_text(seconds) == text


@pytest.mark.parametrize(
    ("whole", "part", "text"),
    [(None, 5, "-"), (0, 5, "-"), (100, 0, "-"), (82, 10, "8.2x"), (2116, 100, "21x")],
)
def test_ratio(whole: int | None, part: int, text: str) -> None:
    assert ratio_text(whole, part) == text


def test_percent_and_count() -> None:
    assert [percent_text(share) for share in (None, -1, 0.961, 1)] == [
        "-",
        "-",
        "96.1 %",
        "100.0 %",
    ]
    assert [count_text(n, "job") for n in (0, 1, 2)] == ["0 jobs", "1 job", "2 jobs"]


@given(st.text())
def test_nothing_steers_the_terminal(text: str) -> None:
    clean = printable(text)
    assert clean.isprintable() and len(clean) == len(text)
