"""What `meshd bench kernels` prints: the processor's ceilings, every kernel's share of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from meshd.cli.columns import Cell, Row, table, wrapped
from meshd.cli.figures import NONE, count_text, duration_text

Object = dict[str, Any]

CEILING_TITLES = ("CEILING", "MAC/CYCLE", "GOPS", "GB/S", "BOUNDS")
PRODUCT_TITLES = (
    *("SHAPE", "KERNEL", "BETA", "GOPS", "ONEDNN", "MM", "CMMA"),
    *("SHARE", "ERROR", "ISA"),
)
ONE = "ONE"  # times the speed of one thread
STREAM_TITLES = ("KERNEL", "ELEMENTS", "GB/S", "MEDIAN", "SHARE", "OF", "ERROR", "ISA")
# The order in which a shape's references stand above our kernels.
REFERENCES = ("cmma", "mm", "onednn", "bf16", "int8")
BOLD_SHARE = 0.85
QUIET_SHARE = 0.95


def print_report(report: Object) -> None:
    """Print to stdout, as wide as the terminal, or a row a line into a pipe."""
    screen = Console(highlight=False)
    width = screen.width if screen.is_terminal else None
    screen.print(Text("\n").join(report_lines(report, width)), soft_wrap=True)


def report_lines(report: Object, width: int | None) -> Iterator[Text]:
    """All lines; `width` in cells, None: unbounded."""
    results = report["results"]
    yield from heading(report["machine"], width)
    yield Text()
    yield from ceiling_lines(report["ceilings"], results, width)
    for name in ("forward", "backward", "conv"):
        products = [row for row in results if row["family"] == name]
        if not products:
            continue
        yield Text()
        scaled = any(row["scaling"] for row in products)
        rows = [product_row(row, scaled) for row in sorted(products, key=product_order)]
        titles = (*PRODUCT_TITLES[:-1], ONE, PRODUCT_TITLES[-1]) if scaled else PRODUCT_TITLES
        yield from table(titles, rows, width)
    streams = [row for row in results if row["family"] == "stream"]
    if streams:
        yield Text()
        rows = [stream_row(row) for row in sorted(streams, key=lambda row: str(row["kernel"]))]
        yield from table(STREAM_TITLES, rows, width)
    yield Text()
    yield from closing(report, width)


def heading(machine: Object, width: int | None) -> Iterator[Text]:
    """The machine in a sentence."""
    cores = ", ".join(map(str, machine["pinned_to"]))
    yield from wrapped(
        Cell(
            f"{machine['processor']}: {count_text(machine['threads'], 'thread')} on core {cores}, "
            f"kernels {machine['isa']}, torch {machine['torch']}, "
            f"{duration_text(machine['seconds'])}"
        ),
        width,
    )


def ceiling_lines(ceilings: Object, results: Sequence[Object], width: int | None) -> Iterator[Text]:
    """Each ceiling, and which kernels' shares are shares of it."""
    rows = []
    for name, ceiling in ceilings.items():
        if "ghz" in ceiling:
            yield from wrapped(Cell(f"clock {ceiling['ghz']:.2f} GHz"), width)
            continue
        bound = dict.fromkeys(family(row) for row in results if row["ceiling"] == name)
        # The table of streams has a column for it.
        names = count_text(len(bound), "stream") if "gb_per_s" in ceiling else ", ".join(bound)
        rows.append(
            Row(
                [
                    Cell(name),
                    Cell(number(ceiling.get("mac_per_cycle"))),
                    Cell(number(ceiling.get("gops"))),
                    Cell(number(ceiling.get("gb_per_s"))),
                    Cell(names or NONE),
                ]
            )
        )
    if rows:
        yield from table(CEILING_TITLES, rows, width)


def family(row: Object) -> str:
    """A kernel's name, without the gradient that a backward product is for."""
    return str(row["kernel"]).removesuffix("_dx").removesuffix("_dw")


def product_order(row: Object) -> tuple[Any, ...]:
    """By size, then references before kernels, then the longest segments first."""
    name = row["kernel"]
    reference = REFERENCES.index(name) if name in REFERENCES else len(REFERENCES)
    size = row["m"] * row["k"] * row["n"]
    return size, row["m"], reference, name, row["isa"], -(row["beta"] or 0)


def product_row(row: Object, scaled: bool) -> Row:
    """One competitor at one size; `scaled` adds how many times one thread's speed it has."""
    return Row(
        [
            Cell(shape_text(row)),
            Cell(row["kernel"], "dim" if row["kernel"] in REFERENCES else ""),
            Cell(str(row["beta"] or NONE)),
            Cell(number(row["gops"])),
            Cell(ratio(row["vs_onednn"])),
            Cell(ratio(row["vs_mm"])),
            Cell(ratio(row["vs_cmma"])),
            share_cell(row),
            Cell(error_text(row["max_rel_error"])),
            *([Cell(ratio(row["scaling"]))] if scaled else []),
            Cell(row["isa"]),
        ]
    )


def stream_row(row: Object) -> Row:
    """One pass over memory."""
    return Row(
        [
            Cell(row["kernel"]),
            Cell(f"{row['k'] / 1e6:.1f} M"),
            Cell(number(row["gb_per_s"])),
            Cell(number(row["gb_per_s_median"])),
            share_cell(row),
            Cell(row["ceiling"] or NONE),
            Cell(error_text(row["max_rel_error"])),
            Cell(row["isa"]),
        ]
    )


def closing(report: Object, width: int | None) -> Iterator[Text]:
    """How to read it, and what is missing."""
    yield from wrapped(
        Cell(
            "ONEDNN, MM, CMMA (and ONE thread): how many times as fast as each, best turns; SHARE: "
            "of the ceiling that bounds the kernel; ERROR: the largest over the largest true value."
        ),
        width,
    )
    for name, why in report["machine"]["unavailable"].items():
        yield from wrapped(Cell(f"{name} is not here: {why}", "yellow"), width)
    share = report["machine"]["share_of_core"]
    if share is not None and share < QUIET_SHARE:
        words = f"others ran on this core too, it was ours for {100 * share:.0f} % of the time"
        yield from wrapped(Cell(f"{words}: measure again on a quiet machine", "yellow"), width)
    if report["skipped"]:
        missing = "; ".join(report["skipped"])
        yield from wrapped(Cell(f"no time was left for: {missing}", "yellow"), width)


def shape_text(row: Object) -> str:
    """`256^3`, or `128x4096x4096`: m x k x n."""
    m, k, n = row["m"], row["k"], row["n"]
    return f"{m}^3" if m == k == n else f"{m}x{k}x{n}"


def number(value: float | None) -> str:
    """Three digits or all that stand before the point."""
    if value is None:
        return NONE
    return f"{value:.0f}" if value >= 99.95 else f"{value:.1f}"


def ratio(value: float | None) -> str:
    """`21.3x`."""
    return NONE if value is None else f"{number(value)}x"


def share_cell(row: Object) -> Cell:
    """A share in percent; what comes near its ceiling stands out."""
    share = row["share_of_ceiling"]
    if share is None:
        return Cell(NONE)
    return Cell(f"{100 * share:.0f} %", "bold green" if share >= BOLD_SHARE else "")


def error_text(error: float | None) -> str:
    """`1.3e-07`."""
    return NONE if error is None else f"{error:.1e}" if error else "0"
