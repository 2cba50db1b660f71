"""What training makes of the hidden layer's weights: float32, HBNN and sign-only BNN.

For each network the latents, which the optimizer moves, and what the network computes with. How far
a distribution P lies from the float32 network's Q is said by two numbers, F and G their
distribution functions:

    Kolmogorov-Smirnov  max |F - G|, 0 to 1        of the weights as they are
    Wasserstein-1       integral |F - G|           in units of Q's standard deviation

both of the weights as they are, and of the weights divided by their own standard deviation, which
leaves the shape alone: the sizes of two trainings need not agree.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from meshd.reproduce.picture import FLOAT, OURS, SIGN_ONLY
from meshd.reproduce.result import Experiment, Figures, Options, Result, Say, Table
from meshd.reproduce.trained import KINDS, hidden_latents, settings_of, train, weights_seen

CLAIM = (
    "The Hadamard BNN preserves the distribution of the weights much better (the BNN graph has a"
    " logarithmic vertical axis)."
)
SHOWN = ("float", "hbnn", "bnn")
BINS = 81
SEED = 0
OUTLIERS = 1e-3  # share of the weights that may lie beside a histogram's range, at each side

Floats = NDArray[np.float64]


def kolmogorov_smirnov(p: Floats, q: Floats) -> float:
    """The largest difference of two samples' distribution functions, (n,) and (m,)."""
    p, q = np.sort(p), np.sort(q)
    every = np.concatenate([p, q])
    f = np.searchsorted(p, every, side="right") / len(p)
    g = np.searchsorted(q, every, side="right") / len(q)
    return float(np.abs(f - g).max())


def wasserstein(p: Floats, q: Floats) -> float:
    """The area between two samples' distribution functions: of equal sizes, in order, the mean
    distance."""
    if p.shape != q.shape:
        raise ValueError(f"samples must be equally large, not {p.shape} and {q.shape}")
    return float(np.abs(np.sort(p) - np.sort(q)).mean())


def histogram(values: Floats) -> dict[str, Any]:
    """Counts and edges of BINS bins that hold all but a few outliers; two values: their counts."""
    few = np.unique(values)
    if len(few) <= 2:
        return {"values": few.tolist(), "counts": [int((values == v).sum()) for v in few]}
    low, high = np.quantile(values, [OUTLIERS, 1 - OUTLIERS])
    reach = max(abs(low), abs(high))
    counts, edges = np.histogram(values, BINS, (-reach, reach))
    return {"counts": counts.tolist(), "edges": edges.tolist()}


def run(options: Options, say: Say) -> Result:
    """Train the three networks with one seed and look at their hidden layer."""
    found: dict[str, Any] = {}
    weights: dict[tuple[str, str], Floats] = {}
    for kind in SHOWN:
        trained = train(kind, SEED, options, say)
        latents = hidden_latents(trained.net)
        weights[kind, "latents"] = latents.double().numpy().reshape(-1)
        seen = weights_seen(kind, latents).double().numpy()
        weights[kind, "seen"] = seen.reshape(-1)
    target = weights["float", "seen"]
    rows = []
    for (kind, what), values in weights.items():
        if (kind, what) == ("float", "seen"):
            continue
        entry = {
            "histogram": histogram(values),
            "std": float(values.std()),
            "distinct": len(np.unique(values)),
            "ks": kolmogorov_smirnov(values, target),
            "wasserstein": wasserstein(values, target) / float(target.std()),
            "shape_ks": kolmogorov_smirnov(values / values.std(), target / target.std()),
            "shape_wasserstein": wasserstein(values / values.std(), target / target.std()),
        }
        found.setdefault(kind, {})[what] = entry
        words = "all" if kind == "float" else what
        figures = [f"{entry[key]:.3f}" for key in ("ks", "wasserstein")]
        shapes = [f"{entry[key]:.3f}" for key in ("shape_ks", "shape_wasserstein")]
        name = KINDS[kind].name
        rows.append([name, words, f"{entry['std']:.4f}", str(entry["distinct"]), *figures, *shapes])
    hbnn, bnn = found["hbnn"]["seen"], found["bnn"]["seen"]
    return Result(
        experiment="histograms",
        claim=CLAIM,
        finding=(
            "distance of the shape to float32's (Wasserstein-1, standard deviations): what the"
            f" network computes with, HBNN {hbnn['shape_wasserstein']:.2f}, BNN"
            f" {bnn['shape_wasserstein']:.2f}; latents, HBNN"
            f" {found['hbnn']['latents']['shape_wasserstein']:.2f}, BNN"
            f" {found['bnn']['latents']['shape_wasserstein']:.2f}"
        ),
        settings=settings_of(options),
        seeds=[SEED],
        figures={"names": {kind: KINDS[kind].name for kind in SHOWN}, "layers": found},
        table=Table(
            (
                *("NETWORK", "WEIGHTS", "STD", "DISTINCT", "KS", "WASSERSTEIN"),
                *("SHAPE KS", "SHAPE WASSERSTEIN"),
            ),
            rows,
        ),
        notes=(
            "the hidden layer, width x width; distances to the float32 network's weights; SHAPE:"
            " both divided by their own standard deviation",
        ),
    )


def draw(figures: Figures) -> Figure:
    """float32, HBNN latents and seen, BNN latents and seen; BNN's axis logarithmic."""
    figure = Figure(figsize=(15.6, 3.8), layout="constrained")
    axes = figure.subplots(1, 5)
    layers, names = figures["layers"], figures["names"]
    panels = (
        (axes[0], "float", "latents", names["float"], FLOAT),
        (axes[1], "hbnn", "latents", f"{names['hbnn']}: latents", OURS),
        (axes[2], "hbnn", "seen", f"{names['hbnn']}: what it uses", OURS),
        (axes[3], "bnn", "latents", f"{names['bnn']}: latents", SIGN_ONLY),
        (axes[4], "bnn", "seen", f"{names['bnn']}: what it uses", SIGN_ONLY),
    )
    for panel, kind, what, title, color in panels:
        _histogram(panel, layers[kind][what], color, logarithmic=kind == "bnn")
        panel.set(title=title, xlabel="weight")
    axes[0].set_ylabel("weights in a bin")
    axes[3].set_ylabel("weights in a bin (logarithmic)")
    return figure


def _histogram(axes: Axes, entry: dict[str, Any], color: str, logarithmic: bool) -> None:
    shown = entry["histogram"]
    if "values" in shown:
        axes.bar(shown["values"], shown["counts"], 0.08, color=color)
        axes.set_xlim(-1.5, 1.5)
    else:
        axes.stairs(shown["counts"], shown["edges"], fill=True, color=color)
    top = max(shown["counts"])
    if logarithmic:
        axes.set(yscale="log", ylim=(0.5, 8 * top))
    else:
        axes.set_ylim(0, 1.25 * top)
    text = f"shape's distance\nto float32 {entry['shape_wasserstein']:.2f}"
    axes.annotate(text, (0.03, 0.97), xycoords="axes fraction", va="top", fontsize=8)


HISTOGRAMS = Experiment("histograms", CLAIM, run, draw)
