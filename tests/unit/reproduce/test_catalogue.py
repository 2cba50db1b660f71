"""Every experiment: it runs, its figures are JSON, and its picture is drawn from them alone."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from meshd.reproduce.catalogue import CATALOGUE, find
from meshd.reproduce.picture import save
from meshd.reproduce.result import Table

MOST_PICTURE_BYTES = 150_000


@pytest.mark.parametrize("name", CATALOGUE)
def test_an_experiment_says_what_it_found(name: str, quick) -> None:
    result = quick(name)
    assert result.experiment == find(name).name == name
    assert result.claim and result.finding and result.quick
    assert result.machine["threads"] == 1 and result.seconds >= 0
    assert result.table.rows
    assert all(len(row) == len(result.table.titles) for row in result.table.rows)


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_picture_is_made_from_the_printed_figures(name: str, quick, tmp_path: Path) -> None:
    printed = json.loads(json.dumps(quick(name).as_json(), allow_nan=False))
    picture = tmp_path / "picture.svg"
    save(find(name), printed["figures"], picture)
    assert picture.stat().st_size < MOST_PICTURE_BYTES
    assert ElementTree.fromstring(picture.read_text()).tag.endswith("svg")


def test_there_are_no_others() -> None:
    with pytest.raises(KeyError):
        find("nothing")


def test_a_table_as_markdown() -> None:
    assert Table(("A", "B"), [["1", "2"]]).markdown() == "| A | B |\n| --- | --- |\n| 1 | 2 |\n"
