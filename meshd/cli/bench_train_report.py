"""What `meshd bench train` prints: a training step's speed beside torch's, and inference's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.text import Text

from meshd.cli.bench_report import heading, ratio
from meshd.cli.columns import Cell, Row, table, wrapped
from meshd.cli.figures import NONE

Object = dict[str, Any]

STEP_TITLES = (
    *("BACKWARD", "BETA", "MS", "FLOAT32", "DEFAULT", "BF16"),
    *("EMULATION", "COMPILED"),
)
PROGRAM_TITLES = ("PROGRAM", "BETA", "MS", "MEDIAN")
INFERENCE_TITLES = ("BATCH", "BETA", "MS", "FLOAT32", "DEFAULT")


def print_report(report: Object) -> None:
    """Print to stdout, as wide as the terminal, or a row a line into a pipe."""
    screen = Console(highlight=False)
    width = screen.width if screen.is_terminal else None
    screen.print(Text("\n").join(report_lines(report, width)), soft_wrap=True)


def report_lines(report: Object, width: int | None) -> Iterator[Text]:
    """All lines; `width` in cells, None: unbounded."""
    plan = report["settings"]
    yield from heading(report["machine"], width)
    yield from wrapped(
        Cell(
            f"{plan['layers']} layers of {plan['width']} x {plan['width']}, batch {plan['batch']}, "
            f"{plan['optimizer']}, seed {plan['seed']}"
        ),
        width,
    )
    yield Text()
    yield from table(STEP_TITLES, [step_row(row) for row in report["results"]], width)
    yield Text()
    yield from table(PROGRAM_TITLES, [program_row(row) for row in report["references"]], width)
    yield Text()
    yield from table(INFERENCE_TITLES, [inference_row(row) for row in report["inference"]], width)
    yield Text()
    yield from closing(report, width)


def step_row(row: Object) -> Row:
    """One setting of the backward pass: a whole step."""
    names = ("float32", "float32_default", "bf16", "emulation", "emulation_compiled")
    return Row(
        [
            Cell(row["backward"]),
            Cell(str(row["beta"])),
            Cell(milliseconds(row["seconds"])),
            *(Cell(ratio(row[f"vs_{name}"])) for name in names),
        ]
    )


def program_row(row: Object) -> Row:
    """One program of torch's: a whole step."""
    return Row(
        [
            Cell(row["program"]),
            Cell(str(row["beta"] or NONE)),
            Cell(milliseconds(row["seconds"])),
            Cell(milliseconds(row["seconds_median"])),
        ]
    )


def inference_row(row: Object) -> Row:
    """One batch."""
    return Row(
        [
            Cell(str(row["batch"])),
            Cell(str(row["beta"])),
            Cell(milliseconds(row["seconds"])),
            Cell(ratio(row["vs_float32"])),
            Cell(ratio(row["vs_float32_default"])),
        ]
    )


def closing(report: Object, width: int | None) -> Iterator[Text]:
    """How to read it, and what is missing."""
    yield from wrapped(
        Cell(
            "A step is forward, loss, backward and optimizer. FLOAT32 and the other columns: how "
            "many times as fast as the fastest float32 program, torch as it is, bf16 autocast, and "
            "the same network emulated with sign and mean, as it is and compiled; best turns."
        ),
        width,
    )
    for name, why in report["machine"]["unavailable"].items():
        yield from wrapped(Cell(f"{name} is not here: {why}", "yellow"), width)


def milliseconds(seconds: float) -> str:
    """`1234`, `56.7` or `0.321`."""
    value = seconds * 1e3
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.3f}"
