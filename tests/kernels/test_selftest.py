"""The kernels' own test program on this machine, linked from the objects of the extension: each set
gives the scalar set's bits, and touches nothing but its arrays. It also sees what it looks for."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

import native
import pytest

from meshd.bits import ops

SLOT = re.compile(r'^ *\{"(\w+\.\w+)", ', re.M)
SLOTS = [
    s for f in sorted((native.KERNELS / "tests").glob("*.cpp")) for s in SLOT.findall(f.read_text())
]


@pytest.mark.parametrize("arrays", ["heap", "pages"])
def test_every_set_gives_the_scalar_bits(arrays: str) -> None:
    seed = str(secrets.randbits(32))
    reports = native.reports(native.run([native.shipped(), "--seed", seed, "--arrays", arrays]))
    assert [report.isa for report in reports] == ops.list_isas()
    assert len({report.digest for report in reports}) == 1, reports
    assert min(report.checks for report in reports) > 1000


def test_the_seed_decides_the_digest() -> None:
    assert native.native_digest(1) == native.native_digest(1) != native.native_digest(2)


def test_there_are_slots() -> None:
    assert "stream.pack_signed" in SLOTS and "product.signed" in SLOTS


@pytest.mark.parametrize("slot", SLOTS)
def test_a_wrong_bit_is_seen(slot: str) -> None:
    """One bit of what the slot wrote is turned: the line names set, kernel, shape and seed."""
    done = native.run([native.shipped(), "--spoil", slot, "--seed", "7"])
    assert done.returncode == 1
    first = ops.list_isas()[0]
    assert re.match(rf"^{first} {slot}: .*=\d+ arrays=heap seed=7: .*scalar kernel", done.stdout)


@pytest.mark.parametrize("fault", ["behind", "before"])
def test_a_byte_too_far_is_seen(fault: str) -> None:
    done = native.run([native.shipped(), "--arrays", "pages", "--fault", fault])
    assert done.returncode == 128 + 11 and "ended by a signal" in done.stdout


@pytest.mark.parametrize("wrong", [["--isa", "sse9"], ["--seed"], ["--fast", "1"]])
def test_wrong_arguments_are_refused(wrong: list[str]) -> None:
    assert native.run([native.shipped(), *wrong]).returncode == 2


def test_the_program_is_of_shipped_objects() -> None:
    assert all(isinstance(path, Path) and path.exists() for path in native.shipped_objects())
