"""Which instruction set runs: the forced one does, an unknown one is refused in words, and only the
objects of a set contain its instructions."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from meshd.bits import ops

ROOT = Path(__file__).resolve().parents[2]

# Prints the set in use, and the bits of one row that it packed.
PROGRAM = """
import numpy as np
from meshd.bits import ops
words, _ = ops.pack_signed(np.linspace(-1, 1, 100, dtype=np.float32)[None], 16)
print(ops.isa(), words.tolist())
"""


def run(forced: str | None) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "MESHD_FORCE_ISA"}
    if forced is not None:
        environment["MESHD_FORCE_ISA"] = forced
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_scalar_is_always_there_and_last() -> None:
    assert ops.list_isas()[-1] == "scalar"


@pytest.mark.parametrize("forced", ops.list_isas())
def test_the_forced_set_runs(forced: str) -> None:
    done = run(forced)
    assert done.returncode == 0, done.stderr
    name, bits = done.stdout.split(maxsplit=1)
    assert name == forced
    assert bits.strip() == str([[2**64 - 2**50, 2**36 - 1]])


@pytest.mark.parametrize("unset", [None, ""])
def test_without_force_the_fastest_runs(unset: str | None) -> None:
    assert run(unset).stdout.split()[0] == ops.list_isas()[0]


@pytest.mark.parametrize("unknown", ["sse9", "AVX2", "scalar "])
def test_an_unknown_set_is_refused_on_import(unknown: str) -> None:
    done = run(unknown)
    assert done.returncode == 1, "an error, not a crash"
    last = done.stderr.strip().splitlines()[-1]
    assert last == (
        f"ImportError: MESHD_FORCE_ISA: instruction set '{unknown}' is not in this build: "
        f"choose one of {', '.join(ops.list_isas())}"
    )


def test_use_isa_refuses_and_changes_nothing() -> None:
    before = ops.isa()
    with pytest.raises(ValueError, match="instruction set 'sse9' is not in this build"):
        ops.use_isa("sse9")
    assert ops.isa() == before


def objects(library: str) -> list[Path]:
    """The object files of one of the CMake libraries, of the builds that lie in build/."""
    found = sorted(ROOT.glob(f"build/*/CMakeFiles/{library}.dir/**/*.o"))
    if not found:
        pytest.skip(f"no objects of {library} under build/: built elsewhere, or not for x86-64")
    return found


def tool(name: str, *arguments: str | Path) -> str:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    done = subprocess.run([name, *arguments], capture_output=True, text=True, check=True)
    return done.stdout


# AVX and later: a wide register, or a three-operand instruction of the v... family; and popcnt.
BEYOND_BASELINE = re.compile(r"%[yz]mm\d|\tv[a-z]\w+ .*%xmm|\tv(zeroupper|zeroall)\b|\tpopcnt")


@pytest.mark.parametrize("library", ["kernels_scalar", "kernels_dispatch", "_kernels"])
def test_baseline_objects_hold_baseline_instructions(library: str) -> None:
    for path in objects(library):
        code = tool("objdump", "-d", "--no-show-raw-insn", path)
        found = [line for line in code.splitlines() if BEYOND_BASELINE.search(line)]
        assert not found, f"{path}: {found[:3]}"


def test_the_pattern_sees_avx2() -> None:
    """The check above can fail: it finds what it looks for where it must be."""
    for path in objects("kernels_avx2"):
        assert BEYOND_BASELINE.search(tool("objdump", "-d", "--no-show-raw-insn", path)), path


def test_isa_objects_share_no_function_with_the_linker() -> None:
    """A weak (inline, template) function could replace the baseline's: ISA objects have none."""
    for path in objects("kernels_avx2"):
        symbols = [line.split() for line in tool("nm", path).splitlines()]
        shared = [s[-1] for s in symbols if s[-2] in {"W", "V", "u", "w", "v"}]
        assert not shared, f"{path}: {shared}"
        ours = [s[-1] for s in symbols if s[-2] == "T"]
        assert ours and all(name.startswith("meshd_") for name in ours), f"{path}: {ours}"
