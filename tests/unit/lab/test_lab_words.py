"""The lab without a lab: rates, groups, names, and one line for every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.errors import FailureError, UsageError
from meshd.lab import record
from meshd.lab.command import main, parse_groups
from meshd.lab.network import Lab, check_prefix
from meshd.lab.rates import LEAST_RATE, MOST_RATE, bucket_of, parse_rate, rate_text


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100mbit", 100_000_000),
        ("2.5gbit", 2_500_000_000),
        ("64kbit", 64_000),
        (" 1GBIT", 1_000_000_000),
    ],
)
def test_a_rate_is_read(text: str, rate: int) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text", ["", "100", "mbit", "-1mbit", "1tbit", "63kbit", "101gbit", "1e3mbit"]
)
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="rate"):
        parse_rate(text)


@given(st.integers(LEAST_RATE // 1000, MOST_RATE // 1000).map(lambda kbit: kbit * 1000))
def test_a_bucket_holds_a_frame_and_its_queue_is_bounded(rate: int) -> None:
    bucket = bucket_of(rate)
    assert bucket.burst_bytes >= 16 << 10
    assert 2 * bucket.burst_bytes <= bucket.queue_bytes <= max(1 << 20, 2 * bucket.burst_bytes)
    frames = -(-bucket.packet_bytes // 1448)
    assert bucket.packet_bytes + 66 * frames <= bucket.burst_bytes  # cut by the stack, never here
    assert bucket.arguments()[:3] == ["tbf", "rate", f"{rate}bit"]


@pytest.mark.parametrize(("rate", "text"), [(100_000_000, "100mbit"), (2_500_000_000, "2.5gbit")])
def test_a_rate_is_shown_as_it_is_written(rate: int, text: str) -> None:
    assert rate_text(rate) == text


def test_groups_are_read_with_and_without_blanks() -> None:
    wanted = [["h1", "h2"], ["h3"]]
    assert parse_groups(["h1,h2", "/", "h3"]) == wanted
    assert parse_groups(["h1,h2/h3"]) == wanted


@pytest.mark.parametrize("prefix", ["", "1a", "a/b", "../x", "a b", "a" * 21, "-a"])
def test_a_prefix_can_be_part_of_a_file_name(prefix: str) -> None:
    with pytest.raises(UsageError, match="prefix"):
        check_prefix(prefix)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["up", "0"], 2),
        (["up", "201"], 2),
        (["up", "2", "--rate", "fast"], 2),
        (["up", "2", "--prefix", "a/b"], 2),
        (["link", "h1", "down"], 7),
        (["status"], 7),
        (["down"], 0),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--state", str(tmp_path / "none"), *words]) == code
    out, err = capsys.readouterr()
    assert not out
    assert len(err.splitlines()) == (code != 0)
    assert not (tmp_path / "none").exists()


def test_without_root_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert main(["--state", str(tmp_path), "up", "2"]) == 4
    assert "needs root" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_without_iproute2_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["--state", str(tmp_path / "state"), "up", "2"]) == 6
    assert "install iproute2" in capsys.readouterr().err
    assert not (tmp_path / "state").exists()


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    one = record.Record("a", ["h1"], ["a-switch", "a-h1"], [["h1"]])
    record.reserve(tmp_path, one)
    assert record.load(tmp_path, "a") == one
    (tmp_path / "a.json").write_text('{"prefix": 1, "x": 2}')
    with pytest.raises(FailureError, match="broken"):
        Lab.find("a", tmp_path)
