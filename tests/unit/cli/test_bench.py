"""`meshd bench`: refusals before anything is measured, the tables, and what JSON carries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meshd.bench import plans, run
from meshd.cli.bench_report import number, report_lines, shape_text
from meshd.cli.main import run as meshd

Capture = pytest.CaptureFixture[str]

ROW = {
    **{"kernel": "product_signed", "m": 256, "k": 256, "n": 256, "beta": 128, "coding": "signed"},
    **{"threads": 1, "isa": "avx512", "gops": 1234.4, "gops_median": 1200.0, "gb_per_s": None},
    **{"vs_onednn": 12.34, "vs_mm": 23.45, "vs_cmma": 45.6, "ceiling": "xor_popcount_zmm"},
    **{"share_of_ceiling": 0.876, "max_rel_error": 1.5e-7, "seconds_best": 2.7e-5},
    **{"scaling": None, "family": "forward"},
}
STREAM = ROW | {
    **{"kernel": "pack_signed", "m": 1, "k": 1 << 25, "n": 1, "gops": None, "gb_per_s": 28.3},
    **{
        "gb_per_s_median": 25.0,
        "family": "stream",
        "ceiling": "memory_read",
        "vs_onednn": None,
        "vs_mm": None,
    },
}
REPORT: dict[str, Any] = {
    "machine": {
        **{"processor": "A processor", "threads": 1, "pinned_to": [3], "isa": "avx512"},
        **{
            "torch": "2.13.0",
            "seconds": 29.4,
            "share_of_core": 0.99,
            "unavailable": {"int8": "no int8 product"},
        },
    },
    "ceilings": {
        "clock": {"isa": "baseline", "ghz": 3.6},
        "xor_popcount_zmm": {"isa": "avx512", "mac_per_cycle": 343.1, "gops": 2470.0},
        "memory_read": {"isa": "avx512", "gb_per_s": 30.6},
    },
    "results": [ROW, ROW | {"kernel": "mm", "beta": None, "coding": "float32"}, STREAM],
    "skipped": ["forward 4096 x 4096 x 4096"],
}


def text(width: int | None) -> list[str]:
    return [line.plain for line in report_lines(REPORT, width)]


def test_the_tables() -> None:
    assert text(100) == [
        "A processor: 1 thread on core 3, kernels avx512, torch 2.13.0, 29 s",
        "",
        "clock 3.60 GHz",
        "CEILING           MAC/CYCLE  GOPS  GB/S  BOUNDS",
        "xor_popcount_zmm  343        2470  -     product_signed, mm",
        "memory_read       -          -     30.6  1 stream",
        "",
        "SHAPE  KERNEL          BETA  GOPS  ONEDNN  MM     CMMA   SHARE  ERROR    ISA",
        "256^3  mm              -     1234  12.3x   23.4x  45.6x  88 %   1.5e-07  avx512",
        "256^3  product_signed  128   1234  12.3x   23.4x  45.6x  88 %   1.5e-07  avx512",
        "",
        "KERNEL       ELEMENTS  GB/S  MEDIAN  SHARE  OF           ERROR    ISA",
        "pack_signed  33.6 M    28.3  25.0    88 %   memory_read  1.5e-07  avx512",
        "",
        "ONEDNN, MM, CMMA (and ONE thread): how many times as fast as each, best turns; SHARE: of "
        "the ceiling",
        "that bounds the kernel; ERROR: the largest over the largest true value.",
        "int8 is not here: no int8 product",
        "no time was left for: forward 4096 x 4096 x 4096",
    ]


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert all(len(line) <= width for line in text(width))


def test_with_threads_the_speed_over_one_is_shown() -> None:
    report = REPORT | {"results": [ROW | {"threads": 2, "scaling": 1.92}, STREAM]}
    lines = [line.plain for line in report_lines(report, 100)]
    assert "SHARE  ERROR    ONE   ISA" in "\n".join(lines)
    assert "88 %   1.5e-07  1.9x  avx512" in "\n".join(lines)


def test_a_shared_core_is_said() -> None:
    report = REPORT | {"machine": REPORT["machine"] | {"share_of_core": 0.52}}
    words = "others ran on this core too, it was ours for 52 % of the time"
    assert words in "\n".join(line.plain for line in report_lines(report, None))
    assert "others ran" not in "\n".join(text(None))


def test_a_pipe_gets_a_row_a_line() -> None:
    assert len([line for line in text(None) if line.startswith("256^3")]) == 2


def test_figures_are_short() -> None:
    assert [number(v) for v in (None, 0.0, 3.456, 99.94, 99.96, 2475.2)] == [
        *("-", "0.0", "3.5", "99.9", "100", "2475")
    ]
    assert shape_text({"m": 128, "k": 4096, "n": 4096}) == "128x4096x4096"


@pytest.fixture
def no_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "measure", lambda *_: pytest.fail("something was measured"))


def refusal(capsys: Capture) -> str:
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("meshd: ") and err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--threads", "0"], "0"),
        (["--threads", "many"], "many"),
        (["--threads", "100000"], "--threads 100000: this process may run on"),
        (["--plot", "out.png"], "must end in .svg"),
        (["--plot", "/nonexistent/folder/out.svg"], "there is no folder /nonexistent/folder"),
        (["--slow"], "--slow"),
        (["now"], "now"),
    ],
)
@pytest.mark.usefixtures("no_measuring")
def test_wrong_arguments_are_refused_first(
    arguments: list[str], words: str, capsys: Capture
) -> None:
    assert meshd(["bench", "kernels", *arguments]) == 2
    assert words in refusal(capsys)


@pytest.mark.usefixtures("no_measuring")
@pytest.mark.parametrize(
    ("plot", "missing", "named"),
    [
        ([], {"torch"}, "torch"),
        ([], {"numpy", "torch"}, "numpy, torch"),
        (["--plot", "out.svg"], {"matplotlib"}, "matplotlib"),
    ],
)
def test_missing_libraries_are_named(
    plot: list[str],
    missing: set[str],
    named: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name in missing else object()
    )
    assert meshd(["bench", "kernels", *plot]) == 6
    line = refusal(capsys)
    assert f"needs {named};" in line and "pip install 'meshd[bench]'" in line


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What was asked to be measured; the report is the one above."""
    asked: list[tuple[Any, ...]] = []

    def measure(plan: plans.Plan, threads: int, say: Callable[[str], None]) -> dict[str, Any]:
        say("something")
        asked.append((plan, threads))
        return REPORT

    monkeypatch.setattr(run, "measure", measure)
    return asked


