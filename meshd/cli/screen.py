"""The status screen: a pure function from the status object (version 1) to lines of text.

Each machine and job has one explicit word for its state and a WHY sentence; figures carry their
unit; the last lines are the commands to type next. The object comes from the daemon, parts of it
from other machines: every text of theirs passes `printable`.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from rich.text import Text

from meshd.cli.columns import Cell, Row, table, wrapped
from meshd.cli.figures import (
    NONE,
    age_text,
    bytes_text,
    count_text,
    duration_text,
    percent_text,
    printable,
    ratio_text,
)

STATUS_VERSION = 1
ID_DIGITS = 8  # of 32: enough to name one of thousands of jobs
FINISHED_SHOWN = 5  # on a terminal; the others are counted, and all are in --json

STYLES = {
    **{"here": "green", "alive": "green", "lost": "bold red", "not seen": "yellow"},
    **{"training": "green", "done": "bold green", "waiting": "yellow", "forming": "yellow"},
    **{"stopped": "bold red", "failed": "bold red", "cancelled": "dim"},
}
ORDER = ("training", "forming", "stopped", "waiting", "failed", "done", "cancelled")
FINISHED = {"failed", "done", "cancelled"}

WATCH = "status --watch"

MACHINE_TITLES = ("MACHINE", "STATE", "HEARD", "FREE", "ADDRESS")
JOB_TITLES = (
    *("JOB", "STATE", "STEP", "EPOCH", "ACCURACY", "LOSS"),
    *("SENT EACH", "FLOAT32 RING", "TIME", "ID"),
)

Object = dict[str, Any]


def status_screen(
    status: Object, width: int | None, program: str = "meshd", watching: bool = False
) -> list[Text]:
    """All lines of the screen, none longer than `width` unless a single word is.

    Args:
        status: the status object, version 1.
        width: of the terminal in cells; None: unbounded, every row one line, every job shown.
        program: how suggested commands begin.
        watching: the screen refreshes itself: do not suggest to watch.
    """
    lines = [*_head(status["machine"], width), Text()]
    lines += [*_machines(status["machines"], width), Text()]
    lines += [*_jobs(status["jobs"], width), Text()]
    steps = [step for step in next_steps(status) if not (watching and step[1] == WATCH)]
    for number, (words, command) in enumerate(steps):
        start = "next: " if number == 0 else "      "
        lines += wrapped(Cell(f"{start}{program} {command}   ({words})", "cyan"), width)
    return lines


def _head(machine: Object, width: int | None) -> Iterator[Text]:
    facts = [
        printable(machine["name"]),
        f"meshd {printable(machine['version'])}",
        f"up {duration_text(machine['uptime_s'])}",
        f"{bytes_text(machine['rss_bytes'])} memory",
        f"{bytes_text(machine['bytes_sent'])} sent",
        f"pid {machine['pid']}",
    ]
    yield from wrapped(Cell(" · ".join(facts), "bold"), width)


def _machines(machines: Sequence[Object], width: int | None) -> Iterator[Text]:
    yield from wrapped(Cell(_counted(machines, "machine"), "dim"), width)
    if not machines:
        return
    # Versions are worth a column only where they differ: then it shows which machine lags.
    versions = {machine["version"] for machine in machines if machine["version"]}
    titles = [*MACHINE_TITLES, "VERSION"] if len(versions) > 1 else MACHINE_TITLES
    yield from table(titles, [_machine_row(m, len(titles)) for m in machines], width)


def _machine_row(machine: Object, columns: int) -> Row:
    state = machine["state"]
    host = printable(machine["host"] or "")
    heard = "now" if state == "here" else age_text(machine["age_s"])
    present = state in {"here", "alive"}
    cells = [
        Cell(printable(machine["name"])),
        Cell(state, STYLES.get(state, "")),
        Cell(heard),
        Cell(("yes" if machine["available"] else "no") if present else NONE),
        Cell(f"{host}:{machine['port']}" if host else NONE),
        Cell(printable(machine["version"] or NONE)),
    ]
    return Row(cells[:columns], Cell(printable(machine["why"]), "dim" if present else ""))


def _jobs(jobs: Sequence[Object], width: int | None) -> Iterator[Text]:
    yield from wrapped(Cell(_counted(jobs, "job"), "dim"), width)
    shown = sorted(jobs, key=_job_order)
    if width is not None:
        finished = [job for job in shown if job["state"] in FINISHED]
        shown = [job for job in shown if job["state"] not in FINISHED] + finished[:FINISHED_SHOWN]
    if shown:
        yield from table(JOB_TITLES, [_job_row(job) for job in shown], width, why_below=True)
    if hidden := len(jobs) - len(shown):
        words = f"{count_text(hidden, 'older finished job')} not shown; all: meshd status | cat"
        yield from wrapped(Cell(words, "dim"), width)


def _job_order(job: Object) -> tuple[int, float]:
    """What runs or needs a hand first, then what is finished; the newest first in each."""
    state = job["state"]
    kind = len(ORDER) if state in FINISHED else ORDER.index(state) if state in ORDER else -1
    return kind, -job["submitted_at"]


def _counted(things: Sequence[Object], noun: str) -> str:
    """`3 machines: 1 here, 2 alive`: the parts add up to the whole."""
    states = Counter(printable(thing["state"]) for thing in things)
    parts = ", ".join(f"{number} {state}" for state, number in states.items())
    return count_text(len(things), noun) + (f": {parts}" if parts else "")


def sent_each(job: Object) -> int:
    """The most bytes that any member of the job has sent."""
    sent = [member["bytes_sent"] for member in (*job["members"], *job["results"])]
    return max(sent, default=0)


def step_text(job: Object) -> str:
    """`420/900 46 %`; the percentage is rounded down, so that 100 % is done."""
    if not job["steps"]:
        return NONE
    return f"{job['step']}/{job['steps']} {100 * job['step'] // job['steps']} %"


def _job_row(job: Object) -> Row:
    sent, ring = sent_each(job), job["float32_ring_bytes"]
    loss = job["loss"]
    reported = loss is not None  # by any member of this generation
    cells = [
        Cell(printable(job["name"])),
        Cell(job["state"], STYLES.get(job["state"], "")),
        Cell(step_text(job)),
        Cell(f"{job['epoch']}/{job['epochs']}" if reported else NONE),
        Cell(percent_text(job["accuracy"]), "bold"),
        Cell(f"{loss:.3f}" if reported else NONE),
        Cell(bytes_text(sent) if sent else NONE),
        Cell(f"{bytes_text(ring)}, {ratio_text(ring, sent)}" if ring and sent else NONE),
        Cell(duration_text(job["seconds"]) if job["seconds"] else NONE),
        Cell(job["job"][:ID_DIGITS]),
    ]
    urgent = job["state"] in {"stopped", "failed"} or job.get("stalled")
    return Row(cells, Cell(printable(job["why"]), "" if urgent else "dim"), [*_job_notes(job)])


def _job_notes(job: Object) -> Iterator[Cell]:
    """Who takes part, in which ring of the attempt if it is not the first, and for a finished job
    whether all hold the same weights."""
    if job["members"] and job["state"] not in FINISHED:
        names = ", ".join(_member_text(member) for member in job["members"])
        ring = f"members of ring {job['ring']}" if job.get("ring", 1) > 1 else "members"
        yield Cell(f"{ring}: {names}", "dim")
    if job["results"]:
        yield weights_cell(job["results"])


def _member_text(member: Object) -> str:
    """`desk-2` or `desk-2 (lost)`. Not its step: members are at most one apart, so a difference
    would only be the age of what we heard."""
    name = printable(member["name"])
    return name if member["alive"] else f"{name} (lost)"


def weights_cell(results: Sequence[Object]) -> Cell:
    """Whether all members ended with the same weights."""
    hashes = {result["weight_hash"] for result in results}
    if len(hashes) > 1:
        each = ", ".join(f"{printable(r['name'])} {r['weight_hash'][:16]}" for r in results)
        return Cell(f"weights DIFFER: {each}", "bold red")
    whole = printable(next(iter(hashes)))
    return Cell(f"equal weights on {count_text(len(results), 'member')}: {whole[:16]}", "dim")


def next_steps(status: Object) -> list[tuple[str, str]]:
    """What to type next, as (words, command without the program): the most urgent first."""
    jobs = sorted(status["jobs"], key=lambda job: -job["submitted_at"])
    by_state: dict[str, Object] = {}
    for job in jobs:
        by_state.setdefault(job["state"], job)
    steps = []
    if job := by_state.get("stopped"):
        steps.append(("go on from the last checkpoint", f"resume {_handle(job, jobs)}"))
    if {"training", "forming", "waiting"} & set(by_state):
        steps.append(("watch it", WATCH))
    if jobs and jobs[0]["state"] == "failed":
        steps.append(("see what happened", f"logs {_handle(jobs[0], jobs)}"))
    if jobs and jobs[0]["state"] == "done":
        job = jobs[0]
        file = shlex.quote(f"{printable(job['name'])}.safetensors")
        steps.append(("save the model", f"fetch {_handle(job, jobs)} -o {file}"))
    if len(status["machines"]) <= 1:
        steps.append(("let another machine in, with its `meshd key`", "trust NAME 'KEY'"))
    if not jobs:
        steps.append(("start a job", "submit JOB.toml --data FILE"))
    return steps or [("all commands", "--help")]


def _handle(job: Object, jobs: Sequence[Object]) -> str:
    """The name where it means this job (a name means the newest), else the id's beginning."""
    newest = next(other for other in jobs if other["name"] == job["name"])
    return printable(job["name"]) if newest is job else str(job["job"][:ID_DIGITS])
