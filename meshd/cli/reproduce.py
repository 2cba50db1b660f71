"""`meshd reproduce`: the seed's claims as experiments, each with a table and a picture.

Law: what measures is loaded when an experiment begins, not before; it needs torch, meshd does not.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from meshd.cli.bench import refuse_missing_libraries, refuse_more_threads_than_cores
from meshd.cli.figures import duration_text

DRAWN = Path("out.svg")  # any: matplotlib is asked for whether or not a picture is


@click.command(name="reproduce", help="Try what the project's first text claims.")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@click.option(
    "--svg",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw the picture.",
)
@click.option("--quick", is_flag=True, help="Less of everything, in seconds; figures say little.")
@click.option(
    "--data",
    metavar="PATH",
    default="fashion-mnist",
    show_default=True,
    help="Data set to train on: a file, or a known name.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Cores to compute on.",
)
def command(
    name: str | None, as_json: bool, svg: Path | None, quick: bool, data: str, threads: int
) -> None:
    """List the experiments, or run one."""
    from meshd.reproduce.catalogue import CATALOGUE

    if name is None:
        if svg is not None:
            raise click.UsageError("--svg: needs the name of an experiment")
        print_catalogue(as_json)
        return
    if name not in CATALOGUE:
        raise click.UsageError(f"no experiment {name!r}; there are: {', '.join(CATALOGUE)}")
    refuse_more_threads_than_cores(threads)
    refuse_unwritable(svg)
    refuse_missing_libraries(DRAWN)
    result = run_experiment(name, quick, data, threads, svg)
    if as_json:
        click.echo(json.dumps(result))
    else:
        print_result(result)


def run_experiment(
    name: str, quick: bool, data: str, threads: int, svg: Path | None
) -> dict[str, Any]:
    """Run it, draw it where asked, and return its figures.

    Raises:
        UsageError: it cannot run with these options, or on this data.
    """
    from rich.console import Console

    from meshd.reproduce.catalogue import find
    from meshd.reproduce.picture import save
    from meshd.reproduce.result import Options
    from meshd.reproduce.run import perform

    experiment = find(name)
    words = Console(stderr=True, highlight=False)
    with words.status(name) as status:
        result = perform(
            experiment,
            Options(quick=quick, data=data, threads=threads),
            lambda what: status.update(f"{name}: {what}"),
        )
    if svg is not None:
        save(experiment, result.figures, svg)
    return result.as_json()


def print_catalogue(as_json: bool) -> None:
    """What there is, what each shows, and how long it takes."""
    from meshd.reproduce.catalogue import CATALOGUE

    if as_json:
        listed = [
            {"name": name, "shows": entry.shows, "takes": entry.takes}
            for name, entry in CATALOGUE.items()
        ]
        click.echo(json.dumps(listed))
        return
    rows = [[name, entry.takes, entry.shows] for name, entry in CATALOGUE.items()]
    print_table(("EXPERIMENT", "TAKES", "SHOWS"), rows)


def print_result(result: dict[str, Any]) -> None:
    """The claim, what was found, the table, how it was made."""
    made = result["machine"]
    seeds = ", ".join(map(str, result["seeds"]))
    print_sentence(f"claim: {result['claim']}")
    print_sentence(f"found: {result['finding']}")
    if result["quick"]:
        print_sentence("a quick run: it shows that the experiment works, its figures say little")
    click.echo()
    print_table(result["table"]["titles"], result["table"]["rows"])
    click.echo()
    for note in result["notes"]:
        print_sentence(note)
    seeds = f"seeds {seeds}, " if seeds else ""
    print_sentence(
        f"{seeds}{duration_text(result['seconds'])}, {made['processor']}, kernels {made['isa']},"
        f" torch {made['torch']}"
    )


def print_sentence(text: str) -> None:
    """As wide as the terminal, or in one line into a pipe."""
    from rich.console import Console

    screen = Console(highlight=False, markup=False, emoji=False)
    screen.print(text, soft_wrap=not screen.is_terminal)


def print_table(titles: list[str] | tuple[str, ...], rows: list[list[str]]) -> None:
    """As wide as the terminal, or a row a line into a pipe."""
    from rich.console import Console
    from rich.text import Text

    from meshd.cli.columns import Cell, Row, table

    screen = Console(highlight=False)
    width = screen.width if screen.is_terminal else None
    lines = table(titles, [Row([Cell(text) for text in row]) for row in rows], width)
    screen.print(Text("\n").join(lines), soft_wrap=True)


def refuse_unwritable(svg: Path | None) -> None:
    """Find out before minutes of measuring that the picture has no place.

    Raises:
        UsageError: the name is no SVG's, or its folder is not there.
    """
    if svg is None:
        return
    if svg.suffix.lower() != ".svg":
        raise click.UsageError(f"--svg {svg}: the name must end in .svg")
    if not svg.absolute().parent.is_dir():
        raise click.UsageError(f"--svg {svg}: there is no folder {svg.parent}")