def test_json_is_one_object(measured: list[tuple[Any, ...]], capsys: Capture) -> None:
    assert meshd(["bench", "kernels", "--json", "--quick"]) == 0
    assert json.loads(capsys.readouterr().out) == REPORT
    assert measured == [(plans.QUICK, 1)]


def test_without_quick_everything_is_measured(
    measured: list[tuple[Any, ...]], capsys: Capture
) -> None:
    assert meshd(["bench", "kernels"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines() == text(None) and "\x1b" not in out
    assert measured == [(plans.FULL, 1)]


@pytest.mark.usefixtures("measured")
def test_the_plot_is_written(tmp_path: Path) -> None:
    assert meshd(["bench", "kernels", "--quick", "--plot", str(tmp_path / "out.svg")]) == 0
    assert "<svg" in (tmp_path / "out.svg").read_text()


def test_help_loads_nothing_that_measures() -> None:
    code = (
        "import sys\nfrom meshd.cli.main import run\n"
        "assert run(['bench', 'kernels', '--help']) == 0\n"
        "assert not {'numpy', 'torch', 'matplotlib', 'meshd.bench'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--quick" in done.stdout


def test_bench_alone_shows_its_help(capsys: Capture) -> None:
    assert meshd(["bench"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "kernels" in err


def test_an_unknown_set_of_kernels_is_one_line() -> None:
    """The extension is loaded anew, so in a process of its own."""
    code = "import sys; from meshd.cli.main import run; sys.exit(run(['bench', 'kernels']))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"MESHD_FORCE_ISA": "sse9", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert "MESHD_FORCE_ISA: instruction set 'sse9' is not in this build" in line
