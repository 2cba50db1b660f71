"""The report: its keys, what is measured, ratios that agree with its seconds, errors."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from typing import Any

import pytest
import torch

from meshd.bench import arrays, machine, plans, references, run, streams
from meshd.bench.products import BACKWARD, FORWARD
from meshd.bench.results import REFERENCES
from meshd.bits import ops

Report = dict[str, Any]
KEYS = {
    *("kernel", "m", "k", "n", "beta", "coding", "threads", "isa"),
    *("gops", "vs_onednn", "vs_mm", "share_of_ceiling", "max_rel_error"),
}
NUMBERS = KEYS - {"kernel", "coding", "isa"} | {"seconds_best", "seconds_median", "gb_per_s"}


def rows(report: Report, kernel: str) -> list[Report]:
    return [row for row in report["results"] if row["kernel"] == kernel]


def test_the_report_is_json_with_the_promised_keys(report: Report) -> None:
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert {"machine", "ceilings", "results"} <= report.keys()
    assert report["skipped"] == []
    for row in report["results"]:
        assert row.keys() >= KEYS
        for key in NUMBERS:
            value = row[key]
            assert value is None or (math.isfinite(value) and value >= 0), (key, row)


def test_everything_in_the_tables_is_measured(report: Report) -> None:
    measured = {row["kernel"] for row in report["results"]}
    assert measured >= {kernel.name for kernel in (*FORWARD, *BACKWARD)}
    assert measured >= {prepare.__name__ for prepare, _ in streams.STREAMS}
    missing = {reference.name for reference in references.REFERENCES} - measured
    assert missing == set(report["machine"]["unavailable"])
    assert {"mm", "onednn", "cmma"} <= measured


def test_every_set_of_kernels_runs_where_a_plan_says_so(report: Report) -> None:
    for kernel in FORWARD:
        found = {(row["isa"], row["beta"]) for row in rows(report, kernel.name)}
        isas = [isa for isa in ops.list_isas() if isa != "scalar"] or ["scalar"]
        betas = kernel.lengths(plans.TINY.betas, 64)
        assert betas and found == {(isa, beta) for isa in isas for beta in betas}


def test_ratios_agree_with_the_seconds(report: Report) -> None:
    forward = [row for row in report["results"] if row["family"] == "forward"]
    best = {row["kernel"]: row["seconds_best"] for row in forward}
    for kernel in FORWARD:
        for row in rows(report, kernel.name):
            assert row["gops"] == pytest.approx(2 * 64**3 / row["seconds_best"] / 1e9)
            for name in ("onednn", "mm", "cmma"):
                assert row[f"vs_{name}"] == pytest.approx(best[name] / row["seconds_best"])
    for name in ("mm", "onednn", "cmma"):
        assert all(row[f"vs_{name}"] == 1 for row in rows(report, name))


def test_shares_are_of_the_ceiling_that_is_named(report: Report) -> None:
    ceilings = report["ceilings"]
    shares = 0
    for row in report["results"]:
        if row["gops"] is not None and row["share_of_ceiling"] is not None:
            bound = ceilings[row["ceiling"]]["gops"] * row["threads"]
            assert row["share_of_ceiling"] == pytest.approx(row["gops"] / bound)
            shares += 1
        if row["gb_per_s"] is not None:
            assert row["ceiling"] in ceilings and row["share_of_ceiling"] > 0
            assert ceilings[row["ceiling"]]["gb_per_s"] > 0
    assert shares or report["machine"]["isas"] == ["scalar"]


def test_kernels_agree_with_float64(report: Report) -> None:
    for row in report["results"]:
        error, name = row["max_rel_error"], row["kernel"]
        if name == "int8":
            assert error is None
        else:
            loose = {"bf16": 0.05, "backward_int8": 0.05, "backward_planes2": 0.5}
            bound = next((loose[part] for part in loose if name.startswith(part)), 1e-5)
            assert error < bound, row


def test_a_wrong_kernel_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is that of the kernel which was timed: a wrong one has a large one."""

    def too_large(a: Any, w: Any, beta: int, threads: int) -> Any:
        right = FORWARD[0].prepare(a, w, beta, threads)
        return lambda: right() * 1.5

    wrong = replace(FORWARD[0], name="too_large", prepare=too_large)
    monkeypatch.setattr(run, "FORWARD", (wrong,))
    plan = replace(plans.TINY, all_isas=(), betas=(16,), backward=())
    (row,) = rows(run.measure(plan), "too_large")
    assert row["max_rel_error"] == pytest.approx(0.5, rel=0.01)


def test_what_there_is_no_time_for_is_named() -> None:
    report = run.measure(replace(plans.TINY, limit_s=-1.0))
    assert report["results"] == []
    assert "forward 64 x 64 x 64" in report["skipped"]
    assert len(report["skipped"]) == len(streams.STREAMS) + 3  # forward, backward, conv


def test_a_reference_that_does_not_run_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Any:
        raise RuntimeError("no such\nproduct here")

    monkeypatch.setattr(torch, "_int_mm", refuse)
    monkeypatch.setattr(references, "prepare_qlinear", refuse)
    report = run.measure(replace(plans.TINY, all_isas=(), betas=(16,)))
    assert "no such" in report["machine"]["unavailable"]["int8"]
    assert rows(report, "product_signed")[0]["vs_int8"] is None


def test_the_process_is_as_it_was_afterwards() -> None:
    before = os.sched_getaffinity(0), torch.get_num_threads(), ops.isa()
    with machine.pinned(1) as cores:
        assert os.sched_getaffinity(0) == set(cores) and len(cores) == 1
        assert torch.get_num_threads() == 1
    with pytest.raises(ValueError, match="threads: must be 1 to"), machine.pinned(10_000):
        pass
    with pytest.raises(ZeroDivisionError), machine.pinned(1):
        raise ZeroDivisionError
    run.measure(replace(plans.TINY, shapes=(), backward=()))
    assert (os.sched_getaffinity(0), torch.get_num_threads(), ops.isa()) == before


def test_the_machine_is_described(report: Report) -> None:
    about = report["machine"]
    assert about["processor"] and about["isa"] == ops.isa()
    assert 0 < about["share_of_core"] <= 1.05
    assert about["threads"] == len(about["pinned_to"]) == 1


def test_the_plans_hold_what_is_asked_for() -> None:
    cubes = {(size,) * 3 for size in (256, 512, 1024, 2048, 4096)}
    assert set(plans.FULL.shapes) == cubes | {(128, 4096, 4096)}
    assert plans.FULL.betas == (0, 512, 256, 128, 64, 32, 16)
    assert set(plans.QUICK.shapes) < set(plans.FULL.shapes)
    assert plans.QUICK.limit_s < 45
    for plan in (plans.FULL, plans.QUICK):
        assert plan.elements % arrays.ROW == 0 and 4 * plan.elements > 3 * 32 << 20
    assert {reference.name for reference in references.REFERENCES} == set(REFERENCES)
