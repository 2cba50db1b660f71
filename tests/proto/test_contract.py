"""The contract `proto/messages.toml` against the dataclasses and the codec's table."""

from __future__ import annotations

import dataclasses
import inspect
import re
import tomllib
import typing
from pathlib import Path
from typing import Any

import pytest

from meshd.core import messages
from meshd.wire import limits
from meshd.wire.codec import frame_limit
from meshd.wire.kinds import SHAPES
from meshd.wire.schema import LIMITS, NUMBERS, Family, record

PROTO = Path(__file__).resolve().parents[2] / "proto"
CONTRACT: dict[str, Any] = tomllib.loads((PROTO / "messages.toml").read_text())
NUMBER_OF = {cls.__name__: number for number, cls in NUMBERS.items()}


def parts() -> dict[str, type[Any]]:
    """All dataclasses of the messages module that are no messages themselves."""
    found = inspect.getmembers(messages, dataclasses.is_dataclass)
    return {n: c for n, c in found if c.__module__ == messages.__name__ and n not in NUMBER_OF}


def test_the_contract_lists_every_message_and_part_and_no_others() -> None:
    assert CONTRACT["message"].keys() == NUMBER_OF.keys()
    inner = {
        hint.__name__
        for cls in [*NUMBERS.values(), *parts().values()]
        for field in typing.get_type_hints(cls).values()
        for hint in (typing.get_args(field) or (field,))
        if dataclasses.is_dataclass(hint)
    }
    assert CONTRACT["part"].keys() == inner == parts().keys()


@pytest.mark.parametrize("name", NUMBER_OF)
def test_message_is_as_the_contract_says(name: str) -> None:
    entry = CONTRACT["message"][name]
    number = NUMBER_OF[name]
    assert entry["number"] == number
    links = {entry["link"], entry.get("also", entry["link"])}
    assert links == {family.name.lower() for family in Family if number in family.value}
    assert entry["max_bytes"] == frame_limit(number) <= limits.MAX_CONTROL_FRAME_BYTES
    assert 1 <= entry["since"] <= CONTRACT["protocol"]
    check_fields(NUMBERS[number], entry["fields"])


@pytest.mark.parametrize("name", parts())
def test_part_is_as_the_contract_says(name: str) -> None:
    check_fields(parts()[name], CONTRACT["part"][name])


def check_fields(cls: type[Any], entries: dict[str, Any]) -> None:
    assert list(entries) == [f.name for f in dataclasses.fields(cls)]
    for name, kind in record(cls).fields.items():
        entry = dict(entries[name])
        assert 1 <= entry.pop("since") <= CONTRACT["protocol"]
        assert kind.describe() == entry, f"{cls.__name__}.{name}"
        assert entry["type"] == wire_type(typing.get_type_hints(cls)[name]), name


def wire_type(annotation: Any) -> str:
    """The contract's word for a Python annotation, found without the codec."""
    while hasattr(annotation, "__supertype__"):
        annotation = annotation.__supertype__
    if typing.get_origin(annotation) is tuple:
        return "array"
    return str(annotation.__name__)


def test_numbers_are_unique_in_the_contract() -> None:
    numbers = [entry["number"] for entry in CONTRACT["message"].values()]
    assert len(set(numbers)) == len(numbers)


def test_the_changelog_gives_every_number_to_one_message() -> None:
    named = re.findall(r"\b([A-Z][A-Za-z]+) (\d+)\b", (PROTO / "CHANGELOG.md").read_text())
    by_number: dict[int, set[str]] = {}
    for name, number in named:
        by_number.setdefault(int(number), set()).add(name)
    assert all(len(names) == 1 for names in by_number.values()), "a number was used again"
    for name, number in NUMBER_OF.items():
        assert by_number.get(number) == {name}, f"{name} {number} is missing in the changelog"


def test_versions_agree() -> None:
    assert CONTRACT["protocol"] == limits.PROTOCOL
    assert f"version {limits.PROTOCOL}" in (PROTO / "README.md").read_text().splitlines()[0]
    assert f"\n## {limits.PROTOCOL}\n" in (PROTO / "CHANGELOG.md").read_text()


def test_every_shape_is_told_in_the_readme() -> None:
    readme = (PROTO / "README.md").read_text()
    for shape in SHAPES:
        assert re.search(rf"^\|[^|]*`{shape}`", readme, re.MULTILINE), shape


def test_no_limit_is_for_a_field_that_is_gone() -> None:
    for cls, name in LIMITS:
        assert name in {f.name for f in dataclasses.fields(cls)}, f"{cls.__name__}.{name}"
