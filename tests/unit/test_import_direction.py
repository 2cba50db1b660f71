"""Who may import whom. Read from the source, function-level imports included; what is not listed
is forbidden. `docs/architecture.md` draws the same table."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Package -> (parts of meshd, third-party libraries) that it may import besides itself, the standard
# library and meshd's version. A package within another may have a law of its own.
LAW: dict[str, tuple[set[str], set[str]]] = {
    "core": (set(), set()),
    "lab": ({"core.errors"}, set()),
    "wire": ({"core"}, {"msgpack"}),
    "net": ({"wire", "core"}, {"zmq", "zeroconf", "ifaddr"}),
    "sensors": ({"core"}, set()),
    "daemon": ({"core", "wire", "net", "sensors"}, set()),
    "bits": (set(), {"numpy"}),
    "hbnn.runtime": (
        {"bits", "core.network", "core.errors"},
        {"numpy", "safetensors", "onnx"},
    ),
    "hbnn": (
        {"bits", "core.network", "core.jobspec", "core.errors"},
        {"numpy", "torch", "safetensors"},
    ),
    "data": ({"core"}, {"numpy", "PIL"}),
    "train": (
        {"hbnn", "bits", "core", "data"},
        {"numpy", "torch", "safetensors", "sklearn", "tensorboardX", "zstandard"},
    ),
    "worker": ({"core", "wire", "net", "bits", "hbnn", "data", "train"}, {"numpy", "torch"}),
    "bench.ring": (
        {"bench", "core", "hbnn", "lab", "net", "train", "wire", "worker"},
        {"numpy", "torch"},
    ),
    "bench": ({"bits", "hbnn"}, {"numpy", "torch", "matplotlib"}),
    "reproduce": (
        {"core", "bits", "hbnn", "data", "train", "bench"},
        {"numpy", "torch", "matplotlib"},
    ),
    "cli": (
        {"net.local", "bench", "data", "hbnn.runtime", "reproduce", "train"},
        {"click", "rich"},
    ),
}

# The standard library's clocks, chance, files and sockets: `core` gets all of these from outside.
IMPURE = {
    *("asyncio", "concurrent", "multiprocessing", "selectors", "signal", "subprocess", "threading"),
    *("http", "io", "os", "pathlib", "shutil", "socket", "ssl", "sys", "tempfile", "urllib"),
    *("datetime", "logging", "secrets", "time", "uuid"),
}
# Loading these kinds of file runs what is in it.
UNSAFE = {"marshal", "pickle", "shelve"}
# The one place that loads modules by name, so that `meshd --help` loads no command.
LOADS_BY_NAME = {"meshd/cli/main.py"}


@dataclass(frozen=True)
class Import:
    """One import statement. `target` is dotted and absolute: `meshd.core.ring`, `random.Random`."""

    line: int
    target: str


def imports(tree: ast.AST, module: str) -> Iterator[Import]:
    """Every import in a file, relative ones resolved against `module`'s package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield Import(node.lineno, name.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")[: -node.level]
                base = ".".join([*parents, base] if base else parents)
            for name in node.names:
                yield Import(node.lineno, f"{base}.{name.name}")


def within(target: str, part: str) -> bool:
    """Whether `target` is `part` or lies below it."""
    return target == part or target.startswith(part + ".")


def offence(target: str, package: str) -> str | None:
    """Why `package` may not import `target`; None if it may."""
    parts, libraries = LAW[package]
    top = target.split(".")[0]
    if top in UNSAFE:
        return f"{top} runs what it reads"
    if top == "meshd":
        if target in {"meshd", "meshd.__version__"}:
            return None  # `import meshd` alone gives the version and no part
        if any(within(target, f"meshd.{part}") for part in {package, *parts}):
            return None
        return f"{package} may import of meshd only: {', '.join(sorted(parts)) or 'nothing'}"
    if top in sys.stdlib_module_names:
        return f"{package} is pure" if package == "core" and top in IMPURE else None
    if top in libraries:
        return None
    return f"{package} may import of other libraries: {', '.join(sorted(libraries)) or 'none'}"


