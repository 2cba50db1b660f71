"""From times to the rows of a report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from meshd.bench.ceilings import Ceilings
from meshd.bench.contest import Contest, Entry
from meshd.bench.timing import Effort, Times, Turn, interleave

Row = dict[str, Any]

REFERENCES = ("mm", "onednn", "bf16", "int8", "cmma")


def held(contest: Contest, effort: Effort) -> list[Row]:
    """Time a contest, take its errors, and make a row of every competitor, references first."""
    turns: dict[object, Turn] = {}
    for entry in (*contest.references, *contest.entries):
        turns[id(entry)] = entry.turn
        if entry.one_thread:
            turns[id(entry), 1] = entry.one_thread
    times = interleave(turns, effort)
    timed = [(entry, times[id(entry)]) for entry in (*contest.references, *contest.entries)]
    beside: dict[str, tuple[Entry, Times]] = {}
    for entry, spent in timed[: len(contest.references)]:
        if entry.kernel not in beside or spent.best < beside[entry.kernel][1].best:
            beside[entry.kernel] = entry, spent
    rows = []
    for entry, spent in timed:
        row = made(contest, entry, spent, beside)
        if entry.one_thread:
            row["scaling"] = times[id(entry), 1].best / spent.best
        rows.append(row)
    return rows


def made(
    contest: Contest, entry: Entry, spent: Times, beside: Mapping[str, tuple[Entry, Times]]
) -> Row:
    """One row. Ratios and speeds are those of the best turns, `..._median` those of the usual ones;
    None where a figure has no meaning."""
    row: Row = {
        "kernel": entry.kernel,
        "family": contest.family,
        "m": contest.m,
        "k": contest.k,
        "n": contest.n,
        "beta": entry.beta,
        "coding": entry.coding,
        "threads": entry.threads,
        "isa": entry.isa,
        "via": entry.via,
        "gops": rate(contest.operations, spent.best),
        "gops_median": rate(contest.operations, spent.median),
        "gb_per_s": rate(entry.bytes_moved, spent.best),
        "gb_per_s_median": rate(entry.bytes_moved, spent.median),
        "seconds_best": spent.best,
        "seconds_median": spent.median,
        "turns": len(spent.seconds),
        "scaling": None,
    }
    for name in REFERENCES:
        other, times = beside.get(name, (None, None))
        fair = other is not None and times is not None and other.threads == entry.threads
        row[f"vs_{name}"] = times.best / spent.best if fair and times else None
        row[f"vs_{name}_median"] = times.median / spent.median if fair and times else None
    row["ceiling"] = entry.ceiling
    row["share_of_ceiling"] = None
    if entry.bytes_moved and entry.ceiling and entry.ceiling in beside:
        bound, times = beside[entry.ceiling]
        if bound.bytes_moved:
            row["share_of_ceiling"] = row["gb_per_s"] / (bound.bytes_moved / times.best / 1e9)
    row["max_rel_error"] = finite(entry.error()) if entry.error else None
    return row


def rate(amount: float | None, seconds: float) -> float | None:
    """Thousands of millions a second."""
    return None if amount is None else amount / seconds / 1e9


def finite(value: float) -> float:
    """A number that JSON has: a NaN in a result is as wrong as can be, so its error is 1e308."""
    return value if math.isfinite(value) else 1e308


def judge(rows: list[Row], ceilings: Ceilings) -> None:
    """Fill in the shares of the ceilings in registers; these are of one core, a row's of all."""
    for row in rows:
        bound = ceilings.get(row["ceiling"] or "", {}).get("gops")
        if row["gops"] is not None and bound:
            row["share_of_ceiling"] = row["gops"] / (bound * row["threads"])
        elif row["gops"] is not None:
            row["ceiling"] = None


def loops_over_memory(rows: list[Row]) -> Ceilings:
    """The best of each plain loop over memory."""
    best: dict[str, Row] = {}
    for row in rows:
        held_by = best.get(row["kernel"])
        if held_by is None or row["gb_per_s"] > held_by["gb_per_s"]:
            best[row["kernel"]] = row
    return {
        name: {"isa": row["isa"], "gb_per_s": row["gb_per_s"]} for name, row in sorted(best.items())
    }
