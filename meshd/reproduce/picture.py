"""How every picture looks: light, searchable text, colours that every kind of eye tells apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from meshd.bench.plot import SETTINGS
from meshd.reproduce.result import Experiment, Figures

# Okabe and Ito's colours by what they stand for, the same in every picture.
OURS = "#D55E00"
SIGN_ONLY = "#0072B2"
FLOAT = "#595959"
GREEN = "#009E73"
SKY = "#56B4E9"
PINK = "#CC79A7"
ORANGE = "#E69F00"
LINES = (OURS, SIGN_ONLY, GREEN, PINK, ORANGE, SKY, FLOAT)
MARKERS = "osD^vPX"

STYLE: dict[Any, Any] = SETTINGS | {
    "font.size": 10,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "axes.titlesize": 11,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


def panels(columns: int, height: float = 4.2, **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels beside each other."""
    figure = Figure(figsize=(5.2 * columns, height), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False, **options)
    return figure, list(axes[0])


def save(experiment: Experiment, figures: Figures, path: Path, dpi: float = 100) -> None:
    """Draw to an .svg file (or another format that the name's ending says).

    The same figures give the same bytes.

    Raises:
        OSError: the file cannot be written.
    """
    metadata = {"Date": None} if path.suffix == ".svg" else None
    with matplotlib.rc_context(STYLE):
        experiment.draw(figures).savefig(path, dpi=dpi, metadata=metadata)
