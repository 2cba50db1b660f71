"""The demo's job, `digits.toml` beside this file, and what is derived from it."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

JOB_FILE = Path(__file__).with_name("digits.toml")

Table = dict[str, Any]


def ring_job(members: int) -> str:
    """The job for exactly so many members, as TOML."""
    job = _load()
    job["mesh"] = {**job["mesh"], "members_min": members, "members_max": members}
    return to_toml(job)


def reference_job() -> str:
    """The same network and training in one process with float32 exchange, as TOML."""
    job = _load()
    job["name"] += "-float32"
    job["exchange"] = {**job["exchange"], "kind": "float32"}
    job["mesh"] = {**job["mesh"], "members_min": 1, "members_max": 1}
    return to_toml(job)


def _load() -> Table:
    return tomllib.loads(JOB_FILE.read_text(encoding="utf-8"))


def to_toml(table: Table) -> str:
    """Write a job's two levels as TOML; the standard library only reads it.

    Strings, whole numbers and floats of these files are written alike in JSON and TOML.
    """
    plain = {key: value for key, value in table.items() if not isinstance(value, dict)}
    lines = _lines(plain)
    for name, part in table.items():
        if isinstance(part, dict):
            lines += ["", f"[{name}]", *_lines(part)]
    return "\n".join(lines) + "\n"


def _lines(table: Table) -> list[str]:
    return [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in table.items()]
