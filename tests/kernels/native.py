"""Builds and runs kernels/tests, the kernels' own test program: for this machine from the very
objects that the extension was linked from, for other processors and sanitizers from the sources.

Each build is made once a run of pytest. What cannot be built here skips the test, with the reason.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KERNELS = ROOT / "kernels"
OBJECTS = "kernel_objects.txt"
TIMEOUT_S = 900

Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Report:
    """What one run said of one instruction set. Equal seeds: equal digests, wherever it ran."""

    isa: str
    checks: int
    digest: str


def need(program: str) -> str:
    """The path of a program of the system, or a skipped test."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


def run(command: Sequence[str | Path], cwd: Path | None = None, **environment: str) -> Done:
    """Run a command to its end, whatever its status."""
    return subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def output(*command: str | Path) -> str:
    """What a command that succeeds prints."""
    done = run(command)
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_exports_only_kernels(path: Path, nm: str) -> None:
    """The linker must find nothing in an instruction set's object but what is named meshd_..."""
    symbols = [line.split() for line in output(need(nm), path).splitlines()]
    shared = [symbol[-1] for symbol in symbols if symbol[-2] in {"W", "V", "u", "w", "v"}]
    assert not shared, f"{path}: {shared}"
    ours = [symbol[-1] for symbol in symbols if symbol[-2] in {"T", "R", "D", "B"}]
    assert ours and all(name.startswith("meshd_") for name in ours), f"{path}: {ours}"


def shipped_objects() -> list[Path]:
    """The kernels' objects in the newest build of the extension under build/."""
    modules = [m for m in ROOT.glob("build/*/_kernels*") if m.with_name(OBJECTS).exists()]
    if not modules:
        pytest.skip("no build of the extension under build/: installed from elsewhere")
    newest = max(modules, key=lambda module: module.stat().st_mtime)
    return [Path(line) for line in newest.with_name(OBJECTS).read_text().split("\n") if line]


@functools.cache
def folder() -> Path:
    """Where this run's builds go; removed with the process."""
    keep = tempfile.TemporaryDirectory(prefix="meshd-kernels-")
    _kept.append(keep)
    return Path(keep.name)


_kept: list[tempfile.TemporaryDirectory[str]] = []


@functools.cache
def shipped() -> Path:
    """The test program of this machine, linked from the objects of the extension."""
    objects = shipped_objects()
    program = folder() / "shipped"
    sources = sorted((KERNELS / "tests").glob("*.cpp"))
    flags = ["-std=c++17", "-O1", "-I", KERNELS / "include", "-pthread"]
    done = run([need("c++"), *flags, *sources, *objects, "-o", program])
    assert done.returncode == 0, done.stderr
    return program


def built(name: str, **options: str) -> Path:
    """The test program from the sources, with CMake options."""
    return _built(name, tuple(options.items()))


@functools.cache
def _built(name: str, options: tuple[tuple[str, str], ...]) -> Path:
    cmake, build = need("cmake"), folder() / name
    defines = [f"-D{key}={value}" for key, value in options]
    targets = ["meshd_selftest"] + ["_kernels"] * (dict(options).get("MESHD_PYTHON") == "ON")
    for command in (
        [cmake, "-S", KERNELS, "-B", build, "-DMESHD_SELFTEST=ON", *defines],
        [cmake, "--build", build, f"-j{len(os.sched_getaffinity(0))}", "--target", *targets],
    ):
        done = run(command)
        assert done.returncode == 0, done.stdout + done.stderr
    return build / "meshd_selftest"


def reports(done: Done) -> list[Report]:
    """What a run said; fails the test when it found anything."""
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.findall(r"^isa (\w+): (\d+) checks, digest ([0-9a-f]{16})$", done.stdout, re.M)
    assert len(found) == len(done.stdout.splitlines()), done.stdout
    return [Report(isa, int(checks), digest) for isa, checks, digest in found]


@functools.cache
def native_digest(seed: int) -> str:
    """What every set and machine must give for this seed."""
    digests = {report.digest for report in reports(run([shipped(), "--seed", str(seed)]))}
    assert len(digests) == 1, digests
    return digests.pop()


def python_program() -> Path:
    """This interpreter itself, without the links of a virtual environment."""
    return Path(sys.executable).resolve()
