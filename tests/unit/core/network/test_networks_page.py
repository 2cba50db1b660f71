"""docs/networks.md says what core does: its tables and layer lists are made here.

`python tests/unit/core/network/test_networks_page.py` writes them anew; read the difference before
you commit it.
"""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from pathlib import Path

from meshd.core.jobspec import parse_network_toml, parse_toml
from meshd.core.network.graph import Network, resolve
from meshd.core.network.layers import KINDS, Binary, Residual, Window, layer_table
from meshd.core.network.presets import preset_layers
from meshd.core.network.spec import (
    LAYERS,
    PRESETS,
    NetworkDescription,
    NetworkSpec,
    parse_network,
)

ROOT = Path(__file__).resolve().parents[4]
PAGE = ROOT / "docs" / "networks.md"
EXAMPLES = sorted((ROOT / "examples").glob("*.toml"))

# What each preset is shown on, and what an example is tried on: input, classes.
MNIST, CIFAR = ((1, 28, 28), 10), ((3, 32, 32), 10)
SHOWN = {"seed": ((784,), 10), "lenet": MNIST, "convnet": MNIST}
EXAMPLE_DATA = {"digits": ((1, 8, 8), 10), "alexnet-cifar": CIFAR, "resnet18-cifar": CIFAR}


def bounds(spec: dataclasses.Field) -> str:
    if "choices" in spec.metadata:
        return ", ".join(f'"{word}"' for word in spec.metadata["choices"])
    if "flag" in spec.metadata:
        return "true, false"
    return f"{spec.metadata['low']:,} to {spec.metadata['high']:,}"


def default(spec: dataclasses.Field) -> str:
    return "[network]'s" if spec.default == -1 else f"`{json.dumps(spec.default)}`"


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def keys(kind: type, without: tuple[type, ...] = ()) -> list[str]:
    known = {f.name for other in without for f in dataclasses.fields(other)}
    return [
        f"| `{f.name}` | {default(f)} | {bounds(f)} | {cell(f.metadata['about'])} |"
        for f in dataclasses.fields(kind)
        if f.metadata and f.name not in known
    ]


def key_table(kind: type) -> list[str]:
    return ["| key | if left out | values | meaning |", "|---|---|---|---|", *keys(kind)]


def layers() -> list[str]:
    lines = ["| layer | keys | what it does |", "|---|---|---|"]
    for name, kind in KINDS.items():
        shared = [k for k in (Binary, Window) if issubclass(kind, k)]
        own = [f.name for f in dataclasses.fields(kind)]
        if Binary in shared:
            own = [n for n in own if n not in {f.name for f in dataclasses.fields(Binary)}]
        words = [f"`{n}`" for n in own] + (["those of binary layers"] if Binary in shared else [])
        text = " ".join((kind.__doc__ or "").split())
        lines.append(f"| `{name}` | {', '.join(words)} | {text} |")
    return lines


def other_keys() -> list[str]:
    """What layers other than binary ones take."""
    lines = ["| layer | key | if left out | values | meaning |", "|---|---|---|---|---|"]
    for name, kind in KINDS.items():
        if kind is not Residual and dataclasses.fields(kind):
            skip = (Binary,) if issubclass(kind, Binary) else ()
            lines += [f"| `{name}` {line}" for line in keys(kind, skip)]
    return lines


def inline(table: dict) -> str:
    """A layer as a job file has it."""
    parts = []
    for key, value in table.items():
        if isinstance(value, list):
            value = f"[{', '.join(inline(part) for part in value)}]"
        else:
            value = json.dumps(value)
        parts.append(f"{key} = {value}")
    return f"{{ {', '.join(parts)} }}"


def described(preset: str) -> Network:
    shape, classes = SHOWN.get(preset, CIFAR)
    return resolve(NetworkDescription(parse_network({"preset": preset}), shape, classes))


def preset_lists() -> list[str]:
    lines = []
    for preset in PRESETS:
        network = described(preset)
        size = sum(p.size for p in network.parameters())
        bits = sum(p.size for p in network.parameters() if p.kind == "binary")
        shape = network.description.input
        lines += [
            f"**{preset}**, for samples of {shape}: {size:,} parameters, {bits:,} of one bit.",
            "```toml",
            "layers = [",
        ]
        spec = network.description.spec
        lines += [f"    {inline(layer_table(la))}," for la in preset_layers(spec, shape)]
        lines += ["]", "```", ""]
    return lines[:-1]


PARTS = {
    "network": lambda: key_table(NetworkSpec),
    "layers": layers,
    "binary keys": lambda: key_table(Binary),
    "keys": other_keys,
    "presets": preset_lists,
}


def filled(text: str) -> str:
    """The page with every part between its marks made anew."""
    for name, make in PARTS.items():
        mark = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        body = "\n".join([*make(), ""])
        text, count = mark.subn(lambda m, body=body: m[1] + body + m[2], text)
        assert count == 1, f"docs/networks.md has no part {name!r}"
    return text


def test_the_page_says_what_core_does() -> None:
    text = PAGE.read_text()
    assert text == filled(text), "docs/networks.md is out of date: run this file to write it anew"


def test_every_layer_list_on_the_page_is_a_network() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    lists = [block for block in blocks if block.startswith("layers")]
    assert len(lists) == len(PRESETS)
    for preset, block in zip(PRESETS, lists, strict=True):
        shown = described(preset)
        spec = parse_network(tomllib.loads(block))
        description = NetworkDescription(spec, *SHOWN.get(preset, CIFAR))
        assert resolve(description).nodes == shown.nodes
    for block in (b for b in blocks if "[network]" in b):
        assert parse_network_toml(block).preset == LAYERS


def test_every_example_is_a_job_whose_network_fits_its_data() -> None:
    assert len(EXAMPLES) >= 6
    for path in EXAMPLES:
        spec = parse_toml(path.read_text())
        assert spec.name == path.stem
        shape, classes = EXAMPLE_DATA.get(spec.name, MNIST)
        assert resolve(NetworkDescription(spec.network, shape, classes)).parameters()


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
