"""What `meshd bench ring` prints: exchanges beside Gloo's, and what the hosts carry at best."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.text import Text

from meshd.cli.bench_report import heading, ratio
from meshd.cli.bench_train_report import milliseconds
from meshd.cli.columns import Cell, Row, table, wrapped
from meshd.cli.figures import NONE

Object = dict[str, Any]

TITLES = ("EXCHANGE", "N", "MBIT", "MS", "BITS", "SHARE", "FLOAT32", "FLOAT16")
CEILING_TITLES = ("LINK", "MBIT", "SHARE", "NS/BYTE")


def print_report(report: Object) -> None:
    """Print to stdout, as wide as the terminal, or a row a line into a pipe."""
    screen = Console(highlight=False)
    width = screen.width if screen.is_terminal else None
    screen.print(Text("\n").join(report_lines(report, width)), soft_wrap=True)


def report_lines(report: Object, width: int | None) -> Iterator[Text]:
    """All lines; `width` in cells, None: unbounded."""
    yield from heading(report["machine"], width)
    results = report["results"]
    gamma = report["settings"]["gamma"]
    yield from wrapped(
        Cell(f"{results[0]['params'] / 1e6:.1f} M parameters, all binary, gamma {gamma}"), width
    )
    yield Text()
    yield from table(TITLES, [result_row(row) for row in results], width)
    yield Text()
    yield from table(CEILING_TITLES, [ceiling_row(row) for row in report["ceilings"]], width)
    yield Text()
    yield from wrapped(
        Cell(
            "MS, BITS: a whole exchange, and what the member that sends most sends for each "
            "parameter, headers and all; SHARE: of the link rate; FLOAT32, FLOAT16: how many times "
            "as fast as Gloo's all-reduce; best turns. LINK: nothing but sending and receiving, on "
            "plain TCP and on meshd's encrypted links, and all members' processor time for a byte."
        ),
        width,
    )


def result_row(row: Object) -> Row:
    """One exchange at one rate."""
    return Row(
        [
            Cell(row["exchange"]),
            Cell(str(row["members"])),
            Cell(rate_text(row["rate_mbit"])),
            Cell(milliseconds(row["seconds"])),
            Cell(f"{row['bits_per_param']:.2f}"),
            Cell(share_text(row["link_share"])),
            Cell(ratio(row["gloo_float32_seconds"] / row["seconds"])),
            Cell(ratio(row["gloo_float16_seconds"] / row["seconds"])),
        ]
    )


def ceiling_row(row: Object) -> Row:
    """One kind of link at one rate."""
    return Row(
        [
            Cell(row["link"]),
            Cell(rate_text(row["rate_mbit"])),
            Cell(share_text(row["link_share"])),
            Cell(f"{row['cpu_ns_per_byte']:.2f}"),
        ]
    )


def rate_text(rate: float | None) -> str:
    """`100`, or a dash on the loopback."""
    return NONE if rate is None else f"{rate:g}"


def share_text(share: float | None) -> str:
    """In percent."""
    return NONE if share is None else f"{100 * share:.0f} %"
