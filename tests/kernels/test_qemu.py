"""Other processors, under emulators: an old one runs no instruction that it has not, and every set
of every architecture gives the same bits."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import native
import pytest

SEED = 20_261_123

X86 = {"Nehalem": ["scalar"], "Haswell": ["avx2", "scalar"]}
ILLEGAL = -4, 132  # SIGILL, as the emulator ends or as the program reports it

SESSION = """
import numpy as np
from meshd.bits import ops
x = np.linspace(-1, 1, 300, dtype=np.float32).reshape(3, 100)
packed = ops.pack_signed(x, 16)
print(ops.isa(), *ops.list_isas(), packed[0].tolist())
assert ops.product_signed(*packed, 16, *packed, 16, 100).shape == (3, 3)
"""


def emulated_x86(processor: str, *command: object, **environment: str) -> native.Done:
    emulator = native.need("qemu-x86_64")
    return native.run([emulator, "-cpu", processor, *map(str, command)], **environment)


def arm() -> Path:
    """The test program for 64-bit Arm."""
    return native.built(
        "aarch64",
        MESHD_PYTHON="OFF",
        CMAKE_SYSTEM_NAME="Linux",
        CMAKE_SYSTEM_PROCESSOR="aarch64",
        CMAKE_CXX_COMPILER=native.need("aarch64-linux-gnu-g++"),
    )


def emulated_arm(processor: str, *arguments: str) -> native.Done:
    emulator = native.need("qemu-aarch64")
    root = ["-L", "/usr/aarch64-linux-gnu"]
    return native.run([emulator, *root, "-cpu", processor, arm(), *arguments])


@pytest.mark.parametrize("processor", X86)
def test_an_old_x86_runs_what_it_has(processor: str) -> None:
    """Its fastest set: the others run on older ones, and the session below lists them."""
    # No guard pages here: qemu 7.2 reads all of a masked load's lanes, which no processor does.
    fastest = X86[processor][0]
    done = emulated_x86(processor, native.shipped(), "--seed", SEED, "--isa", fastest)
    (report,) = native.reports(done)
    assert report.isa == fastest and report.digest == native.native_digest(SEED)


@pytest.mark.parametrize(("processor", "has"), [("Conroe", 0), ("Nehalem", 1), ("Haswell", 2)])
def test_the_emulator_refuses_what_an_old_x86_has_not(processor: str, has: int) -> None:
    """Without this the tests above could not fail."""
    instructions = ["popcnt", "avx2", "avx512"]
    for known, instruction in enumerate(instructions):
        done = emulated_x86(processor, native.shipped(), "--fault", instruction)
        assert done.returncode in ((0,) if known < has else ILLEGAL), instruction


def test_a_set_that_the_processor_has_not_is_refused() -> None:
    assert emulated_x86("Nehalem", native.shipped(), "--isa", "avx2").returncode == 2


@pytest.mark.parametrize("processor", ["Nehalem", "Haswell"])
def test_python_on_an_old_x86(processor: str) -> None:
    """The extension loads, chooses its set, and packs and multiplies."""
    path = os.pathsep.join(filter(None, sys.path))
    done = emulated_x86(processor, native.python_program(), "-c", SESSION, PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    sets = X86[processor]
    assert done.stdout.startswith(" ".join([sets[0], *sets, "[["])), done.stdout


@pytest.mark.parametrize(
    ("processor", "arguments", "sets"),
    [
        ("cortex-a72", ["--arrays", "heap"], ["neon", "scalar"]),
        ("max", ["--arrays", "pages", "--isa", "neon"], ["neon"]),
    ],
)
def test_arm_gives_the_same_bits(processor: str, arguments: list[str], sets: list[str]) -> None:
    reports = native.reports(emulated_arm(processor, "--seed", str(SEED), *arguments))
    assert [report.isa for report in reports] == sets
    assert {report.digest for report in reports} == {native.native_digest(SEED)}


@pytest.mark.parametrize("fault", ["behind", "before"])
def test_a_byte_too_far_is_seen_on_arm(fault: str) -> None:
    done = emulated_arm("max", "--arrays", "pages", "--fault", fault)
    assert done.returncode == 128 + 11, done.stdout + done.stderr


def test_objects_for_arm_share_no_function_with_the_linker() -> None:
    objects = sorted(arm().parent.glob("CMakeFiles/kernels_neon.dir/**/*.o"))
    assert objects
    for path in objects:
        native.assert_exports_only_kernels(path, "aarch64-linux-gnu-nm")
