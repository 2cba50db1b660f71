"""im2col: windows of an image as the rows of a matrix, so that a convolution is a product.

A window of k = kh kw C elements is copied for each output pixel, so a pixel is copied kh kw times.
In float32 that is 32 bits an element. Packed along the channels a tap is C bits and one scale for
each segment of beta: 1 + 32 / beta bits an element, 32 / (1 + 32 / beta) times less to write, and
to read again in the product: 21.3 at beta = 64, 32 without the scales.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from meshd.bench import machine
from meshd.bench.timing import Effort, Turn, interleave
from meshd.bits import ops
from meshd.reproduce.picture import FLOAT, OURS, panels
from meshd.reproduce.result import Experiment, Figures, Options, Result, Say, Table

CLAIM = "Optimization of im2col algorithm for faster inference."
BETA = 64
SEED = 0


@dataclass(frozen=True)
class Case:
    """A convolution whose padding keeps the images' size."""

    name: str
    size: int
    channels: int
    kernel: int = 3

    def shape(self, batch: int) -> ops.ConvShape:
        """The same as the kernels take it."""
        pad = self.kernel // 2
        kernel, padding = (self.kernel, self.kernel), (pad, pad)
        return ops.ConvShape(
            batch, self.size, self.size, self.channels, kernel=kernel, padding=padding
        )


# The 3x3 convolutions of ResNet-18's four stages (arXiv 1512.03385), and a 5x5 one.
CASES = (
    Case("56 x 56 x 64, 3x3", 56, 64),
    Case("28 x 28 x 128, 3x3", 28, 128),
    Case("14 x 14 x 256, 3x3", 14, 256),
    Case("7 x 7 x 512, 3x3", 7, 512),
    Case("14 x 14 x 64, 5x5", 14, 64, 5),
)


@dataclass(frozen=True)
class Prepared:
    """What is timed, by name, and the bytes that each reads and writes."""

    calls: dict[str, Callable[[], object]]
    bytes_moved: dict[str, int]


def prepare(case: Case, batch: int) -> Prepared:
    """float32: torch's unfold. packed: from packed images. pack: packing them from float32."""
    shape = case.shape(batch)
    generator = torch.Generator().manual_seed(SEED)
    images = torch.randn(batch, case.channels, case.size, case.size, generator=generator)
    rows = images.permute(0, 2, 3, 1).reshape(shape.rows, -1).contiguous().numpy()
    x_words, x_scales = ops.pack_signed(rows, BETA)
    words, scales = ops.im2col(x_words, x_scales, BETA, shape)
    again_words, again_scales = x_words.copy(), x_scales.copy()
    calls: dict[str, Callable[[], object]] = {
        "float32": lambda: torch.nn.functional.unfold(
            images, case.kernel, padding=case.kernel // 2
        ),
        "packed": lambda: ops.im2col(
            x_words, x_scales, BETA, shape, out_words=words, out_scales=scales
        ),
        "pack": lambda: ops.pack_signed(rows, BETA, out_words=again_words, out_scales=again_scales),
    }
    packed_images = x_words.nbytes + x_scales.nbytes
    moved = {
        "float32": rows.nbytes + 4 * shape.windows * shape.k,
        "packed": packed_images + words.nbytes + scales.nbytes,
        "pack": rows.nbytes + packed_images,
    }
    return Prepared(calls, moved)


def run(options: Options, say: Say) -> Result:
    """Count and time every case, one thread, the competitors in turns."""
    batch, effort = (1, Effort(0.05, 2, 4)) if options.quick else (8, Effort(3.0))
    effort = replace(effort, clock=time.process_time)  # what others compute on the core is not ours
    cases: list[dict[str, Any]] = []
    with machine.pinned(1):
        for case in CASES:
            say(case.name)
            prepared = prepare(case, batch)
            turns = {name: Turn(call) for name, call in prepared.calls.items()}
            times = interleave(turns, effort)
            cases.append(
                {
                    "case": case.name,
                    "bytes": prepared.bytes_moved,
                    "seconds": {name: spent.median for name, spent in times.items()},
                }
            )
    less = [c["bytes"]["float32"] / c["bytes"]["packed"] for c in cases]
    faster = [c["seconds"]["float32"] / c["seconds"]["packed"] for c in cases]
    whole = [c["seconds"]["float32"] / _with_packing(c) for c in cases]
    rows = [
        [
            case["case"],
            f"{case['bytes']['float32'] / 1e6:.2f}",
            f"{case['bytes']['packed'] / 1e6:.3f}",
            f"{less[i]:.1f}x",
            f"{case['seconds']['float32'] * 1e3:.2f}",
            f"{case['seconds']['packed'] * 1e3:.3f}",
            f"{faster[i]:.1f}x",
            f"{whole[i]:.1f}x",
        ]
        for i, case in enumerate(cases)
    ]
    titles = ("IMAGE", "FLOAT32 MB", "PACKED MB", "LESS", "FLOAT32 MS", "PACKED MS", "FASTER")
    return Result(
        experiment="im2col",
        claim=CLAIM,
        finding=(
            f"{min(less):.1f} times fewer bytes, {min(faster):.0f} to {max(faster):.0f} times"
            f" faster; {min(whole):.0f} to {max(whole):.0f} times where float32 images are packed"
            " first"
        ),
        settings={"batch": batch, "beta": BETA, "threads": 1, "padding": "kernel / 2"},
        seeds=[SEED],
        figures={"cases": cases},
        table=Table((*titles, "WITH PACKING"), rows),
        notes=(
            "bytes: read and written, computed from the arrays' sizes; seconds: medians of one"
            " thread's processor time, measured",
            "float32 is torch.nn.functional.unfold",
        ),
    )


def _with_packing(case: dict[str, Any]) -> float:
    seconds = case["seconds"]
    return float(seconds["packed"] + seconds["pack"])


def draw(figures: Figures) -> Figure:
    """Bytes and milliseconds of every case, logarithmic, bars beside each other."""
    figure, (sizes, times) = panels(2, 3.9)
    cases = figures["cases"]
    moved = [{name: case["bytes"][name] / 1e6 for name in ("float32", "packed")} for case in cases]
    spent = [
        {"float32": case["seconds"]["float32"] * 1e3, "packed": _with_packing(case) * 1e3}
        for case in cases
    ]
    for axes, values, unit in (
        (sizes, moved, "MB read and written"),
        (times, spent, "milliseconds, packing the images included"),
    ):
        for offset, (name, label, color) in (
            (-0.2, ("float32", "float32 (unfold)", FLOAT)),
            (0.2, ("packed", "packed, beta = 64", OURS)),
        ):
            places = [place + offset for place in range(len(cases))]
            axes.barh(places, [v[name] for v in values], 0.38, color=color, label=label)
        for place, value in enumerate(values):
            text = f"{value['float32'] / value['packed']:.0f}x less"
            _beside(axes, value["packed"], place + 0.2, text)
        axes.set_yticks(range(len(cases)), [case["case"] for case in cases])
        axes.set(xlabel=unit, xscale="log")
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
    figure.legend(*times.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def _beside(axes: Axes, x: float, y: float, text: str) -> None:
    axes.annotate(text, (x, y), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9)


IM2COL = Experiment("im2col", CLAIM, run, draw)
