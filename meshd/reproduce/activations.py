"""What a layer keeps of its activations from the forward pass to the backward pass.

Straight through, both gradients of a binary product need of an activation its bit, its segment's
scale (32 / beta bits), and, where the estimator cuts, one bit that says whether its gradient
passes. A float32 layer keeps 32 bits: 32 / (1 + 32 / beta) times more, 21.3 at beta = 64, and 12.8
with the bit of the cut. A Ramp keeps a bit of its own. Batch normalisation keeps its float32 input,
whatever follows. Counted by autograd's own hooks (`meshd.hbnn.saved`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import nn

from meshd.hbnn.activations import Ramp
from meshd.hbnn.conv import HadamardConv2d
from meshd.hbnn.linear import HadamardLinear
from meshd.hbnn.modules import BatchNorm
from meshd.hbnn.saved import saved_activation_bytes
from meshd.reproduce.picture import FLOAT, OURS, panels
from meshd.reproduce.result import Experiment, Figures, Options, Result, Say, Table

CLAIM = "Beside the seed's claims: what training keeps of its activations is packed too."
SEED = 0


@dataclass(frozen=True)
class Block:
    """A block as float32 and as ours, and the shape of its input; the name has beta and cut."""

    name: str
    float32: Callable[[], nn.Module]
    ours: Callable[[], nn.Module]
    shape: tuple[int, ...]


def _linear(beta: int, cut: float | None) -> nn.Module:
    return HadamardLinear(1024, 1024, beta, coding="unipolar", cut=cut)


def _conv(beta: int, cut: float | None) -> nn.Module:
    return HadamardConv2d(128, 128, 3, beta, padding=1, coding="signed", cut=cut)


def _float_conv() -> nn.Module:
    return nn.Conv2d(128, 128, 3, padding=1, bias=False)


FLAT, IMAGE = (128, 1024), (8, 128, 16, 16)
BLOCKS = (
    Block(
        "linear, beta 64, no cut", lambda: nn.Linear(1024, 1024), lambda: _linear(64, None), FLAT
    ),
    Block("linear, beta 64, cut 1", lambda: nn.Linear(1024, 1024), lambda: _linear(64, 1.0), FLAT),
    Block("linear, beta 16, cut 1", lambda: nn.Linear(1024, 1024), lambda: _linear(16, 1.0), FLAT),
    Block("conv 3x3, beta 64, no cut", _float_conv, lambda: _conv(64, None), IMAGE),
    Block("conv 3x3, beta 64, cut 1", _float_conv, lambda: _conv(64, 1.0), IMAGE),
    Block(
        "ramp, linear, beta 64, cut 1",
        lambda: nn.Sequential(nn.ReLU(), nn.Linear(1024, 1024)),
        lambda: nn.Sequential(Ramp(), _linear(64, 1.0)),
        FLAT,
    ),
    Block(
        "batch norm, conv 3x3, beta 64",
        lambda: nn.Sequential(nn.BatchNorm2d(128), _float_conv()),
        lambda: nn.Sequential(BatchNorm(128), _conv(64, 1.0)),
        IMAGE,
    ),
)


def run(options: Options, say: Say) -> Result:
    """Count both forms of every block."""
    blocks: list[dict[str, Any]] = []
    for block in BLOCKS:
        say(block.name)
        x = torch.randn(block.shape, generator=torch.Generator().manual_seed(SEED))
        x = x.to(memory_format=torch.channels_last) if x.dim() == 4 else x
        kept = {
            form: saved_activation_bytes(make(), x) / x.numel()
            for form, make in (("float32", block.float32), ("ours", block.ours))
        }
        blocks.append({"name": block.name, "shape": list(block.shape), **kept})
    ratios = [block["float32"] / block["ours"] for block in blocks]
    rows = [
        [
            block["name"],
            f"{8 * block['float32']:.2f}",
            f"{8 * block['ours']:.2f}",
            f"{ratio:.1f}x",
        ]
        for block, ratio in zip(blocks, ratios, strict=True)
    ]
    return Result(
        experiment="activations",
        claim=CLAIM,
        finding=(
            f"a binary layer keeps {ratios[0]:.1f} times less than float32 at beta = 64,"
            f" {ratios[1]:.1f} times with a straight-through cut; batch normalisation before it"
            " keeps float32"
        ),
        settings={"blocks": [block.name for block in BLOCKS]},
        seeds=[SEED],
        figures={"blocks": blocks},
        table=Table(("BLOCK", "FLOAT32 BITS", "OURS BITS", "LESS"), rows),
        notes=("bits of an activation of the block's input, counted by autograd's hooks",),
    )


def draw(figures: Figures) -> Figure:
    """Bits of an activation in both forms, block by block."""
    figure, (axes,) = panels(1, 3.6)
    figure.set_figwidth(7.5)
    blocks = figures["blocks"]
    for offset, form, label, color in (
        (-0.2, "float32", "float32", FLOAT),
        (0.2, "ours", "binary", OURS),
    ):
        places = [place + offset for place in range(len(blocks))]
        bits = [8 * block[form] for block in blocks]
        axes.barh(places, bits, 0.38, color=color, label=label)
        for place, value in zip(places, bits, strict=True):
            text = f"{value:.2f}".rstrip("0").rstrip(".")
            axes.annotate(
                text,
                (value, place),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
    axes.set_yticks(range(len(blocks)), [block["name"] for block in blocks])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set(xlabel="bits kept of an activation between forward and backward")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


ACTIVATIONS = Experiment("activations", CLAIM, run, draw)
