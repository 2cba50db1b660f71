"""The figure is an SVG whose series can be found by name; how it looks is for eyes."""

from __future__ import annotations

import copy
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from meshd.bench.plot import STYLES, draw, intensity, series_of

Report = dict[str, Any]


def ids(path: Path) -> set[str]:
    root = ET.fromstring(path.read_text())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    return {name for e in root.iter() if (name := e.get("id", "")).startswith("series-")}


@pytest.fixture
def grown(report: Report) -> Report:
    """The tiny report, with a second size: a line needs two points."""
    report = copy.deepcopy(report)
    for row in list(report["results"]):
        if row["gops"] is not None:
            size = {"m": 128, "k": 128, "n": 128, "seconds_best": 8 * row["seconds_best"]}
            report["results"].append(row | size | {"beta": row["beta"] and min(row["beta"], 16)})
    return report


def test_every_series_is_drawn(grown: Report, tmp_path: Path) -> None:
    draw(grown, tmp_path / "out.svg")
    found = ids(tmp_path / "out.svg")
    series = series_of(grown)
    assert (
        {"cmma", "mm", "onednn", "ours-k", "ours-16", "ours-64"} <= series.keys() <= STYLES.keys()
    )
    assert {f"series-roof-{name}" for name in series} <= found
    assert {"series-cmma-cmma", "series-cmma-ours-k", "series-cmma-ours-16"} <= found
    assert {"series-torch-mm", "series-torch-onednn", "series-torch-ours-k"} <= found
    assert "series-roof-memory_read" in found
    text = (tmp_path / "out.svg").read_text()
    assert "Roofline" in text and "CMMA and ours" in text


def test_the_same_report_gives_the_same_bytes(grown: Report, tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        draw(grown, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_a_report_without_results_is_an_empty_figure(report: Report, tmp_path: Path) -> None:
    empty = {**report, "results": [], "ceilings": {}}
    draw(empty, tmp_path / "out.svg")
    assert ids(tmp_path / "out.svg") == set()


def test_lines_go_up_in_size(grown: Report) -> None:
    for rows in series_of(grown).values():
        sizes = [row["m"] * row["k"] * row["n"] for row in rows]
        assert sizes == sorted(sizes)


def test_intensity_counts_bits_as_bits() -> None:
    shape = {"m": 64, "k": 64, "n": 64}
    of_float = intensity({**shape, "coding": "float32", "beta": None})
    assert of_float == 2 * 64**3 / (3 * 4 * 64 * 64)
    of_ours = intensity({**shape, "coding": "signed", "beta": 64})
    assert of_ours == 2 * 64**3 / (2 * 4 * 64 * 64 + 64 * 8 + 64 * 4)
