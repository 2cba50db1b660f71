"""Tables of settings: every key known, every number bounded, every word out of a fixed set.

A table is described by a frozen dataclass whose fields carry their bounds or choices (`bounded`,
`choice`, `flag`); `parse_table` checks a dict against it. The type of a number follows the field's
default. Errors are one line that names the key by its path.
"""

from __future__ import annotations

import dataclasses
from dataclasses import field
from typing import Any, TypeVar

from meshd.core.errors import UsageError

Table = TypeVar("Table")


def bounded(default: int | float, low: int | float, high: int | float, about: str) -> Any:
    """A number with its bounds, low <= value <= high."""
    return field(default=default, metadata={"low": low, "high": high, "about": about})


def choice(default: str, *others: str, about: str) -> Any:
    """A word out of a fixed set."""
    return field(default=default, metadata={"choices": (default, *others), "about": about})


def flag(default: bool, about: str) -> Any:
    """true or false."""
    return field(default=default, metadata={"flag": True, "about": about})


def parse_table(table: dict[str, Any], kind: type[Table], path: str) -> Table:
    """Build `kind` from a table whose keys are its fields; `path` names the table in errors.

    Raises:
        UsageError: unknown key, wrong type, out of bounds.
    """
    fields = {f.name: f for f in dataclasses.fields(kind) if f.metadata}  # type: ignore[arg-type]
    refuse_unknown(table, set(fields), f"{path}.")
    values = {key: _parse_value(v, fields[key], f"{path}.{key}") for key, v in table.items()}
    return kind(**values)


def refuse_unknown(table: dict[str, Any], known: set[str], prefix: str) -> None:
    """Raise UsageError for the first key, in order, that is not known."""
    unknown = sorted(str(key) for key in table if key not in known)
    if unknown:
        raise UsageError(
            f"job file: {prefix}{unknown[0]}: unknown key; known here: {', '.join(sorted(known))}"
        )


def _parse_value(value: Any, spec: dataclasses.Field[Any], path: str) -> Any:
    """One value against its field's bounds or choices."""
    if "choices" in spec.metadata:
        choices = spec.metadata["choices"]
        if not isinstance(value, str) or value not in choices:
            raise UsageError(f"job file: {path}: must be one of {', '.join(choices)}")
        return value
    if "flag" in spec.metadata:
        if not isinstance(value, bool):
            raise UsageError(f"job file: {path}: must be true or false")
        return value
    low, high = spec.metadata["low"], spec.metadata["high"]
    whole = isinstance(spec.default, int)
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise UsageError(f"job file: {path}: must be a {'whole ' if whole else ''}number")
    if not low <= value <= high:  # NaN is not, either
        told = str(value) if abs(value) < 1e20 or value != value else "the number"
        raise UsageError(f"job file: {path}: {told} is out of bounds, {low} to {high}")
    return value if whole else float(value)
