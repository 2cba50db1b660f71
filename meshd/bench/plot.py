"""One figure: time against matrix size in the manner of the seed's two figures, and a roofline.

Every series has its name as the SVG element's id, `series-<panel>-<name>`: a reader's program and
the tests find it there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Report = dict[str, Any]
Row = dict[str, Any]

# Okabe and Ito's colours, told apart by every kind of eye.
STYLES: dict[str, tuple[str, str, str]] = {
    "cmma": ("CMMA", "#999999", "s"),
    "mm": ("torch.mm (MKL)", "#0072B2", "s"),
    "onednn": ("oneDNN float32", "#56B4E9", "s"),
    "bf16": ("oneDNN bf16", "#CC79A7", "D"),
    "int8": ("int8", "#E69F00", "D"),
    "ours-k": ("ours, beta = K", "#D55E00", "o"),
    "ours-64": ("ours, beta = 64", "#009E73", "o"),
    "ours-16": ("ours, beta = 16", "#000000", "o"),
}
OURS_KERNEL = "product_signed"
OURS = {"ours-64": 64, "ours-16": 16}
# Bytes of an element of A, of W and of the result; ours reads A in float32 and W in bits.
ELEMENT_BYTES = {"float32": (4, 4, 4), "bfloat16": (2, 2, 2), "int8": (1, 1, 4)}
ROOFS = {
    "float32_fma_zmm": "float32 multiply-add",
    "bfloat16_dot_zmm": "bf16 dot",
    "int8_dot_zmm": "int8 dot",
}
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "meshd",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw(report: Report, path: Path) -> None:
    """Write the figure as SVG; the same report gives the same bytes.

    Raises:
        OSError: the file cannot be written.
    """
    with matplotlib.rc_context(SETTINGS):
        figure = figure_of(report)
        figure.savefig(path, format="svg", metadata={"Date": None})


def figure_of(report: Report) -> Figure:
    """Three panels: CMMA and ours, torch and ours, the roofline."""
    figure = Figure(figsize=(15, 5), layout="constrained")
    beside_cmma, beside_torch, roof = figure.subplots(1, 3, width_ratios=(1, 1, 1.25))
    series = series_of(report)
    ours = [name for name in series if name.startswith("ours")]
    times(beside_cmma, "cmma", "CMMA and ours", series, ["cmma", *ours])
    times(beside_torch, "torch", "MKL, oneDNN and ours", series, ["mm", "onednn", *ours])
    beside_torch.sharey(beside_cmma)
    roofline(roof, report, series)
    machine = report["machine"]
    threads = f"{machine['threads']} thread" + ("s" if machine["threads"] > 1 else "")
    figure.suptitle(
        f"{machine['processor']}, {threads}, {machine['isa']}: packed binary products, "
        "packing of A included",
        fontsize=10,
    )
    return figure


def series_of(report: Report) -> dict[str, list[Row]]:
    """Rows by series, each by size: references, and the signed product of the set in use."""
    isa = report["machine"]["isa"]
    found: dict[str, list[Row]] = {}
    for row in report["results"]:
        if row["family"] != "forward":
            continue
        if row["kernel"] in STYLES:
            found.setdefault(row["kernel"], []).append(row)
        elif row["kernel"] == OURS_KERNEL and row["isa"] == isa:
            for name in ("ours-k", "ours-64", "ours-16"):
                if row["beta"] == OURS.get(name, row["k"]):
                    found.setdefault(name, []).append(row)
    for rows in found.values():
        rows.sort(key=lambda row: (row["m"] * row["k"] * row["n"], row["m"]))
    return {name: found[name] for name in STYLES if name in found}


def cubes(rows: Iterable[Row]) -> list[Row]:
    """Square problems: the ones that have one size."""
    return [row for row in rows if row["m"] == row["k"] == row["n"]]


def times(
    axes: Axes, panel: str, title: str, series: dict[str, list[Row]], names: Sequence[str]
) -> None:
    """Seconds against size, both logarithmic."""
    sizes: list[int] = []
    for name in names:
        rows = cubes(series.get(name, []))
        if not rows:
            continue
        label, colour, marker = STYLES[name]
        x, y = [row["n"] for row in rows], [row["seconds_best"] for row in rows]
        (line,) = axes.plot(x, y, color=colour, marker=marker, markersize=4, label=label)
        line.set_gid(f"series-{panel}-{name}")
        sizes = sorted({*sizes, *x})
    axes.set(title=title, xlabel="matrix size", xscale="log", yscale="log")
    axes.set_ylabel("seconds, best of the turns")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.grid(alpha=0.25)
    if sizes:
        axes.legend(frameon=False, loc="upper left")


def roofline(axes: Axes, report: Report, series: dict[str, list[Row]]) -> None:
    """Speed against operations per byte, under what memory and registers allow."""
    threads, ceilings = report["machine"]["threads"], report["ceilings"]
    points = {
        name: [(intensity(row), row["gops"]) for row in rows] for name, rows in series.items()
    }
    every = [x for some in points.values() for x, _ in some] or [1.0]
    left, right = min(1.0, *every), 3 * max(every)
    slope = ceilings.get("memory_read", {}).get("gb_per_s", 0.0)
    roofs = dict(ROOFS)
    bound = next((row["ceiling"] for row in series.get("ours-k", []) if row["ceiling"]), None)
    if bound:
        roofs[bound] = f"packed: {bound.replace('_', ' ')}"
    for name, label in roofs.items():
        if name not in ceilings:
            continue
        height = ceilings[name]["gops"] * threads
        start = height / slope if slope else left
        (line,) = axes.plot([start, right], [height, height], color="#555555", linewidth=1)
        line.set_gid(f"series-roof-{name}")
        axes.annotate(
            f"{label}, {height:.0f}", (right, height), ha="right", va="bottom", fontsize=8
        )
    if slope:
        shown = [ceilings[name]["gops"] * threads for name in roofs if name in ceilings]
        top = max(shown, default=slope)
        (line,) = axes.plot([left, top / slope], [left * slope, top], color="#555555", linewidth=1)
        line.set_gid("series-roof-memory_read")
        axes.annotate(
            f"memory, {slope:.0f} GB/s", (left, left * slope), va="bottom", ha="left", fontsize=8
        )
    for name, some in points.items():
        label, colour, marker = STYLES[name]
        x, y = [point[0] for point in some], [point[1] for point in some]
        dots = axes.scatter(x, y, s=22, color=colour, marker=marker, label=label, zorder=3)
        dots.set_gid(f"series-roof-{name}")
    axes.set(title="Roofline", xlabel="operations per byte of operands and result")
    axes.set(ylabel="GOPS, best of the turns", xscale="log", yscale="log")
    axes.grid(alpha=0.25)
    if points:
        axes.legend(frameon=False, loc="lower right", fontsize=8)


def intensity(row: Row) -> float:
    """Operations per byte, if every operand comes from memory once and the result goes there."""
    m, k, n = row["m"], row["k"], row["n"]
    if row["coding"] in ELEMENT_BYTES:
        of_a, of_w, of_y = ELEMENT_BYTES[row["coding"]]
        moved = of_a * m * k + of_w * n * k + of_y * m * n
    else:
        moved = 4 * m * k + n * k / 8 + 4 * n * k / (row["beta"] or k) + 4 * m * n
    return float(2 * m * k * n / moved)
