"""docs/reproduce.md shows every experiment, and shows what the commands gave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from meshd.reproduce.catalogue import CATALOGUE, find
from meshd.reproduce.page import filled, section
from meshd.reproduce.picture import save

DOCS = Path(__file__).resolve().parents[3] / "docs"
MOST_PICTURE_BYTES = 150_000


def result_of(name: str) -> dict[str, Any]:
    return json.loads((DOCS / "pictures" / f"{name}.json").read_text())


def words(picture: Path) -> list[str]:
    """Everything that is written in it: ticks, labels, figures."""
    texts = ElementTree.parse(picture).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(text.itertext()) for text in texts]


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_page_says_what_the_command_printed(name: str) -> None:
    result = result_of(name)
    assert result["experiment"] == name and result["quick"] is False
    assert (
        f"<!-- {name} -->\n{section(result)}<!-- /{name} -->" in (DOCS / "reproduce.md").read_text()
    )


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_picture_is_the_commands(name: str, tmp_path: Path) -> None:
    shown, drawn = DOCS / "pictures" / f"{name}.svg", tmp_path / "drawn.svg"
    assert shown.stat().st_size < MOST_PICTURE_BYTES
    save(find(name), result_of(name)["figures"], drawn)
    assert words(shown) == words(drawn)


def test_a_section_is_replaced_and_the_rest_stays() -> None:
    result = result_of("angle")
    page = "before\n<!-- angle -->\nold\n<!-- /angle -->\nafter\n"
    once = filled(page, result)
    assert once.startswith("before\n") and once.endswith("after\n") and "old" not in once
    assert filled(once, result) == once


def test_a_page_without_a_place_is_refused() -> None:
    with pytest.raises(ValueError, match="no place"):
        filled("nothing", result_of("angle"))
