"""Follow one job until it ends: a live line on a terminal, a line for each epoch elsewhere.

Words, so on stderr. `meshd submit --watch` and `meshd demo` share it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from meshd.cli.figures import bytes_text, duration_text, percent_text, printable, ratio_text
from meshd.cli.settings import Settings
from meshd.cli.status import ask_status

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

ENDED = {"done", "failed", "cancelled", "stopped"}
PERIOD_S = 0.2
BAR_CELLS = 20


def follow(settings: Settings, job: str, console: Console | None = None) -> dict[str, Any]:
    """Show progress until the job has ended; returns its entry of the status object.

    Raises:
        MeshdError: the daemon is gone, or no longer knows the job.
    """
    from rich.console import Console
    from rich.live import Live

    console = console or Console(stderr=True, highlight=False)
    entry = find_job(settings, job)
    if not console.is_terminal:
        return _follow_lines(settings, entry, console)
    with Live(_block(entry, console.width), console=console, auto_refresh=False) as live:
        while True:
            live.update(_block(entry, console.width), refresh=True)
            if entry["state"] in ENDED:
                return entry
            time.sleep(PERIOD_S)
            entry = find_job(settings, job)


def _block(entry: dict[str, Any], width: int) -> Text:
    """The lines for a terminal, the figures below what they belong to."""
    from rich.text import Text

    from meshd.cli.columns import Cell, wrapped

    head, facts = progress_lines(entry)
    return Text("\n").join([*wrapped(Cell(head), width), *wrapped(Cell(facts), width, 2)])


def _follow_lines(settings: Settings, entry: dict[str, Any], console: Console) -> dict[str, Any]:
    """For a log file: a line whenever state or epoch changes."""
    seen = None
    while True:
        if (entry["state"], entry["epoch"]) != seen:
            seen = (entry["state"], entry["epoch"])
            line = "  ".join(part for part in progress_lines(entry) if part)
            console.print(line, soft_wrap=True, markup=False)
        if entry["state"] in ENDED:
            return entry
        time.sleep(PERIOD_S)
        entry = find_job(settings, entry["job"])


def find_job(settings: Settings, job: str) -> dict[str, Any]:
    """A job's entry of the status object, by its whole id.

    Raises:
        FailureError: the daemon does not know it.
    """
    for entry in ask_status(settings, patient=True)["jobs"]:
        if entry["job"] == job:
            return dict(entry)
    from meshd.net.local import FailureError

    raise FailureError(f"the daemon does not know job {job} any more")


def progress_lines(entry: dict[str, Any]) -> list[str]:
    """How far a job is: what it does, and with which figures. The second is empty at first."""
    from meshd.cli.screen import sent_each

    head = f"{printable(entry['name'])}  {entry['state']}"
    if not entry["step"]:
        return [f"{head}  {printable(entry['why'])}", ""]
    done = entry["step"] / entry["steps"] if entry["steps"] else 0.0
    filled = int(done * BAR_CELLS)
    head += f"  {'━' * filled}{'─' * (BAR_CELLS - filled)} {int(100 * done)} %"
    if entry["seconds"]:
        head += f"  {duration_text(entry['seconds'])}"
    facts = [
        f"epoch {entry['epoch']}/{entry['epochs']}",
        f"accuracy {percent_text(entry['accuracy'])}",
    ]
    if entry["loss"] is not None:
        facts.append(f"loss {entry['loss']:.3f}")
    sent, ring = sent_each(entry), entry["float32_ring_bytes"]
    if sent:
        less = f", {ratio_text(ring, sent)} less than float32" if ring else ""
        facts.append(f"{bytes_text(sent)} each{less}")
    return [head, "  ".join(facts)]


def refuse_unfinished(entry: dict[str, Any], program: str) -> None:
    """Turn an end that is not `done` into an error.

    Raises:
        FailureError: with the job's own reason.
    """
    if entry["state"] != "done":
        from meshd.net.local import FailureError

        name = printable(entry["name"])
        raise FailureError(
            f"{name} is {entry['state']}: {printable(entry['why'])}; see: {program} logs {name}"
        )
