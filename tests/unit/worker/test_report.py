"""What a worker tells its daemon, under a virtual clock and with a link that only remembers."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from meshd.core.messages import WorkerProgress
from meshd.train.statistics import RunningStatistics
from meshd.train.trainer import Evaluated, Stepped
from meshd.worker.report import PROGRESS_PERIOD_S, Report, save_checkpoint


class Link:
    def __init__(self) -> None:
        self.sent: list[object] = []

    def send(self, message: object) -> None:
        self.sent.append(message)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_progress_goes_out_twice_a_second_at_most() -> None:
    link, clock = Link(), Clock()
    report = Report(link, lambda: 7, clock)
    for step in range(1, 1001):
        clock.now = 100.0 + step * 0.01
        report.stepped(Stepped(step, step // 100, 1.0))
    assert 10 / PROGRESS_PERIOD_S - 1 <= len(link.sent) <= 10 / PROGRESS_PERIOD_S + 1


def test_loss_is_the_mean_since_the_last_report_and_never_nan() -> None:
    link, clock = Link(), Clock()
    report = Report(link, lambda: 7, clock)
    report.stepped(Stepped(1, 0, 4.0))
    for loss in (1.0, math.nan, 3.0):
        report.stepped(Stepped(2, 0, loss))
    progress = report.progress()
    assert link.sent[0].progress.loss == 4.0
    assert progress.loss == 2.0
    report.stepped(Stepped(3, 0, math.nan))  # a member without a share of this step
    assert report.progress().loss == 2.0
    assert progress.bytes_sent == 7


def test_evaluations_are_told_at_once_and_logged(capsys: pytest.CaptureFixture[str]) -> None:
    link = Link()
    report = Report(link, lambda: 0, Clock())
    report.evaluated(Evaluated(30, 1, 0.875), 900)
    assert isinstance(link.sent[-1], WorkerProgress)
    assert link.sent[-1].progress.accuracy == 0.875
    assert "step 30 of 900, epoch 1: test accuracy 87.50 %" in capsys.readouterr().err


class FullDisk:
    """A trainer whose first slice fits and whose second does not."""

    statistics = RunningStatistics(torch.nn.Sequential())

    class holding:
        states = (None, None)


def test_a_full_disk_costs_one_checkpoint_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def write(path: Path, state: object, statistics: object) -> None:
        path.write_bytes(b"half")
        if path.name == "slice-1":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("meshd.worker.report.write_slice", write)
    link = Link()
    save_checkpoint(FullDisk, [0, 1], 40, tmp_path, link)
    assert link.sent == []
    assert "no checkpoint at step 40: No space left on device" in capsys.readouterr().err
    assert list(tmp_path.glob("checkpoint-40/*")) == []
