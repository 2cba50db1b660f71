"""im2col: what is counted, and that both forms hold the same windows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from meshd.bits import ops
from meshd.reproduce.im2col import BETA, CASES, prepare


def test_bytes_are_as_the_formula_says(quick) -> None:
    """1 + 32 / beta bits an element, read from the image and written to the matrix."""
    for case in quick("im2col").figures["cases"]:
        ratio = case["bytes"]["float32"] / case["bytes"]["packed"]
        assert ratio == pytest.approx(32 / (1 + 32 / BETA), rel=1e-6)


def test_the_packed_windows_are_the_float_ones() -> None:
    """Unfold orders a window by channel, ours by tap: the same elements, the same signs."""
    case = CASES[3]
    calls = prepare(case, 1).calls
    unfolded = calls["float32"]()
    words, _ = calls["packed"]()
    taps, pixels = case.kernel**2, case.size**2
    windows = unfolded[0].reshape(case.channels, taps, pixels).permute(2, 1, 0)
    inside = (windows != 0).any(-1, keepdim=True).expand_as(windows)  # padded taps are all zero
    bits = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")
    wanted = (windows >= 0) & inside
    assert torch.equal(torch.from_numpy(bits).bool().reshape_as(wanted), wanted)


def test_every_case_is_timed(quick) -> None:
    result = quick("im2col")
    assert len(result.figures["cases"]) == len(CASES) == len(result.table.rows)
    for case in result.figures["cases"]:
        assert all(case["seconds"][name] > 0 for name in ("float32", "packed", "pack"))


def test_every_case_is_what_its_name_says() -> None:
    for case in CASES:
        shape = case.shape(2)
        assert shape.out_size == (case.size, case.size)
        assert case.name == f"{case.size} x {case.size} x {case.channels}, {case.kernel}x" + str(
            case.kernel
        )
        assert shape.k == ops.words(shape.k) * 64
