"""CSV: one line a sample, numbers only, one column of labels.

The first line is a header if any of its cells is no number. The label's column is the one that the
header calls `label` or `class`, else the first. Cells are split at the comma, semicolon or tab that
the first line has most of. Numbers are parsed by NumPy; when it refuses, the lines are looked at
one by one for the cell to name.

Where there is no second file for the test part, every fifth sample (the 5th, 10th, ...) is the test
part: a rule that needs no chance, and keeps the classes' shares in files sorted by class.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from meshd.data.source import (
    BLOCK_BYTES,
    MAX_CLASSES,
    Block,
    Header,
    Part,
    check_headers,
    check_size,
    open_regular,
    reading,
    wrong,
)

DELIMITERS = ",;\t"
LABEL_NAMES = ("label", "class")
TEST_EVERY = 5
MAX_LINE_BYTES = 1 << 24
LARGEST = float(np.finfo(np.float32).max)

Line = tuple[int, str]  # number in the file, from 1; text without its end


@dataclass(frozen=True)
class Table:
    """A CSV file after one pass over its lines. `names`: its header, or ()."""

    path: Path
    name: str
    delimiter: str
    names: tuple[str, ...]
    columns: int
    label: int
    rows: int
    follow: bool

    def lines(self) -> Iterator[Line]:
        """The lines that are samples."""
        yield from islice(_lines(self.path, self.name, self.follow), bool(self.names), None)


class CsvSource:
    """One CSV file that is split, or one for each part."""

    format = "CSV"
    class_names: tuple[str, ...] = ()

    def __init__(self, train: Path, test: Path | None, name: str, follow: bool = False) -> None:
        self.name = name
        one = _scan(train, f"{name}: {train.name}" if test else name, follow)
        self._split = test is None
        other = one if test is None else _scan(test, f"{name}: {test.name}", False)
        if self._split and one.rows < TEST_EVERY:
            raise wrong(name, f"{one.rows} samples; needs {TEST_EVERY} for a test part")
        if (one.columns, one.label) != (other.columns, other.label) or (
            one.names and other.names and one.names != other.names
        ):
            raise wrong(name, f"{one.path.name} and {other.path.name} have different columns")
        self._tables = {"train": one, "test": other}
        check_headers(self)

    def header(self, part: Part) -> Header:
        """What the part holds."""
        table = self._tables[part]
        samples = table.rows
        if self._split:
            tested = table.rows // TEST_EVERY
            samples = tested if part == "test" else table.rows - tested
        return Header(samples, (table.columns - 1,), np.dtype(np.float32))

    def blocks(self, part: Part) -> Iterator[Block]:
        """The part's samples in blocks."""
        table = self._tables[part]
        lines: Iterator[tuple[int, Line]] = enumerate(table.lines())
        if self._split:
            wanted = part == "test"
            lines = (one for one in lines if (one[0] % TEST_EVERY == TEST_EVERY - 1) == wanted)
        rows = max(1, BLOCK_BYTES // (8 * table.columns))
        while block := [line for _, line in islice(lines, rows)]:
            values = _parse(block, table)
            y = values[:, table.label].astype(np.int64)
            yield np.delete(values, table.label, axis=1).astype(np.float32), y


def _scan(path: Path, name: str, follow: bool) -> Table:
    """Header, columns and rows of a file."""
    lines = _lines(path, name, follow)
    number, first = next(lines, (0, ""))
    if not number:
        raise wrong(name, "is empty")
    delimiter = max(DELIMITERS, key=first.count)
    cells = _cells(first, delimiter)
    if len(cells) < 2:
        raise wrong(name, "has one column; needs a label and at least one number a line")
    names = () if all(map(_is_number, cells)) else tuple(cell.strip() for cell in cells)
    rows = (not names) + sum(1 for _ in lines)
    if not rows:
        raise wrong(name, "has a header and no samples")
    check_size(name, rows * len(cells) * 8)
    lowered = [cell.lower() for cell in names]
    label = next((lowered.index(one) for one in LABEL_NAMES if one in lowered), 0)
    return Table(path, name, delimiter, names, len(cells), label, rows, follow)


def _lines(path: Path, name: str, follow: bool) -> Iterator[Line]:
    """The lines that are not blank; each bounded, and UTF-8."""
    with open_regular(path, name, follow) as file, reading(name):
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise wrong(name, f"line {number} has more than {MAX_LINE_BYTES} bytes")
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError:
                raise wrong(name, f"line {number} is not UTF-8 text") from None
            if text.strip():
                yield number, text


def _cells(text: str, delimiter: str) -> list[str]:
    """A line's cells; quotes may stand around them."""
    try:
        return next(csv.reader([text], delimiter=delimiter))
    except csv.Error:  # a cell over csv's own limit of 128 KiB is no number
        return text.split(delimiter)


def _is_number(cell: str) -> bool:
    """Whether NumPy's parser takes the cell, which unlike Python's knows no `1_000`."""
    try:
        return "_" not in cell and math.isfinite(float(cell)) and abs(float(cell)) <= LARGEST
    except ValueError:
        return False


def _parse(block: list[Line], table: Table) -> NDArray[np.float64]:
    """(n, columns), every value finite in float32, labels whole and in range.

    Raises:
        DataError: names the line, and the column.
    """
    try:
        values = np.loadtxt(
            [text for _, text in block],
            delimiter=table.delimiter,
            comments=None,
            quotechar='"',
            ndmin=2,
        )
    except ValueError:
        values = np.empty((0, 0))
    if values.shape != (len(block), table.columns) or not bool((abs(values) <= LARGEST).all()):
        raise _offence(block, table)
    labels = values[:, table.label]
    outside = (labels != np.floor(labels)) | (labels < 0) | (labels >= MAX_CLASSES)
    if bool(outside.any()):
        number, text = block[int(outside.argmax())]
        cell = _cells(text, table.delimiter)[table.label].strip()
        raise wrong(
            table.name,
            f"{_place(number, table.label, table)}: label {_shown(cell)} is not a whole number from"
            f" 0 to {MAX_CLASSES - 1}",
        )
    return values


def _offence(block: list[Line], table: Table) -> Exception:
    """The first thing that is wrong with the lines of a block."""
    for number, text in block:
        cells = _cells(text, table.delimiter)
        if len(cells) != table.columns:
            count = f"line {number} has {len(cells)} cells, not {table.columns}"
            return wrong(table.name, count)
        for column, cell in enumerate(cells):
            if not _is_number(cell):
                place = _place(number, column, table)
                return wrong(table.name, f"{place}: {_shown(cell)} is not a finite number")
    first, last = block[0][0], block[-1][0]
    return wrong(table.name, f"lines {first} to {last} are not numbers between {table.delimiter!r}")


def _place(number: int, column: int, table: Table) -> str:
    name = f" ({_shown(table.names[column])})" if table.names else ""
    return f"line {number}, column {column + 1}{name}"


def _shown(cell: str) -> str:
    """A foreign text, short and on one line."""
    return repr(cell if len(cell) <= 40 else cell[:40] + "...")
