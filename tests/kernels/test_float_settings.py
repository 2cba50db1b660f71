"""A caller may have told the processor to flush subnormal numbers to zero: no bit changes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from meshd.bits import ops

pytestmark = pytest.mark.usefixtures("isa")


@pytest.fixture
def flushing() -> Iterator[None]:
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor does not flush subnormal numbers")
    yield
    torch.set_flush_denormal(False)


def results(rng: np.random.Generator) -> list[np.ndarray]:
    """What kernels make of numbers so small that their products are subnormal."""
    tiny = np.float32(1e-20)
    x = rng.standard_normal((300, 128)).astype(np.float32) * tiny
    w = ops.pack_signed(rng.standard_normal((40, 128)).astype(np.float32) * tiny, 32)
    found = [ops.product_floats(x, *w, 32, 128, threads=threads) for threads in (1, 2, 3)]
    found += [ops.binarized_product_signed(x, 32, *w, 32, threads=t)[2] for t in (1, 2, 3)]
    found += ops.carry_binarize(x[0], x[1].copy(), float(tiny), 32)
    return found


def test_no_setting_of_the_caller_changes_a_bit(flushing: None) -> None:
    smallest = np.array([1e-40], np.float32)
    assert (smallest * np.float32(0.5))[0] == 0, "the setting works"
    flushed = results(np.random.default_rng(7))
    torch.set_flush_denormal(False)
    for got, wanted in zip(flushed, results(np.random.default_rng(7)), strict=True):
        assert np.array_equal(got.view(np.uint8), wanted.view(np.uint8))
    torch.set_flush_denormal(True)
    ops.isa()
    assert (smallest * np.float32(0.5))[0] == 0, "the caller has its setting back"
