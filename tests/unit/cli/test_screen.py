"""The status screen as text, from status objects."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.cli.screen import next_steps, status_screen


def plain(status: dict[str, Any], width: int | None = 120, program: str = "meshd") -> list[str]:
    return [line.plain for line in status_screen(status, width, program)]


@pytest.fixture
def four(make: Any) -> list[dict[str, Any]]:
    """One machine in every state."""
    return [
        make.machine("desk-1", "here", age_s=0, available=False, why="trains digits"),
        make.machine("desk-2"),
        make.machine("desk-3", "lost", age_s=13, why="its last sign of life came 13 s ago"),
        make.machine(
            "reception", "not seen", age_s=None, host="", port=0, version="", why="never announced"
        ),
    ]


def test_the_whole_screen(make: Any, four: list[dict[str, Any]]) -> None:
    assert plain(make.status([make.job()], four)) == [
        "desk-1 · meshd 0.1.0 · up 2 min 5 s · 38.2 MB memory · 1.20 MB sent · pid 1234",
        "",
        "4 machines: 1 here, 1 alive, 1 lost, 1 not seen",
        "MACHINE    STATE     HEARD     FREE  ADDRESS          WHY",
        "desk-1     here      now       no    127.0.0.1:40021  trains digits",
        "desk-2     alive     now       yes   127.0.0.1:40021  no job runs here",
        "desk-3     lost      13 s ago  -     127.0.0.1:40021  its last sign of life came 13 s ago",
        "reception  not seen  never     -     -                never announced",
        "",
        "1 job: 1 training",
        "JOB     STATE     STEP          EPOCH  ACCURACY  LOSS   SENT EACH  FLOAT32 RING  TIME  ID",
        "digits  training  420/900 46 %  14/30  96.1 %    0.123  1.20 MB    25.4 MB, 21x"
        "  12 s  3f2a91c0",
        "    why: trains on desk-1, desk-2 and desk-3",
        "    members: desk-1, desk-2, desk-3",
        "",
        "next: meshd status --watch   (watch it)",
    ]


def test_a_narrow_terminal_loses_no_figure(make: Any, four: list[dict[str, Any]]) -> None:
    status = make.status([make.job()], four)
    narrow = plain(status, 80)
    assert all(len(line) <= 80 for line in narrow)
    text = " ".join(" ".join(narrow).split())
    for figure in ("96.1 %", "0.123", "1.20 MB", "25.4 MB, 21x", "3f2a91c0", "127.0.0.1:40021"):
        assert figure in text
    assert "why: its last sign of life came 13 s ago" in text


def test_a_lost_member_is_named(make: Any) -> None:
    job = make.job(state="stopped", why="desk-3 was lost at step 421: meshd resume digits")
    job["members"][2].update(alive=False)
    lines = plain(make.status([job], [make.machine("desk-1", "here")]))
    assert "    why: desk-3 was lost at step 421: meshd resume digits" in lines
    assert "    members: desk-1, desk-2, desk-3 (lost)" in lines
    assert "next: meshd resume digits   (go on from the last checkpoint)" in lines


@pytest.mark.parametrize(
    ("hashes", "words"),
    [
        (["ab" * 32] * 2, "equal weights on 2 members: abababababababab"),
        (["ab" * 32, "cd" * 32], "DIFFER: desk-1 abababababababab, desk-2 cdcdcdcdcdcdcdcd"),
    ],
)
def test_a_finished_job_shows_whether_weights_agree(
    make: Any, hashes: list[str], words: str
) -> None:
    results = [make.result(f"desk-{i}", digest) for i, digest in enumerate(hashes, start=1)]
    lines = plain(make.status([make.job(state="done", results=results)], []))
    assert any(words in line for line in lines)
    assert any("fetch digits -o digits.safetensors" in line for line in lines)


def test_a_job_that_has_not_begun(make: Any) -> None:
    job = make.job(state="waiting", members=[], step=0, steps=0, epoch=0, loss=None, accuracy=-1)
    job.update(seconds=None, float32_ring_bytes=None, why="waits for 3 machines; 2 are free")
    lines = plain(make.status([job], []))
    row = next(line for line in lines if line.startswith("digits"))
    assert row.split() == ["digits", "waiting", *"-------", "3f2a91c0"]
    assert "    why: waits for 3 machines; 2 are free" in lines


def test_versions_are_shown_where_they_differ(make: Any) -> None:
    machines = [make.machine("desk-1", "here"), make.machine("desk-2", version="0.0.9")]
    text = "\n".join(plain(make.status([], machines)))
    assert "VERSION" in text and "0.0.9" in text
    same = [make.machine("desk-1", "here"), make.machine("desk-2")]
    assert "VERSION" not in "\n".join(plain(make.status([], same)))


def test_old_jobs_are_counted_on_a_terminal_and_shown_in_a_pipe(make: Any) -> None:
    jobs = [make.job(state="done", name=f"job-{i}", submitted_at=float(i)) for i in range(9)]
    status = make.status(jobs, [])
    shown = [line for line in plain(status) if line.startswith("job-")]
    assert [line.split()[0] for line in shown] == ["job-8", "job-7", "job-6", "job-5", "job-4"]
    assert any(line.startswith("4 older finished jobs not shown") for line in plain(status))
    assert sum(line.startswith("job-") for line in plain(status, None)) == 9


def test_what_runs_stands_above_what_is_finished(make: Any) -> None:
    states = ["done", "waiting", "failed", "training", "stopped", "cancelled", "forming"]
    jobs = [
        make.job(state=state, name=f"job-{state}", submitted_at=float(i))
        for i, state in enumerate(states)
    ]
    names = [line.split()[0][4:] for line in plain(make.status(jobs, [])) if line[:4] == "job-"]
    assert names == ["training", "forming", "stopped", "waiting", "cancelled", "failed", "done"]


def test_next_steps(make: Any) -> None:
    here, other = make.machine("desk-1", "here"), make.machine("desk-2")

    def commands(*jobs: dict[str, Any], alone: bool = False) -> list[str]:
        machines = [here] if alone else [here, other]
        return [command for _, command in next_steps(make.status(list(jobs), machines))]

    assert commands(alone=True) == ["trust NAME 'KEY'", "submit JOB.toml --data FILE"]
    assert commands() == ["submit JOB.toml --data FILE"]
    assert commands(make.job()) == ["status --watch"]
    assert commands(make.job(state="waiting")) == ["status --watch"]
    assert commands(make.job(state="failed")) == ["logs digits"]
    assert commands(make.job(state="cancelled")) == ["--help"]
    older = make.job(state="stopped", job="0" * 32, submitted_at=0.5)
    assert commands(make.job(), older) == ["resume 00000000", "status --watch"]


def test_who_watches_is_not_told_to_watch(make: Any) -> None:
    status = make.status([make.job()], [make.machine("a", "here"), make.machine("b")])
    assert "next:" in status_screen(status, 120)[-1].plain
    assert "next:" not in status_screen(status, 120, watching=True)[-1].plain


def test_suggested_commands_name_the_state_folder(make: Any) -> None:
    lines = plain(make.status([], []), program="meshd --state '/tmp/a b'")
    assert any("meshd --state '/tmp/a b' submit" in line for line in lines)


@given(st.text(max_size=40))
def test_foreign_text_steers_no_terminal(text: str) -> None:
    machine = {
        **{"name": text, "key": "", "state": "alive", "age_s": 1.0, "host": text, "port": 1},
        **{"available": True, "why": text, "version": text},
    }
    status = {
        "machine": {
            **{"name": text, "version": text, "uptime_s": 1, "rss_bytes": 1, "bytes_sent": 1},
            "pid": 1,
        },
        "machines": [machine],
        "jobs": [],
    }
    for line in plain(status, None):
        assert line.isprintable()
