"""Packed products against CMMA, MKL and oneDNN, in the manner of the seed's two figures.

Time against matrix size: everything that a new A needs (binarize, pack, multiply) is timed, what a
weight needs once is not. The measurement is `meshd bench kernels`'s own, of the signed product
alone; `meshd.bench.products` and `meshd.bench.references` say what each competitor does.
"""

from __future__ import annotations

import time
from typing import Any

from matplotlib.figure import Figure

from meshd.bench import machine
from meshd.bench.ceilings import Parts
from meshd.bench.plans import CUBES, cube
from meshd.bench.plot import STYLES, series_of, times
from meshd.bench.products import FORWARD, Products
from meshd.bench.references import REFERENCES
from meshd.bench.results import held
from meshd.bench.timing import Effort
from meshd.bits import ops
from meshd.core.errors import UsageError
from meshd.reproduce.picture import panels
from meshd.reproduce.result import Experiment, Figures, Options, Result, Say, Table

CLAIM = "Consistently about 10 times faster than CMMA algorithm."
CLAIMED = 10
TIMES = (5, 10, 20, 50, 100, 200, 500)  # ticks
BETAS = (0, 64, 16)  # 0: the whole row
QUICK_SIZES: tuple[int, ...] = (64, 128, 256)
AGAINST = {"cmma": "CMMA", "mm": "MKL", "onednn": "ONEDNN"}
KEYS = ("kernel", "family", "m", "k", "n", "beta", "isa", "threads", "via")
KEPT = (*KEYS, "gops", "seconds_best", "seconds_median", *(f"vs_{name}" for name in AGAINST))


def run(options: Options, say: Say) -> Result:
    """Measure square products, the competitors of each size in turns."""
    # One thread's own time: what others compute on the core does not count.
    clock = time.process_time if options.threads == 1 else time.perf_counter
    sizes, effort = QUICK_SIZES, Effort(0.05, 2, 3, clock)
    if not options.quick:
        sizes, effort = CUBES, Effort(6.0, clock=clock)
    isa = ops.isa()
    shapes = {cube(size): (isa,) for size in sizes}
    references = tuple(reference for reference in REFERENCES if reference.name in AGAINST)
    products = Products("forward", FORWARD[:1], BETAS, shapes, references)
    rows: list[dict[str, Any]] = []
    try:
        with machine.pinned(options.threads):
            for contest in products.contests(Parts(isa, options.threads), options.threads):
                say(contest.title)
                rows += [{key: row[key] for key in KEPT} for row in held(contest, effort)]
    except ValueError as error:
        raise UsageError(str(error)) from None
    finally:
        ops.use_isa(isa)
    ours = [row for row in rows if row["kernel"] == FORWARD[0].name]
    against = [row["vs_cmma"] for row in ours if row["beta"] == row["k"] and row["vs_cmma"]]
    return Result(
        experiment="matmul",
        claim=CLAIM,
        finding=_finding(against),
        settings={
            **{"sizes": list(sizes), "betas": ["K", *BETAS[1:]], "threads": options.threads},
            **{
                "isa": isa,
                "seconds_a_size": effort.seconds,
                "clock": clock.__name__,
                "operands": "standard normal",
            },
        },
        seeds=[0],
        figures={"results": rows, "isa": isa, "threads": options.threads},
        table=Table(
            ("SIZE", "BETA", "MS", "GOPS", *(f"VS {name}" for name in AGAINST.values())),
            [_row(row) for row in sorted(ours, key=lambda row: (row["n"], -row["beta"]))],
        ),
        notes=(
            "best turns, measured; one thread's processor time, of more threads seconds",
            "CMMA is a plain compiled float32 product, as wide as our"
            " vectors, without blocking; MKL is torch.mm; ours includes binarizing and packing A",
        ),
    )


def _finding(against: list[float]) -> str:
    if not against:
        return "CMMA does not run here"
    return f"{min(against):.0f} to {max(against):.0f} times as fast as CMMA at beta = K"


def _row(row: dict[str, Any]) -> list[str]:
    ratios = [row[f"vs_{name}"] for name in AGAINST]
    return [
        str(row["n"]),
        "K" if row["beta"] == row["k"] else str(row["beta"]),
        f"{row['seconds_best'] * 1e3:.3g}",
        f"{row['gops']:.0f}",
        *("-" if ratio is None else f"{ratio:.1f}x" for ratio in ratios),
    ]


def draw(figures: Figures) -> Figure:
    """Seconds beside CMMA, seconds beside MKL and oneDNN, and how many times as fast."""
    report = {"results": figures["results"], "machine": {"isa": figures["isa"]}}
    series = series_of(report)
    ours = [name for name in series if name.startswith("ours")]
    figure, (beside_cmma, beside_torch, ratios) = panels(3)
    times(beside_cmma, "cmma", "CMMA vs ours", series, ["cmma", *ours])
    times(beside_torch, "torch", "MKL, oneDNN vs ours", series, ["mm", "onednn", *ours])
    beside_torch.sharey(beside_cmma)
    sizes: list[int] = []
    for name in ours:
        rows = [row for row in series[name] if row["vs_cmma"]]
        sizes = sorted({*sizes, *(row["n"] for row in rows)})
        label, color, marker = STYLES[name]
        x, y = [row["n"] for row in rows], [row["vs_cmma"] for row in rows]
        ratios.plot(x, y, color=color, marker=marker, markersize=4, label=label)
    ratios.axhline(CLAIMED, color="black", linewidth=1, linestyle=":")
    if sizes:
        ratios.annotate(
            "the seed's 10 times",
            (sizes[-1], CLAIMED),
            xytext=(0, 4),
            textcoords="offset points",
            ha="right",
        )
    ratios.set(title="Times as fast as CMMA", xlabel="matrix size", xscale="log", yscale="log")
    ratios.set_xticks(sizes, [str(size) for size in sizes])
    ratios.set_yticks(TIMES, [str(tick) for tick in TIMES])
    ratios.minorticks_off()
    return figure


MATMUL = Experiment("matmul", CLAIM, run, draw)
