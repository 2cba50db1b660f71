"""The seed's network in float32, as HBNN and as sign-only BNN: test accuracy, epoch by epoch."""

from __future__ import annotations

import statistics
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from meshd.reproduce.picture import FLOAT, OURS, SIGN_ONLY, SKY, panels
from meshd.reproduce.result import Experiment, Figures, Options, Result, Say, Table
from meshd.reproduce.trained import KINDS, protocol_of, settings_of, train

CLAIM = (
    "The HBNN model gives 87% accuracy, whereas the BNN model (Binary Neural Networks) gives only"
    " 82%, after 5 epochs; faster convergence with respect to vanilla binarization techniques."
)
COLORS = {"float": FLOAT, "hbnn": OURS, "bnn": SIGN_ONLY, "bnn_scaled": SKY}
MARKERS = {"float": "s", "hbnn": "o", "bnn": "^", "bnn_scaled": "v"}


def run(options: Options, say: Say) -> Result:
    """Train every kind with every seed."""
    protocol = protocol_of(options)
    curves: dict[str, Any] = {kind: [] for kind in KINDS}
    for seed in protocol.seeds:
        for kind in KINDS:
            trained = train(kind, seed, options, say)
            curves[kind].append({"accuracy": trained.accuracy, "loss": trained.loss})
    last = {kind: [run["accuracy"][-1] for run in runs] for kind, runs in curves.items()}
    mean = {kind: statistics.fmean(values) for kind, values in last.items()}
    rows = [
        [
            KINDS[kind].name,
            *(f"{statistics.fmean(epoch):.2f}" for epoch in _epochs(curves[kind])),
            f"{min(last[kind]):.2f} to {max(last[kind]):.2f}",
            f"{mean[kind] - mean['hbnn']:+.2f}",
        ]
        for kind in KINDS
    ]
    numbers = [f"EPOCH {number}" for number in range(1, protocol.epochs + 1)]
    return Result(
        experiment="accuracy",
        claim=CLAIM,
        finding=(
            f"HBNN {mean['hbnn']:.1f} %, sign-only BNN {mean['bnn']:.1f} %, float32"
            f" {mean['float']:.1f} %; a BNN with its logits scaled {mean['bnn_scaled']:.1f} %"
        ),
        settings=settings_of(options),
        seeds=protocol.seeds,
        figures={"names": {k: s.name for k, s in KINDS.items()}, "curves": curves},
        table=Table(("NETWORK", *numbers, "SEEDS", "TO HBNN"), rows),
        notes=(
            "percent of the test images, mean over the seeds; SEEDS: lowest and highest of the last"
            " epoch",
            "without normalisation; most of what the sign-only BNN loses is the scale of its"
            " logits, which one factor mends",
        ),
    )


def _epochs(runs: list[dict[str, list[float]]]) -> list[list[float]]:
    """Accuracies of all seeds, epoch by epoch."""
    return [list(values) for values in zip(*(run["accuracy"] for run in runs), strict=True)]


def draw(figures: Figures) -> Figure:
    """Curves with the range of the seeds, and every seed's last epoch."""
    figure, (curves, ends) = panels(2, width_ratios=(1.6, 1))
    for place, (kind, runs) in enumerate(figures["curves"].items()):
        epochs = _epochs(runs)
        color, label = COLORS[kind], figures["names"][kind]
        x = range(1, len(epochs) + 1)
        means = [statistics.fmean(values) for values in epochs]
        curves.fill_between(
            x, [min(v) for v in epochs], [max(v) for v in epochs], color=color, alpha=0.2, lw=0
        )
        curves.plot(x, means, color=color, marker=MARKERS[kind], markersize=5, label=label)
        _strip(ends, place, epochs[-1], color, MARKERS[kind])
    curves.set(xlabel="epoch", ylabel="test accuracy (%)", title="Mean and range of the seeds")
    curves.set_xticks(list(x))
    curves.legend(loc="lower right")
    names = [figures["names"][kind] for kind in figures["curves"]]
    ends.set_xticks(range(len(names)), names, rotation=20, ha="right")
    ends.set(xlim=(-0.5, len(names) - 0.3), title="Last epoch, every seed")
    ends.set_ylabel("test accuracy (%)")
    return figure


def _strip(axes: Axes, place: int, values: list[float], color: str, marker: str) -> None:
    axes.plot([place] * len(values), values, color=color, marker=marker, linestyle="", alpha=0.8)
    mean = statistics.fmean(values)
    axes.annotate(
        f"{mean:.1f}", (place, mean), xytext=(8, 0), textcoords="offset points", va="center"
    )


ACCURACY = Experiment("accuracy", CLAIM, run, draw)
