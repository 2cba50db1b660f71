"""What this processor can do at best: loops in registers and passes over memory, measured in the
run whose results they judge. The loops, and what each stands for: kernels/bench/."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from meshd.bench import _ceilings
from meshd.bits.layout import Floats

CLOCK = "clock"
# Which loop bounds a product, per set of kernels: of two packed matrices, of floats with a packed
# one by tables, and of small integers with a packed one.
PACKED = {"avx512": "xor_popcount_zmm", "avx512bw": "nibble_table_zmm", "avx2": "nibble_table_ymm"}
FLOAT_TABLES = {"avx512": "float32_table_zmm", "avx512bw": "float32_table_zmm"}
INT16_TABLES = {"avx512": "int16_table_zmm", "avx512bw": "int16_table_zmm"}

Ceilings = dict[str, dict[str, Any]]


def first_of(names: tuple[str, ...]) -> str | None:
    """The first of these ceilings that can be measured here."""
    known = {name for name, _, _ in _ceilings.ceilings()}
    return next((name for name in names if name in known), None)


def measure(seconds: float, rounds: int = 5) -> Ceilings:
    """Every loop that runs here, interleaved; the best of `rounds` that take `seconds` in all.

    Returns a dict by name: `isa`, `gops` (2 x MAC / s, one core) and `mac_per_cycle`; for the clock
    `ghz`. Cycles are those of the clock measured between the loops.
    """
    loops = _ceilings.ceilings()
    turn_s = seconds / (rounds * len(loops))
    size = {name: rounds_that_take(name, turn_s) for name, _, _ in loops}
    best = {name: 0.0 for name, _, _ in loops}
    for _ in range(rounds):
        for name, _, work in loops:
            rate = work * size[name] / _ceilings.run(name, size[name])
            best[name] = max(best[name], rate)
    hertz = best[CLOCK]
    found: Ceilings = {CLOCK: {"isa": "baseline", "ghz": hertz / 1e9}}
    for name, isa, _ in loops:
        if name != CLOCK:
            rate = best[name]
            found[name] = {"isa": isa, "mac_per_cycle": rate / hertz, "gops": 2 * rate / 1e9}
    return found


def rounds_that_take(name: str, seconds: float, start: int = 1000) -> int:
    """About how many rounds of a loop fill `seconds`; its first call also wakes the core up."""
    _ceilings.run(name, start)
    return max(start, int(start * seconds / max(_ceilings.run(name, start), 1e-9)))


def better(one: Ceilings, other: Ceilings) -> Ceilings:
    """Name by name the higher of two measurements of the same loops."""
    key = {name: "ghz" if name == CLOCK else "gops" for name in one}
    return {name: max(one[name], other[name], key=lambda c: c[key[name]]) for name in one}


def plain_isa(isa: str) -> str:
    """The plain loops with vectors as wide as a set's kernels: what differs is the method."""
    wide = {"avx512bw": "avx512"}.get(isa, isa)
    return wide if wide in _ceilings.isas() else _ceilings.isas()[-1]


def plain_isas() -> list[str]:
    """The sets of plain loops that run here, without the narrowest where there are others."""
    return _ceilings.isas()[:-1] or _ceilings.isas()


class Parts:
    """The plain loops of one set, over arrays cut into as many parts as there are threads."""

    def __init__(self, isa: str, threads: int) -> None:
        self.isa = plain_isa(isa)
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def multiply(self, a: Floats, b: Floats, out: Floats) -> None:
        """CMMA: out (M, N) = a (M, K) b (K, N)."""
        self._each(lambda x, y: _ceilings.multiply(self.isa, x, b, y), a, out)

    def read(self, x: Floats) -> None:
        """Read x (n) once: 4 n bytes."""
        self._each(lambda part: _ceilings.read(self.isa, part), x)

    def rescale(self, y: Floats) -> None:
        """Multiply y (n) by one: 8 n bytes."""
        self._each(lambda part: _ceilings.rescale(self.isa, part, 1.0), y)

    def update(self, x: Floats, y: Floats) -> None:
        """Add a multiple of x (n) to y (n): 12 n bytes."""
        self._each(lambda p, q: _ceilings.update(self.isa, p, q, 0.5), x, y)

    def _each(self, work: Callable[..., object], *arrays: Floats) -> None:
        if self._pool is None:
            work(*arrays)
            return
        cut = [np.array_split(array, self._threads) for array in arrays]
        for done in [self._pool.submit(work, *parts) for parts in zip(*cut, strict=True)]:
            done.result()
