"""`meshd bench train`: its tables, its JSON, its refusals."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from meshd.bench import train
from meshd.bench.timing import Effort
from meshd.cli.bench_train_report import milliseconds, report_lines
from meshd.cli.main import run as meshd

REPORT: dict[str, Any] = {
    "machine": {
        **{"processor": "A processor", "threads": 2, "pinned_to": [2, 3], "isa": "avx512"},
        **{"torch": "2.13.0", "seconds": 42.0, "unavailable": {"bf16": "no such operator"}},
    },
    "settings": {
        **{"layers": 4, "width": 4096, "batch": 512, "seed": 1},
        "optimizer": "Adam, fused",
    },
    "results": [
        {
            **{"backward": "exact", "beta": 256, "threads": 2, "seconds": 0.4123},
            **{"vs_float32": 2.61, "vs_float32_default": 3.9, "vs_bf16": None},
            **{"vs_emulation": 6.4, "vs_emulation_compiled": 4.44},
        }
    ],
    "references": [{"program": "onednn", "beta": None, "seconds": 1.07, "seconds_median": 1.1}],
    "inference": [
        {
            **{"batch": 1, "beta": 256, "seconds": 0.000812},
            **{"vs_float32": 14.2, "vs_float32_default": 14.2},
        }
    ],
}


def test_the_tables() -> None:
    lines = [line.plain for line in report_lines(REPORT, None)]
    assert lines[:9] == [
        "A processor: 2 threads on core 2, 3, kernels avx512, torch 2.13.0, 42 s",
        "4 layers of 4096 x 4096, batch 512, Adam, fused, seed 1",
        "",
        "BACKWARD  BETA  MS   FLOAT32  DEFAULT  BF16  EMULATION  COMPILED",
        "exact     256   412  2.6x     3.9x     -     6.4x       4.4x",
        "",
        "PROGRAM  BETA  MS    MEDIAN",
        "onednn   -     1070  1100",
        "",
    ]
    assert lines[9:11] == [
        "BATCH  BETA  MS     FLOAT32  DEFAULT",
        "1      256   0.812  14.2x    14.2x",
    ]
    assert lines[-1] == "bf16 is not here: no such operator"


@pytest.mark.parametrize(
    ("seconds", "text"), [(1.0712, "1071"), (0.0567, "56.7"), (0.00032, "0.320")]
)
def test_milliseconds(seconds: float, text: str) -> None:
    assert milliseconds(seconds) == text


def test_json_is_one_object(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    effort = Effort(0.01, least_turns=1, most_turns=1)
    tiny = train.TrainPlan(64, 2, 4, (16,), ("int8",), (1,), False, effort, effort)
    monkeypatch.setattr(train, "QUICK", tiny)
    assert meshd(["bench", "train", "--quick", "--json", "--threads", "1"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [row["backward"] for row in report["results"]] == ["int8"]
    assert report["results"][0].keys() >= {"vs_float32", "vs_emulation", "seconds", "threads"}


def test_more_threads_than_cores_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    cores = len(os.sched_getaffinity(0))
    assert meshd(["bench", "train", "--threads", str(cores + 1)]) == 2
    assert "this process may run on" in capsys.readouterr().err
