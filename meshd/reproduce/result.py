"""What an experiment is and what comes out of it. Law: no drawing, no torch; plain data.

`Result.figures` is all that a picture is drawn from, and JSON: what `meshd reproduce NAME --json`
prints can be drawn again a year later.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Figures = dict[str, Any]
Say = Callable[[str], object]


@dataclass(frozen=True)
class Options:
    """What a person chose.

    quick: less of everything, in seconds; its figures show that the experiment runs.
    data: of experiments that train: a data file, or a known data set's name.
    threads: cores to compute on.
    """

    quick: bool = False
    data: str = "fashion-mnist"
    threads: int = 1


@dataclass(frozen=True)
class Table:
    """A table for people: titles, and rows of as many texts."""

    titles: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """As it stands in a page of the documentation."""
        lines = [self.titles, ["---"] * len(self.titles), *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


@dataclass(frozen=True)
class Result:
    """One run. `notes`: what is measured and what is computed, and what a reader must know."""

    experiment: str
    claim: str
    finding: str
    settings: Mapping[str, Any]
    seeds: Sequence[int]
    figures: Figures
    table: Table
    notes: Sequence[str] = ()
    quick: bool = False
    seconds: float = 0.0
    machine: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain lists, tables and numbers."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Experiment:
    """A claim that can be tried.

    run: measures; `Say` is told what comes next. draw: the picture of `Result.figures`.
    """

    name: str
    claim: str
    run: Callable[[Options, Say], Result]
    draw: Callable[[Figures], Figure]
