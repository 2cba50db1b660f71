"""A product that binarizes on the way is packing, cutting and multiplying, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from meshd.bits import ops, reference

pytestmark = pytest.mark.usefixtures("isa")


@pytest.mark.parametrize("k", [0, 1, 7, 63, 64, 65, 130, 200])
def test_within(k: int, rng: np.random.Generator) -> None:
    x = rng.standard_normal((3, k)).astype(np.float32)
    x.flat[::5] = 0.5
    for cut in (0.0, 0.5, 1.0, np.inf):
        assert np.array_equal(ops.within(x, cut), reference.within(x, cut)), cut


def test_what_is_not_finite_is_within_no_cut() -> None:
    x = np.array([[np.nan, np.inf, -np.inf, 1.0, -1.0, -0.0]], np.float32)
    assert ops.within(x, 1.0).tolist() == [[0b111000]]
    assert ops.within(x, np.inf).tolist() == [[0b111110]]
    assert ops.within(x, np.nan).tolist() == [[0]]


@pytest.mark.parametrize("coding", ["signed", "unipolar"])
@pytest.mark.parametrize(
    ("m", "n", "k", "beta_a", "beta_w"),
    [(200, 33, 256, 32, 32), (300, 40, 520, 520, 65), (5, 70, 100, 16, 16), (0, 3, 5, 5, 5)],
)
def test_it_is_its_parts(
    coding: str, m: int, n: int, k: int, beta_a: int, beta_w: int, rng: np.random.Generator
) -> None:
    x = rng.standard_normal((m, k)).astype(np.float32)
    w = ops.pack_signed(rng.standard_normal((n, k)).astype(np.float32), beta_w)
    bias = rng.standard_normal(n).astype(np.float32)
    words, scales = getattr(ops, f"pack_{coding}")(x, beta_a)
    wanted = getattr(ops, f"product_{coding}")(words, scales, beta_a, *w, beta_w, k, bias=bias)
    panels = getattr(ops, f"prepare_{coding}")(*w, beta_w, beta_a, k)
    for threads, given in ((1, None), (1, panels), (2, panels), (3, None)):
        kept = np.zeros_like(words)
        got = getattr(ops, f"binarized_product_{coding}")(
            x, beta_a, *w, beta_w, bias=bias, panels=given, threads=threads, cut=0.7, out_kept=kept
        )
        for a, b in zip(got, (words, scales, wanted), strict=True):
            assert np.array_equal(a, b), threads
        assert np.array_equal(kept, reference.within(x, 0.7)), threads


def test_a_result_past_the_caches_is_the_same(rng: np.random.Generator) -> None:
    """16 MB, aligned or not: the stores go another way."""
    m, n, k = 2048, 2048, 64
    a = ops.pack_signed(rng.standard_normal((m, k)).astype(np.float32), 32)
    w = ops.pack_signed(rng.standard_normal((n, k)).astype(np.float32), 32)
    memory = np.zeros(m * n + 32, np.float32)
    first = -memory.ctypes.data % 64 // 4
    wanted = np.concatenate([
        ops.product_signed(a[0][i : i + 256], a[1][i : i + 256], 32, *w, 32, k)
        for i in range(0, m, 256)
    ])  # fmt: skip
    for shift in (0, 1):
        out = memory[first + shift : first + shift + m * n].reshape(m, n)
        for threads in (1, 2):
            out[:] = 0
            ops.product_signed(*a, 32, *w, 32, k, threads=threads, out=out)
            assert np.array_equal(out, wanted), (shift, threads)


def test_a_cut_without_its_bits_and_bits_without_a_cut() -> None:
    x = np.ones((2, 8), np.float32)
    w = ops.pack_signed(x, 8)
    with pytest.raises(TypeError, match="cut: expected a number"):
        ops.binarized_product_signed(x, 8, *w, 8, out_kept=np.zeros((2, 1), np.uint64))
    with pytest.raises(ValueError, match=r"out_kept: expected shape \(2, 1\)"):
        ops.binarized_product_signed(x, 8, *w, 8, cut=1.0, out_kept=np.zeros((3, 1), np.uint64))
