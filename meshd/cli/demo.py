"""`meshd demo`: the whole product on one machine, over the paths that a user takes.

Three daemons with keys and folders of their own find each other by mDNS, train on scikit-learn's
digits over an encrypted ring, and are compared with one process that exchanges float32.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meshd.cli.daemon_process import daemon_environment
from meshd.cli.fleet import Fleet
from meshd.cli.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from meshd.cli.demo_report import Report

LIBRARIES = {
    "numpy": "numpy",
    "torch": "torch",
    "safetensors": "safetensors",
    "sklearn": "scikit-learn",
}
DATA_LIMIT_S = 60
MAX_MACHINES = 8


@click.command(help="Train on daemons of this machine, found by mDNS, and compare with float32.")
@click.option(
    "--json", "as_json", is_flag=True, help="End with one JSON object instead of a table."
)
@click.option(
    "--machines",
    type=click.IntRange(1, MAX_MACHINES),
    default=3,
    show_default=True,
    help="How many daemons.",
)
@click.option(
    "--keep",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep the daemons' folders and logs in DIR, a new or empty folder.",
)
def command(as_json: bool, machines: int, keep: Path | None) -> None:
    """Run it, print the figures, leave nothing behind."""
    from rich.console import Console
    from rich.text import Text

    from meshd.cli.demo_report import report_lines

    refuse_missing_libraries()
    words = Console(stderr=True, highlight=False)
    with ended_by_signals(), demo_folder(keep) as folder:
        report, names = run_demo(folder, machines, words)
    if as_json:
        click.echo(json.dumps(report.as_object()))
    else:
        screen = Console(highlight=False)
        width = screen.width if screen.is_terminal else None
        words.print()
        screen.print(Text("\n").join(report_lines(report, names, width)), soft_wrap=True)
    if len(set(report.weight_hashes)) != 1:
        from meshd.net.local import FailureError

        raise FailureError("the members ended with different weights: this is a defect of meshd")


def refuse_missing_libraries() -> None:
    """Look for the libraries without loading them.

    Raises:
        NotConfiguredError: names what is missing and how to install it.
    """
    missing = [name for module, name in LIBRARIES.items() if not importlib.util.find_spec(module)]
    if missing:
        from meshd.net.local import NotConfiguredError

        raise NotConfiguredError(
            f"the demo needs {', '.join(missing)}; install them: pip install 'meshd[demo]'"
        )


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end us as an exception does, so that everything is cleaned up."""

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def demo_folder(keep: Path | None) -> Iterator[Path]:
    """A folder for the demo: ours alone, and gone afterwards unless it is to be kept.

    Raises:
        UsageError: the folder to keep has something in it.
    """
    if keep is None:
        folder = Path(tempfile.mkdtemp(prefix="meshd-demo-"))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return
    from meshd.net.local import FailureError, UsageError

    try:
        keep.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(keep.iterdir()):
            raise UsageError(f"--keep {keep}: the folder is not empty; name a new one")
    except OSError as error:
        raise FailureError(f"--keep {keep}: {error.strerror}") from None
    yield keep.absolute()


def run_demo(folder: Path, machines: int, words: Console) -> tuple[Report, list[str]]:
    """Everything from the first daemon to the last; returns the figures and the members' names.

    Raises:
        FailureError: something went wrong; what the daemons said about it stands on stderr.
    """
    from meshd.net.local import FailureError, MeshdError

    with Fleet(folder, machines) as fleet:
        try:
            introduce(fleet, words)
            return train(fleet, folder, words)
        except MeshdError as error:
            for desk in fleet.suspects(str(error)):
                words.print(f"\n--- the end of {desk.name}'s log", markup=False)
                words.print("\n".join(desk.tail()), markup=False, soft_wrap=True)
            raise FailureError(str(error)) from None


def introduce(fleet: Fleet, words: Console) -> None:
    """Start the daemons, exchange their keys, and let them find each other."""
    words.print(f"starting {len(fleet.names)} daemons, each with a key and a folder of its own")
    for status in fleet.wait_until_ready():
        machine = status["machine"]
        words.print(f"  {machine['name']} listens on {machine['host']}:{machine['port']}")
    fleet.exchange_keys()
    words.print("keys exchanged (meshd key, meshd trust); nobody else is let in")
    for name, found in fleet.wait_until_found():
        words.print(f"  {name} found by mDNS: {', '.join(found) or 'nobody, it is alone'}")


def train(fleet: Fleet, folder: Path, words: Console) -> tuple[Report, list[str]]:
    """The ring's job, then the reference; both submitted to the first daemon."""
    from meshd.cli.demo_job import reference_job, ring_job
    from meshd.cli.demo_report import make_report, member_names

    data = write_digits(folder / "digits.npz")
    settings = fleet.desks[0].settings
    words.print("training on the ring")
    job, seconds = run_job(settings, ring_job(len(fleet.names)), data, words)
    words.print("the same network in one process, float32 exchange")
    reference, _ = run_job(settings, reference_job(), data, words)
    return make_report(job, seconds, reference), member_names(job)


def write_digits(path: Path) -> Path:
    """Write scikit-learn's digits in a process of its own: this one stays small.

    Raises:
        FailureError: the process failed; with its last line.
    """
    from meshd.net.local import FailureError

    try:
        done = subprocess.run(
            [sys.executable, "-m", "meshd.train.digits", str(path)],
            env=daemon_environment(os.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DATA_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise FailureError(f"the digits were not written within {DATA_LIMIT_S} s") from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise FailureError(f"the digits could not be written: {reason}")
    return path


def run_job(
    settings: Settings, spec: str, data: Path, words: Console
) -> tuple[dict[str, Any], float]:
    """Submit as `meshd submit` does and follow to the end; returns the job's entry and seconds.

    Raises:
        FailureError: the job did not end well.
    """
    from meshd.cli.files import open_data
    from meshd.cli.follow import follow, refuse_unfinished
    from meshd.cli.submit import submit

    started = time.monotonic()
    file, size = open_data(data, "data file")
    with file:
        answer = submit(settings, spec, file, size)
    entry = follow(settings, answer["job"], words)
    seconds = time.monotonic() - started
    refuse_unfinished(entry, settings.program)
    return entry, seconds
