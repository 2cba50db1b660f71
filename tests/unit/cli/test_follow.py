"""Progress of one job, as lines for a log file."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from meshd.cli.follow import follow, progress_lines, refuse_unfinished
from meshd.cli.settings import Settings
from meshd.core.errors import FailureError


def test_the_line_holds_the_figures(make: Any) -> None:
    assert progress_lines(make.job()) == [
        "digits  training  ━━━━━━━━━─────────── 46 %  12 s",
        "epoch 14/30  accuracy 96.1 %  loss 0.123  1.20 MB each, 21x less than float32",
    ]


def test_before_the_first_step_it_says_why(make: Any) -> None:
    job = make.job(state="forming", step=0, why="desk-2 fetches the data")
    assert progress_lines(job) == ["digits  forming  desk-2 fetches the data", ""]


def test_without_a_ring_there_is_nothing_to_compare(make: Any) -> None:
    _, facts = progress_lines(make.job(float32_ring_bytes=None, loss=None, seconds=None))
    assert facts == "epoch 14/30  accuracy 96.1 %  1.20 MB each"


def test_follow_prints_each_epoch_once(daemon: Any, make: Any) -> None:
    epochs = [1, 1, 1, 2, 2, 3]
    jobs = [make.job(epoch=epoch) for epoch in epochs] + [make.job(epoch=3, state="done")]
    daemon.answers["status"] = lambda _: make.status([jobs.pop(0)], [])
    output = io.StringIO()
    console = Console(file=output, width=40)
    end = follow(Settings(daemon.state), jobs[0]["job"], console)
    assert end["state"] == "done"
    lines = output.getvalue().splitlines()
    assert [line.split("epoch ")[1].split("/")[0] for line in lines] == ["1", "2", "3", "3"]


def test_a_job_that_vanishes_is_an_error(daemon: Any, make: Any) -> None:
    daemon.answers["status"] = make.status([], [])
    with pytest.raises(FailureError, match="does not know job abc"):
        follow(Settings(daemon.state), "abc", Console(file=io.StringIO()))


def test_only_done_is_success(make: Any) -> None:
    refuse_unfinished(make.job(state="done"), "meshd")
    with pytest.raises(
        FailureError, match=r"digits is failed: broken data; see: meshd logs digits"
    ):
        refuse_unfinished(make.job(state="failed", why="broken data"), "meshd")
