"""One run: the ceilings, the contests one after the other, the ceilings again, and a report.

The report is what `meshd bench kernels --json` prints: "machine", "ceilings" by name, "results" (a
row's keys: `results.made`) and "skipped", the contests that there was no time for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from meshd.bench import ceilings, convs, machine, streams
from meshd.bench.contest import Contest
from meshd.bench.plans import Plan
from meshd.bench.products import BACKWARD, FORWARD, Products
from meshd.bench.references import REFERENCES
from meshd.bench.results import Row, held, judge, loops_over_memory
from meshd.bench.timing import Effort
from meshd.bits import ops

Say = Callable[[str], object]
BACKWARD_BETA = 256
CONV_BETAS = (0, 128, 64)  # 0: the whole window


def measure(plan: Plan, threads: int = 1, say: Say = lambda words: None) -> dict[str, Any]:
    """Measure a plan, with the set of kernels that is in use; `say` is told what comes next.

    Raises:
        ValueError: there are fewer cores than threads.
    """
    started, used = time.monotonic(), time.process_time()
    isa = ops.isa()
    rows: list[Row] = []
    skipped: list[str] = []
    unavailable: dict[str, str] = {}
    try:
        with machine.pinned(threads) as cores:
            say("what this processor can do at best")
            found = ceilings.measure(plan.ceilings_s / 2)
            for contest, effort in planned(plan, isa, threads):
                title = contest.title if len(contest.entries) > 1 else contest.entries[0].kernel
                if time.monotonic() - started > plan.limit_s:
                    skipped.append(title)
                    continue
                say(title)
                unavailable |= contest.unavailable
                rows += held(contest, effort)
            found = ceilings.better(found, ceilings.measure(plan.ceilings_s / 2))
            about = machine.describe(cores)
    finally:
        ops.use_isa(isa)
    about |= {"isa": isa, "unavailable": unavailable}
    found |= loops_over_memory([row for row in rows if row["kernel"] in streams.LOOPS])
    results = [row for row in rows if row["kernel"] not in streams.LOOPS]
    judge(results, found)
    seconds = time.monotonic() - started
    about["seconds"] = round(seconds, 1)
    # Of one thread's time on its core, how much was ours: others' turns fall into long calls only.
    about["share_of_core"] = (time.process_time() - used) / seconds if threads == 1 else None
    return {"machine": about, "ceilings": found, "results": results, "skipped": skipped}


def planned(plan: Plan, isa: str, threads: int) -> Iterator[tuple[Contest, Effort]]:
    """Every contest with its effort, made when its turn comes: large arrays live one at a time."""
    for contest in streams.contests(plan.elements, isa):
        yield contest, plan.stream
    every = tuple(name for name in ops.list_isas() if name != "scalar") or (isa,)
    shapes = {shape: every if shape in plan.all_isas else (isa,) for shape in plan.shapes}
    parts = ceilings.Parts(isa, threads)
    backward = {shape: (isa,) for shape in plan.backward}
    for contest in convs.contests(plan.conv_batch, CONV_BETAS, isa, threads):
        yield contest, plan.product
    # A plain loop says nothing about a gradient that it does not about a product.
    libraries = tuple(r for r in REFERENCES if r.name != "cmma")
    for family in (
        Products("backward", BACKWARD, (BACKWARD_BETA,), backward, libraries),
        Products("forward", FORWARD, plan.betas, shapes),
    ):
        for contest in family.contests(parts, threads):
            yield contest, plan.product
