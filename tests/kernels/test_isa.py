"""Which instruction set runs: the forced one does, an unknown one is refused in words, and only the
objects of a set contain its instructions."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import native
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


def libraries() -> dict[str, list[Path]]:
    """The object files of each CMake target, of the builds that lie in build/."""
    found: dict[str, list[Path]] = {}
    for path in sorted(ROOT.glob("build/*/**/CMakeFiles/*.dir/**/*.o")):
        target = next(part for part in reversed(path.parts) if part.endswith(".dir"))
        found.setdefault(target.removesuffix(".dir"), []).append(path)
    return found


LIBRARIES = libraries()
# A folder of kernels is an instruction set's, and has its flags; so is what measures the set. All
# else is baseline code.
ISAS = sorted({path.parent.name for path in native.KERNELS.glob("*/*_table.cpp")} - {"scalar"})
OF_ISAS = sorted(
    LIBRARIES.keys() & {f"{part}_{isa}" for part in ("kernels", "bench") for isa in ISAS}
)
BASELINE = sorted(LIBRARIES.keys() - set(OF_ISAS))

needs_objects = pytest.mark.skipif(
    not LIBRARIES, reason="no objects under build/: installed from elsewhere"
)

# AVX and later: a wide register or a mask, or a three-operand instruction of the v... family; and
# the scalar ones that came with them or before (not tzcnt, which old processors run as bsf).
BEYOND_BASELINE = re.compile(
    r"%[yz]mm\d|%k[0-7]\b|\tv[a-z]\w+ .*%xmm|\tv(zeroupper|zeroall)\b"
    r"|\t(popcnt|lzcnt|andn|bextr|bls[ir]|blsmsk|bzhi|mulx|pdep|pext|rorx|sarx|shlx|shrx)[lq]?\b"
)


def disassembled(path: Path) -> str:
    return native.output(native.need("objdump"), "-d", "--no-show-raw-insn", path)


@needs_objects
def test_the_baseline_is_all_but_the_sets() -> None:
    assert {"kernels_scalar", "kernels_dispatch", "_kernels"} <= set(BASELINE)


@needs_objects
@pytest.mark.parametrize("library", BASELINE)
def test_baseline_objects_hold_baseline_instructions(library: str) -> None:
    for path in LIBRARIES[library]:
        code = disassembled(path)
        found = [line for line in code.splitlines() if BEYOND_BASELINE.search(line)]
        assert not found, f"{path}: {found[:3]}"


@pytest.mark.parametrize("library", [name for name in OF_ISAS if not name.endswith("neon")])
def test_the_pattern_sees_the_instructions_of_a_set(library: str) -> None:
    """The check above can fail: it finds what it looks for where it must be."""
    for path in LIBRARIES[library]:
        assert BEYOND_BASELINE.search(disassembled(path)), path


@pytest.mark.parametrize("library", OF_ISAS)
def test_objects_of_a_set_share_no_function_with_the_linker(library: str) -> None:
    """A weak (inline, template) function could replace the baseline's: these objects have none."""
    for path in LIBRARIES[library]:
        native.assert_exports_only_kernels(path, "nm")
