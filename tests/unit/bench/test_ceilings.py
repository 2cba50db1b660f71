"""The native part of the benchmark: keys and units, the plain loops' results, refused arguments."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meshd.bench import _ceilings, ceilings
from meshd.bits import ops

ROOT = Path(__file__).resolve().parents[3]
ISAS = _ceilings.isas()


def array(*shape: int) -> Any:
    return np.random.default_rng(7).standard_normal(shape, np.float32)


def test_every_ceiling_has_a_name_a_set_and_work() -> None:
    listed = _ceilings.ceilings()
    names = [name for name, _, _ in listed]
    assert names[0] == ceilings.CLOCK and len(set(names)) == len(names)
    for name, isa, work in listed:
        assert re.fullmatch(r"[a-z0-9_]+", name) and isa and work > 0
    assert ISAS[-1] == "baseline"


def test_measured_ceilings_have_units_and_are_positive() -> None:
    found = ceilings.measure(0.01, rounds=2)
    assert found.keys() == {name for name, _, _ in _ceilings.ceilings()}
    assert found[ceilings.CLOCK].keys() == {"isa", "ghz"}
    for name, ceiling in found.items():
        if name != ceilings.CLOCK:
            assert ceiling.keys() == {"isa", "mac_per_cycle", "gops"}
            # The same figure in two units.
            per_second = ceiling["mac_per_cycle"] * found[ceilings.CLOCK]["ghz"]
            assert 0 < ceiling["gops"] == pytest.approx(2 * per_second)
        assert all(math.isfinite(v) for v in ceiling.values() if not isinstance(v, str))


def test_the_better_of_two_is_taken_name_by_name() -> None:
    one = {"clock": {"ghz": 3.0}, "a": {"gops": 5.0}, "b": {"gops": 1.0}}
    other = {"clock": {"ghz": 3.5}, "a": {"gops": 4.0}, "b": {"gops": 2.0}}
    assert ceilings.better(one, other) == {
        "clock": {"ghz": 3.5},
        "a": {"gops": 5.0},
        "b": {"gops": 2.0},
    }


def test_the_kernels_have_a_ceiling_and_plain_loops_as_wide() -> None:
    known = {name for name, _, _ in _ceilings.ceilings()}
    for isa in ops.list_isas():
        assert ceilings.PACKED.get(isa) is None or ceilings.PACKED[isa] in known
        assert ceilings.plain_isa(isa) in ISAS
    assert ceilings.plain_isa("scalar") == "baseline"


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("shape", [(3, 5, 7), (2, 33, 130), (1, 1, 1), (0, 3, 2), (4, 0, 6)])
def test_cmma_multiplies(isa: str, shape: tuple[int, int, int]) -> None:
    m, k, n = shape
    a, b, out = array(m, k), array(k, n), np.full((m, n), np.nan, np.float32)
    _ceilings.multiply(isa, a, b, out)
    assert np.allclose(out, a.astype(np.float64) @ b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("n", [0, 1, 3, 15, 16, 63, 64, 65, 257, 1000])
def test_plain_loops_touch_every_element(isa: str, n: int) -> None:
    x, y = array(n), array(n) + 1
    assert _ceilings.read(isa, x) == pytest.approx(float(x.sum(dtype=np.float64)), abs=1e-4)
    doubled = y * 2
    _ceilings.rescale(isa, y, 2.0)
    assert (y == doubled).all()
    wanted = y + x * np.float32(0.5)
    _ceilings.update(isa, x, y, 0.5)
    assert np.allclose(y, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_parts_make_the_whole(threads: int) -> None:
    parts = ceilings.Parts(ops.isa(), threads)
    a, b = array(7, 9), array(9, 11)
    out, y = np.empty((7, 11), np.float32), np.zeros(100, np.float32)
    parts.multiply(a, b, out)
    parts.update(np.ones(100, np.float32), y)
    parts.read(y)
    parts.rescale(y)
    assert np.allclose(out, a @ b, rtol=1e-5, atol=1e-5)
    assert (y == 0.5).all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: _ceilings.run("nonsense", 1), "no ceiling 'nonsense'"),
        (lambda: _ceilings.run("clock", 0), "rounds: must be 1"),
        (lambda: _ceilings.read("sse9", array(4)), "isa: 'sse9' does not run here"),
        (lambda: _ceilings.update(ISAS[0], array(4), array(5), 1.0), "y: expected shape"),
        (lambda: _ceilings.multiply(ISAS[0], array(2, 3), array(4, 5), array(2, 5)), "b: expected"),
        (lambda: _ceilings.multiply(ISAS[0], array(2, 3), array(3, 5), array(2, 4)), "out: expect"),
    ],
)
def test_wrong_arguments_are_named(call: Any, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        call()


BEYOND_BASELINE = re.compile(r"%[yz]mm\d|\tv[a-z]\w+ .*%xmm|\tv(zeroupper|zeroall)\b|\tpopcnt")


@pytest.mark.parametrize(
    ("library", "wide"), [("bench_baseline", False), ("bench_choice", False), ("bench_avx2", True)]
)
def test_only_a_sets_objects_hold_its_instructions(library: str, wide: bool) -> None:
    found = sorted(ROOT.glob(f"build/*/bench/CMakeFiles/{library}.dir/**/*.o"))
    if not found or shutil.which("objdump") is None:
        pytest.skip(f"no objects of {library} under build/, or no objdump")
    for path in found:
        code = subprocess.run(
            ["objdump", "-d", "--no-show-raw-insn", path],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert bool(BEYOND_BASELINE.search(code)) == wide, path
