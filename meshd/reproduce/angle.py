"""The angle between a random normal vector and its binarized version.

Let x have n independent standard normal elements, in segments of beta, beta a divisor of n. With
alpha_s the mean of |x| over segment s, H(x) = alpha_s sign(x) on it:

    <x, H(x)> = sum_s alpha_s sum_{i in s} |x_i| = sum_s beta alpha_s^2 = |H(x)|^2
    cos^2     = <x, H>^2 / (|x|^2 |H|^2)         = sum_s beta alpha_s^2 / |x|^2

A normal vector's direction is independent of its length, and cos^2 depends on the direction alone,
so the mean of the quotient is the quotient of the means:

    E cos^2 = E[alpha^2] / E[x^2] = (E|x|)^2 + Var|x| / beta = 2/pi + (1 - 2/pi) / beta     (*)

exactly, at every n. Hence arccos sqrt(2/pi) = 37.07 degrees as beta grows with n, 0 at beta = 1,
and at a fixed beta the dimension does not matter at all: only beta does. The measured mean of the
angle itself lies off arccos sqrt(*) only by the curvature of arccos, which falls as 1/n.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from meshd.hbnn.binarize import hadamard
from meshd.reproduce.picture import FLOAT, LINES, MARKERS, OURS, panels
from meshd.reproduce.result import Experiment, Figures, Options, Result, Say, Table

CLAIM = (
    "Angle of randomly initialized vectors preserved in high dimensional spaces: approximately 37"
    " degrees as vector length approaches infinity."
)
LIMIT = math.degrees(math.acos(math.sqrt(2 / math.pi)))
WHOLE = 0  # beta 0: one segment, the whole vector
BETAS = (WHOLE, 64, 16, 4, 2)
ELEMENTS = 1 << 20  # drawn for each point: short vectors are drawn more often
BY_BETA_ELEMENTS = 1 << 19
SEED = 0


def expected_angle(beta: float) -> float:
    """Degrees of arccos sqrt(E cos^2) for segments of `beta` elements: (*)."""
    cosine_squared = 2 / math.pi + (1 - 2 / math.pi) / beta
    return math.degrees(math.acos(math.sqrt(min(1.0, cosine_squared))))


def angles(dimension: int, beta: int, vectors: int, generator: torch.Generator) -> torch.Tensor:
    """Degrees between each of `vectors` normal vectors and its binarized version, (vectors,)."""
    x = torch.randn(vectors, dimension, dtype=torch.float64, generator=generator)
    h = hadamard(x, beta or dimension, "signed")
    cosines = (x * h).sum(-1) / (x.norm(dim=-1) * h.norm(dim=-1))
    return torch.rad2deg(torch.acos(cosines.clamp(-1, 1)))


def measured(dimension: int, beta: int, elements: int, chance: torch.Generator) -> dict[str, Any]:
    """One point: the mean angle of about `elements` / `dimension` vectors, and what (*) says."""
    vectors = max(8, min(1 << 13, elements // dimension))
    found = angles(dimension, beta, vectors, chance)
    return {
        "beta": beta,
        "dimension": dimension,
        "vectors": vectors,
        "mean_degrees": float(found.mean()),
        "spread_degrees": float(found.std()),
        "expected_degrees": expected_angle(beta or dimension),
    }


def run(options: Options, say: Say) -> Result:
    """Measure some betas at all dimensions, and all betas at the largest."""
    top, elements = (12, ELEMENTS >> 4) if options.quick else (17, ELEMENTS)
    dimensions = [1 << power for power in range(1, top + 1)]
    chance = torch.Generator().manual_seed(SEED)
    points = []
    for beta in BETAS:
        say(f"beta {beta or 'n'}")
        points += [measured(n, beta, elements, chance) for n in dimensions if n >= beta]
    say("every beta")
    by_beta = [measured(1 << top, 1 << power, BY_BETA_ELEMENTS, chance) for power in range(top + 1)]
    limit, four = by_beta[-1], by_beta[2]
    rows = [
        [
            str(point["beta"]),
            f"{point['mean_degrees']:.3f}",
            f"{point['spread_degrees']:.3f}",
            f"{point['expected_degrees']:.3f}",
        ]
        for point in by_beta
    ]
    return Result(
        experiment="angle",
        claim=CLAIM,
        finding=(
            f"{limit['mean_degrees']:.2f} degrees at {limit['dimension']} dimensions"
            f" (limit {LIMIT:.2f}); {four['mean_degrees']:.2f} with beta = 4"
        ),
        settings={"elements_a_point": elements, "dtype": "float64", "vectors": "standard normal"},
        seeds=[SEED],
        figures={"limit_degrees": LIMIT, "points": points, "by_beta": by_beta},
        table=Table(("BETA", "MEAN ANGLE", "SPREAD", "EXPECTED"), rows),
        notes=(
            f"degrees, at dimension {limit['dimension']}; spread: standard deviation over"
            f" {limit['vectors']} vectors; expected: arccos sqrt(2/pi + (1 - 2/pi) / beta)",
        ),
    )


def draw(figures: Figures) -> Figure:
    """Angle against dimension, and against beta, points on the derived lines."""
    figure, (by_dimension, by_beta) = panels(2, sharey=True)
    points = figures["points"]
    for index, beta in enumerate(dict.fromkeys(point["beta"] for point in points)):
        mine = [point for point in points if point["beta"] == beta]
        _series(by_dimension, mine, f"beta = {beta or 'n'}", LINES[index], MARKERS[index])
    limit = figures["limit_degrees"]
    for axes in (by_dimension, by_beta):
        axes.axhline(limit, color="black", linewidth=1, linestyle=":")
        axes.set_xscale("log", base=2)
    by_dimension.set(xlabel="dimension n", ylabel="angle to the binarized vector (degrees)")
    by_dimension.set(title="One segment as long as the vector, or shorter ones", ylim=(-1.5, 44))
    by_dimension.legend(ncols=3, loc="lower right", columnspacing=1)
    measurements = figures["by_beta"]
    top = measurements[-1]["dimension"]
    grid = [2 ** (k / 8) for k in range(8 * 20 + 1) if 2 ** (k / 8) <= top]
    expected = "arccos sqrt(2/pi + (1 - 2/pi) / beta)"
    by_beta.plot(grid, [expected_angle(beta) for beta in grid], color=FLOAT, label=expected)
    by_beta.plot(
        [point["beta"] for point in measurements],
        [point["mean_degrees"] for point in measurements],
        color=OURS,
        marker="o",
        linestyle="",
        label="measured",
    )
    by_beta.annotate(
        f"arccos sqrt(2/pi) = {limit:.2f}",
        (top, limit),
        xytext=(0, 5),
        textcoords="offset points",
        ha="right",
    )
    by_beta.legend(loc="lower right")
    by_beta.set(xlabel="beta, elements that share a scale", title=f"Dimension {top}")
    return figure


def _series(axes: Axes, points: list[dict[str, float]], label: str, color: str, mark: str) -> None:
    x = [point["dimension"] for point in points]
    axes.plot(x, [point["expected_degrees"] for point in points], color=color, linewidth=1)
    axes.errorbar(
        x,
        [point["mean_degrees"] for point in points],
        [point["spread_degrees"] for point in points],
        color=color,
        marker=mark,
        markersize=4,
        linestyle="",
        elinewidth=0.8,
        label=label,
    )


ANGLE = Experiment("angle", CLAIM, run, draw)
