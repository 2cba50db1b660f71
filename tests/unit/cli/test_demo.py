"""What the demo does around the training: figures, folders, missing libraries, broken daemons.

The demo as a whole runs in `tests/e2e`.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meshd.cli.demo import demo_folder, ended_by_signals, write_digits
from meshd.cli.demo_report import Report, make_report, member_names, report_lines
from meshd.core.errors import FailureError, UsageError

Capture = pytest.CaptureFixture[str]

KEYS = [
    *("members", "epochs", "accuracy", "accuracy_float32_exchange", "seconds"),
    *("bytes_sent_per_member", "bytes_float32_ring", "weight_hashes"),
]


@pytest.fixture
def report(make: Any) -> Report:
    results = [make.result(f"desk-{i}", sent=1_000_000 + i) for i in (1, 2, 3)]
    results[1]["accuracy"] = 0.96
    job = make.job(state="done", results=results)
    reference = make.job(state="done", results=[make.result("desk-1")])
    return make_report(job, 12.3456, reference)


def table_text(report: Report, width: int | None = None) -> str:
    names = ["desk-1", "desk-2", "desk-3"]
    return "\n".join(line.plain for line in report_lines(report, names, width))


def test_the_object_has_exactly_the_promised_keys(report: Report) -> None:
    found = json.loads(json.dumps(report.as_object()))
    assert list(found) == KEYS
    assert found["members"] == 3 and found["epochs"] == 30
    assert found["accuracy"] == 0.96, "the lowest of all members"
    assert found["accuracy_float32_exchange"] == 0.97
    assert found["seconds"] == 12.35
    assert found["bytes_sent_per_member"] == [1_000_001, 1_000_002, 1_000_003]
    assert found["bytes_float32_ring"] == 25_400_000
    assert found["weight_hashes"] == ["ab" * 32] * 3


def test_the_table_holds_every_figure(report: Report) -> None:
    assert table_text(report).splitlines() == [
        "               VOTES ON THE RING  FLOAT32, ONE PROCESS",
        "members        3                  1",
        "epochs         30                 30",
        "test accuracy  96.0 %             97.0 %",
        "seconds        12.3               -",
        "",
        "MEMBER  SENT     FLOAT32 RING  LESS  WEIGHTS",
        "desk-1  1.00 MB  25.4 MB       25x   abababababababab",
        "desk-2  1.00 MB  25.4 MB       25x   abababababababab",
        "desk-3  1.00 MB  25.4 MB       25x   abababababababab",
        "",
        "equal weights on 3 members:",
        "ab" * 32,
    ]
    assert all(len(line) <= 80 for line in table_text(report, 80).splitlines())


def test_members_are_in_the_order_of_their_names(make: Any) -> None:
    results = [make.result("desk-2", "22" * 32, 2), make.result("desk-1", "11" * 32, 1)]
    job = make.job(results=results)
    assert member_names(job) == ["desk-1", "desk-2"]
    report = make_report(job, 1.0, job)
    assert report.bytes_sent_per_member == [1, 2]
    assert report.weight_hashes == ["11" * 32, "22" * 32]


def test_different_weights_are_not_called_equal(report: Report) -> None:
    broken = Report(**{**report.as_object(), "weight_hashes": ["ab" * 32, "ab" * 32, "cd" * 32]})
    text = table_text(broken)
    assert "the weights DIFFER:" in text and "equal" not in text
    assert f"desk-3 {'cd' * 32}" in text


def test_missing_libraries_are_named(
    meshd: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert meshd("demo") == 6
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert "torch" in err and "scikit-learn" in err and "pip install 'meshd[demo]'" in err


def test_a_temporary_folder_is_ours_alone_and_goes() -> None:
    with demo_folder(None) as folder:
        assert folder.stat().st_mode & 0o077 == 0
        (folder / "desk-1").mkdir()
    assert not folder.exists()
    with pytest.raises(ZeroDivisionError), demo_folder(None) as folder:
        raise ZeroDivisionError
    assert not folder.exists()


def test_a_kept_folder_stays_and_must_be_empty(tmp_path: Path) -> None:
    with demo_folder(tmp_path / "new" / "folder") as folder:
        assert folder.stat().st_mode & 0o077 == 0
        (folder / "desk-1.log").touch()
    assert (folder / "desk-1.log").exists()
    with pytest.raises(UsageError, match="not empty"), demo_folder(folder):
        pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_end_it_in_order(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as end, ended_by_signals(), demo_folder(None) as folder:
        signal.raise_signal(number)
    assert end.value.code == 128 + number
    assert not folder.exists()
    assert signal.getsignal(number) is before


def test_the_digits_are_real_data(tmp_path: Path) -> None:
    import numpy as np

    with np.load(write_digits(tmp_path / "digits.npz"), allow_pickle=False) as arrays:
        assert len(arrays["x_train"]) + len(arrays["x_test"]) == 1797
        assert set(arrays["y_test"]) == set(range(10))


def test_digits_that_cannot_be_written_are_a_line(tmp_path: Path) -> None:
    with pytest.raises(FailureError, match=r"digits could not be written.*No such file"):
        write_digits(tmp_path / "none" / "digits.npz")
