"""No cell of faults x messages x {captain, member} is left out, and none takes too long."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from ring_table import BOUNDS, cells, run_cell

SEEDS = 6
"""So often a cell is tried anew where its message never came."""


@pytest.mark.parametrize("fault", BOUNDS)
def test_every_message(fault: str) -> None:
    pauses = []
    for cell in cells(fault):
        for seed in range(SEEDS):
            try:
                if run_cell(cell, seed):
                    break
            except Exception as error:
                raise AssertionError(f"{cell.name}, seed {seed}: {error}") from error
        else:
            raise AssertionError(f"{cell.name}: its message never came")
        assert cell.pause_s <= BOUNDS[fault], f"{cell.name}, seed {seed}: {cell.pause_s:.2f} s"
        pauses.append(cell.pause_s)
    pauses.sort()
    middle, most = pauses[len(pauses) // 2], pauses[-1]
    print(f"{fault}: {len(pauses)} runs, pause {middle:.2f} s in the middle, {most:.2f} s at most")
