"""A table that fits any width without losing a word.

Columns stand in the order of their importance. Those that do not fit beside each other move, with
their titles, to lines under their row; the notes of a row (sentences) follow there and wrap between
words. Nothing is ever cut. Without a width (output to a pipe) every row is one line.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from meshd.cli.figures import NONE

GAP = 2
INDENT = 4
MIN_WIDTH = 16  # on a narrower terminal the terminal itself wraps
SENTENCE_WIDTH = 40  # a narrower column breaks a sentence into a pillar of words


@dataclass(frozen=True)
class Cell:
    """A short text with a rich style."""

    text: str
    style: str = ""


@dataclass(frozen=True)
class Row:
    """One line of a table, a cell for every title, and the sentences that belong to it."""

    cells: Sequence[Cell]
    why: Cell = Cell("")
    notes: Sequence[Cell] = ()


def table(
    titles: Sequence[str], rows: Sequence[Row], width: int | None, why_below: bool = False
) -> Iterator[Text]:
    """The table's lines: the titles that fit, then each row with what moved below it.

    Args:
        titles: of the columns, the most important first; the column of sentences is called WHY.
        rows: at least one.
        width: in cells; None: unbounded.
        why_below: put the sentences below their rows even if there is room beside them.
    """
    widths = [
        max(cell_len(title), *(cell_len(row.cells[i].text) for row in rows))
        for i, title in enumerate(titles)
    ]
    fit = _how_many_fit(widths, width)
    start = sum(widths[:fit]) + GAP * fit
    beside = not why_below and fit == len(titles) and any(row.why.text for row in rows)
    if width is not None:
        beside = beside and width - start >= SENTENCE_WIDTH
    head = [Cell(title, "bold") for title in titles[:fit]]
    yield _line([*head, Cell("WHY", "bold")] if beside else head, widths)
    for row in rows:
        if beside:
            room = None if width is None else width - start
            first, *rest = [*wrapped(row.why, room)] or [Text()]
            yield _line([*row.cells, Cell("")], widths).append_text(first)
            yield from (Text(" " * start).append_text(line) for line in rest)
        else:
            yield _line(row.cells[:fit], widths)
        yield from _below(row, titles, fit, beside, width)


def _below(
    row: Row, titles: Sequence[str], fit: int, beside: bool, width: int | None
) -> Iterator[Text]:
    """What did not find its place on a row's line: cells with their titles, sentences."""
    moved = [
        f"{title.lower()} {cell.text}"
        for title, cell in zip(titles[fit:], row.cells[fit:], strict=True)
        if cell.text != NONE
    ]
    yield from wrapped(Cell(" · ".join(moved)), width, INDENT)
    if row.why.text and not beside:
        yield from wrapped(Cell(f"why: {row.why.text}", row.why.style), width, INDENT)
    for note in row.notes:
        yield from wrapped(note, width, INDENT)


def wrapped(cell: Cell, width: int | None, indent: int = 0) -> Iterator[Text]:
    """A sentence in as many lines as it needs, whole words only; none if it is empty."""
    if not cell.text:
        return
    space = " " * indent
    lines = [space + cell.text]
    if width is not None:
        # Continuation lines stand a little deeper, so that a sentence is seen to go on.
        lines = textwrap.wrap(
            cell.text,
            max(width, MIN_WIDTH),
            initial_indent=space,
            subsequent_indent=space + "  " * bool(indent),
            break_long_words=False,
            break_on_hyphens=False,
        )
    for line in lines:
        yield Text(line, cell.style)


def _how_many_fit(widths: Sequence[int], width: int | None) -> int:
    """How many columns from the left stand beside each other; at least one."""
    if width is None:
        return len(widths)
    used = widths[0]
    for count, next_width in enumerate(widths[1:], start=1):
        used += GAP + next_width
        if used > width:
            return count
    return len(widths)


def _line(cells: Sequence[Cell], widths: Sequence[int]) -> Text:
    """Cells at their columns' places, no blanks at the end."""
    line = Text()
    for i, cell in enumerate(cells):
        line.append(cell.text, cell.style)
        if i < len(cells) - 1:
            line.append(" " * (widths[i] - cell_len(cell.text) + GAP))
    return line
