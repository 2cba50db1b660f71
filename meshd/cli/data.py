"""`meshd data`: what a data set holds, known ones from the net, and the one file that a job takes.

Law: what reads data is loaded when a command needs it, not before; it needs NumPy, meshd does not.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from meshd.cli.figures import bytes_text, count_text, printable

if TYPE_CHECKING:
    from meshd.data.summary import PartSummary, Summary

COUNTS_SHOWN = 20  # classes; more would hide the rest


@click.group(
    name="data",
    help="Look into data sets, fetch known ones, and convert any to a job's .npz file.",
    invoke_without_command=True,
)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Show the help when it is not said what to do."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(2)


@command.command(name="list", help="List the data sets that can be fetched by name.")
def list_known() -> None:
    """Name, size, whether it is in the cache, and what it is."""
    refuse_missing_numpy()
    from meshd.data.catalogue import CATALOGUE
    from meshd.data.download import cache_folder, is_cached

    for known in CATALOGUE.values():
        state = f"here, {bytes_text(known.cache_bytes)}" if is_cached(known) else "not here"
        download = f"{bytes_text(known.size_bytes)} to fetch"
        click.echo(f"{known.name:<15}{download:<20}{state:<16}{known.about}")
    click.echo(f"cache: {cache_folder()}", err=True)


@command.command(help="Download a known data set into the cache, verified.")
@click.argument("name")
def fetch(name: str) -> None:
    """Print the folder that it lies in."""
    refuse_missing_numpy()
    from meshd.data import download

    click.echo(download.fetch(name, say=lambda line: click.echo(line, err=True)))


@command.command(help="Say what a file, a folder or a known name holds.")
@click.argument("path")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def inspect(path: str, as_json: bool) -> None:
    """Format, samples, shape, classes, range, and how many samples each class has."""
    refuse_missing_numpy()
    from meshd.data.summary import summarise

    summary = summarise(path)
    click.echo(json.dumps(asdict(summary)) if as_json else "\n".join(summary_lines(summary)))


@command.command(help="Write any data set as the .npz file that a job takes.")
@click.argument("source")
@click.argument("output", metavar="OUT.npz", type=click.Path(path_type=Path))
def convert(source: str, output: Path) -> None:
    """The file is written whole or not at all."""
    refuse_missing_numpy()
    from meshd.cli.files import Write, opened_output
    from meshd.data.load import load_dataset
    from meshd.data.npz import write_npz

    class Stream:
        """As much of a file as a zip that is written front to back needs."""

        def __init__(self, write: Write) -> None:
            self._write = write

        def write(self, data: bytes) -> int:
            self._write(data)
            return len(data)

        def flush(self) -> None:
            pass

    refuse_wrong_output(source, output)
    data = load_dataset(source)
    with opened_output(output) as write:
        write_npz(data, Stream(write))
    samples = count_text(len(data.y_train) + len(data.y_test), "sample")
    click.echo(f"{output}: {samples}, classes: {data.classes}", err=True)


def summary_lines(summary: Summary) -> list[str]:
    """A summary as a person reads it."""
    return [
        f"format   {summary.format}",
        f"sample   {_shape(summary.shape)} {summary.dtype}, input {_shape(summary.input_shape)}",
        f"classes  {summary.classes}",
        *_part_lines("train", summary.train, summary.class_names),
        *_part_lines("test", summary.test, summary.class_names),
    ]


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _part_lines(name: str, part: PartSummary, class_names: tuple[str, ...]) -> list[str]:
    line = f"{name:<9}{part.samples:,} samples, values {part.smallest:g} to {part.largest:g}"
    counts = list(part.counts.items())
    each = [
        f"{printable(class_names[label]) if class_names else label}: {count:,}"
        for label, count in counts[:COUNTS_SHOWN]
    ]
    left = len(counts) - COUNTS_SHOWN
    return [line, " " * 9 + ", ".join([*each, *([f"and {left} more"] if left > 0 else [])])]


def refuse_wrong_output(source: str, output: Path) -> None:
    """A job takes .npz files alone, and what is converted is not to be replaced.

    Raises:
        UsageError: another name, or the source's own file, by whatever path or link.
    """
    from meshd.net.local import UsageError

    if output.suffix.lower() != ".npz":
        raise UsageError(f"{output}: the name must end in .npz")
    with contextlib.suppress(OSError):  # one that does not exist is not the other
        if output.samefile(source):
            raise UsageError(f"{output} is the file to convert; write to another one")


def refuse_missing_numpy() -> None:
    """Look for NumPy without loading it.

    Raises:
        NotConfiguredError: says how to install it.
    """
    if not importlib.util.find_spec("numpy"):
        from meshd.net.local import NotConfiguredError

        raise NotConfiguredError("data needs numpy; install: pip install 'meshd[train]'")
