"""What the demo does around the training: figures, folders, missing libraries, broken daemons.

The demo as a whole runs in `tests/e2e`.
"""

from __future__ import annotations

import io
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from meshd.cli.demo import demo_folder, ended_by_signals, write_digits
from meshd.cli.demo_report import Report, make_report, report_table
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


def table_text(report: Report) -> str:
    output = io.StringIO()
    Console(file=output, width=120).print(report_table(report, ["desk-1", "desk-2", "desk-3"]))
    return " ".join(output.getvalue().split())


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


def test_the_table_holds_every_figure_uncut(report: Report) -> None:
    text = table_text(report)
    for figure in ("96.0 %", "97.0 %", "12.3", "25.4 MB", "1.00 MB, 25x less", "ab" * 32):
        assert figure in text
    assert "equal on all members" in text


def test_different_weights_are_not_called_equal(report: Report) -> None:
    broken = Report(**{**report.as_object(), "weight_hashes": ["ab" * 32, "ab" * 32, "cd" * 32]})
    assert "DIFFERENT" in table_text(broken) and "equal" not in table_text(broken)


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