def other_offences(tree: ast.AST, path: str, package: str) -> Iterator[tuple[int, str]]:
    """What import statements do not show: loading by name, and chance from the global generator."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            dotted = f"{node.value.id}.{node.attr}"
            if package == "core" and node.value.id == "random" and node.attr != "Random":
                yield node.lineno, f"{dotted}: core gets its generator from outside"
            if dotted == "importlib.import_module" and path not in LOADS_BY_NAME:
                yield node.lineno, f"{dotted}: hides an import from this test"
        elif isinstance(node, ast.Name) and node.id in {"__import__", "eval", "exec"}:
            yield node.lineno, f"{node.id}: hides an import from this test"


def check(source: str, path: str) -> list[str]:
    """All offences of one file, as `path:line: why`."""
    tree = ast.parse(source)
    module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    found: list[tuple[int, str]] = []
    if path == "meshd/__init__.py":
        found += [
            (i.line, f"{i.target}: meshd itself imports nothing")
            for i in imports(tree, module)
            if not within(i.target, "__future__")
        ]
    else:
        top, inner, *_ = [*module.split(".")[1:], ""]
        package = f"{top}.{inner}" if f"{top}.{inner}" in LAW else top
        if package not in LAW:
            return [f"{path}:1: {package} is not on the map; give it a place in the law"]
        # A package's __init__ is its own parent: relative imports count from one level deeper.
        inside = module + ".__init__" if path.endswith("/__init__.py") else module
        for one in imports(tree, inside):
            why = offence(one.target, package)
            if (
                one.target.startswith("random.")
                and package == "core"
                and one.target[7:] != "Random"
            ):
                why = "core gets its generator from outside"
            if why:
                found.append((one.line, f"{one.target}: {why}"))
        found += other_offences(tree, path, package)
    return [f"{path}:{line}: {why}" for line, why in sorted(found)]


def source_files() -> list[Path]:
    return sorted((ROOT / "meshd").rglob("*.py"))


def test_every_import_goes_down() -> None:
    files = source_files()
    assert len(files) > 20, f"no source under {ROOT}"
    offences = [
        line for file in files for line in check(file.read_text(), str(file.relative_to(ROOT)))
    ]
    assert not offences, "\n" + "\n".join(offences)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("meshd/core/a.py", "import asyncio"),
        ("meshd/core/a.py", "def f():\n    from time import monotonic"),
        ("meshd/core/a.py", "import random\nrandom.shuffle([])"),
        ("meshd/core/a.py", "from random import choice"),
        ("meshd/core/a.py", "import numpy"),
        ("meshd/core/a.py", "from ..wire import codec"),
        ("meshd/core/a.py", "from meshd import wire"),
        ("meshd/core/__init__.py", "from ..wire import codec"),
        ("meshd/cli/a.py", "from meshd.net import control"),
        ("meshd/cli/a.py", "from meshd.net.localhost import x"),
        ("meshd/cli/a.py", "from meshd.core.errors import UsageError"),
        ("meshd/cli/a.py", "import importlib\nimportlib.import_module('torch')"),
        ("meshd/daemon/a.py", "def f():\n    import torch"),
        ("meshd/daemon/a.py", "from meshd.worker import loop"),
        ("meshd/train/a.py", "import meshd.net.bulk"),
        ("meshd/hbnn/a.py", "from meshd.core.types import Step"),
        ("meshd/data/a.py", "from meshd.hbnn.binarize import sign"),
        ("meshd/daemon/a.py", "from meshd.data.load import load_dataset"),
        ("meshd/hbnn/runtime/a.py", "import torch"),
        ("meshd/hbnn/runtime/a.py", "from meshd.hbnn.binarize import hadamard"),
        ("meshd/hbnn/runtime/__init__.py", "from meshd.hbnn import linear"),
        ("meshd/worker/a.py", "import pickle"),
        ("meshd/worker/a.py", "from meshd.bench import ceilings"),
        ("meshd/bench/a.py", "from meshd.net.local import call"),
        ("meshd/bench/ring/a.py", "from meshd.daemon.app import run"),
        ("meshd/worker/a.py", "__import__('os')"),
        ("meshd/elsewhere/a.py", "import os"),
        ("meshd/__init__.py", "import os"),
    ],
)
def test_the_law_has_teeth(path: str, source: str) -> None:
    assert check(source, path)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("meshd/core/a.py", "import random\nimport math\ndef f(r: random.Random): ..."),
        ("meshd/core/__init__.py", "from .types import Step"),
        ("meshd/cli/a.py", "from meshd.net.local import call\nfrom meshd import __version__"),
        ("meshd/cli/a.py", "import click, os\nfrom . import client"),
        ("meshd/daemon/a.py", "import asyncio\nfrom meshd.net.control import ControlLinks"),
        ("meshd/daemon/a.py", "import meshd\nprint(meshd.__version__)"),
        ("meshd/hbnn/runtime/a.py", "from meshd.core.network.graph import resolve"),
        ("meshd/hbnn/runtime/__init__.py", "from meshd.hbnn.runtime.model import load"),
        ("meshd/worker/a.py", "import torch\nfrom meshd.train import loop"),
        ("meshd/__init__.py", "from __future__ import annotations"),
    ],
)
def test_the_law_allows_what_is_listed(path: str, source: str) -> None:
    assert check(source, path) == []
