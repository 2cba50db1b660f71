"""`python -m meshd.reproduce.page docs`: the page that shows every experiment, made again.

Reads docs/pictures/NAME.json, what `meshd reproduce NAME --json` printed, draws NAME.svg beside it
and fills in what stands between `<!-- NAME -->` and `<!-- /NAME -->` in docs/reproduce.md.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from meshd.reproduce.catalogue import CATALOGUE, find
from meshd.reproduce.picture import save
from meshd.reproduce.result import Table

PAGE, PICTURES = "reproduce.md", "pictures"


def section(result: dict[str, Any]) -> str:
    """Command, picture, table and circumstances of one result, as Markdown."""
    name, made, table = result["experiment"], result["machine"], result["table"]
    files = f"docs/{PICTURES}/{name}"
    seeds = ", ".join(map(str, result["seeds"]))
    circumstances = [
        *([f"seeds {seeds}"] if seeds else []),
        str(made["processor"]),
        f"threads {made['threads']}",
        f"kernels {made['isa']}",
        f"torch {made['torch']}",
    ]
    lines = [
        f"> {result['claim']}",
        "",
        f"Found: {result['finding']}.",
        "```",
        f"meshd reproduce {name} --json --svg {files}.svg > {files}.json",
        "```",
        f"![{CATALOGUE[name].shows}]({PICTURES}/{name}.svg)",
        "",
        Table(table["titles"], table["rows"]).markdown(),
        *(f"- {note}" for note in result["notes"]),
        f"- {', '.join(circumstances)}",
    ]
    return "\n".join(lines) + "\n"


def filled(page: str, result: dict[str, Any]) -> str:
    """The page with this result's section; ValueError if it has no place for it."""
    start, end = (f"<!-- {mark}{result['experiment']} -->\n" for mark in ("", "/"))
    if start not in page or end not in page:
        raise ValueError(f"{PAGE} has no place {start.strip()}")
    before, rest = page.split(start, 1)
    return before + start + section(result) + end + rest.split(end, 1)[1]


def main() -> None:
    """Draw every picture and fill in every section that there is a result for."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m meshd.reproduce.page DOCS")
    docs = Path(sys.argv[1])
    page = (docs / PAGE).read_text()
    for name in CATALOGUE:
        found = docs / PICTURES / f"{name}.json"
        if found.exists():
            result = json.loads(found.read_text())
            save(find(name), result["figures"], found.with_suffix(".svg"))
            page = filled(page, result)
    (docs / PAGE).write_text(page)


if __name__ == "__main__":
    main()
