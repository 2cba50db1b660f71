"""Every kernel of every instruction set equals the plain numpy one, bit for bit, on the sizes where
words, registers and segments begin and end."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from meshd.bits import layout, ops, reference

SIZES = (0, 1, 3, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 500, 512, 1000, 2309)
SEGMENTS = (1, 2, 3, 4, 7, 8, 16, 32, 64, 100, 128, 192, 512)
CODINGS = ("signed", "unipolar")

pytestmark = pytest.mark.usefixtures("isa")


def betas(k: int) -> list[int]:
    return sorted({*SEGMENTS, max(k, 1), k + 5})


def floats(rng: np.random.Generator, *shape: int) -> layout.Floats:
    """Gaussian, with zeros of both signs, subnormal and huge numbers among them."""
    x = rng.standard_normal(shape, np.float32)
    special = np.array([0.0, -0.0, 1e-42, -1e-42, 3e4, -3e-4], np.float32)
    return np.where(rng.random(shape) < 0.1, rng.choice(special, shape), x)


def same(got: npt.NDArray[np.generic], wanted: npt.NDArray[np.generic], case: object) -> None:
    assert got.dtype == wanted.dtype and got.shape == wanted.shape, case
    assert np.array_equal(got.view(np.uint8), wanted.view(np.uint8)), f"{case}: {got} != {wanted}"


@pytest.mark.parametrize("k", SIZES)
@pytest.mark.parametrize("coding", CODINGS)
def test_pack_and_unpack(coding: str, k: int, rng: np.random.Generator) -> None:
    x = floats(rng, 3, k)
    for beta in betas(k):
        words, scales = getattr(ops, f"pack_{coding}")(x, beta)
        wanted_words, wanted_scales = getattr(reference, f"pack_{coding}")(x, beta)
        same(words, wanted_words, (beta, "words"))
        same(scales, wanted_scales, (beta, "scales"))
        assert layout.padding_is_zero(words, k)
        got = getattr(ops, f"unpack_{coding}")(words, scales, beta, k)
        wanted = getattr(reference, f"unpack_{coding}")(words, scales, beta, k)
        same(got, wanted, (beta, "unpacked"))


def beta_pairs(k: int) -> list[tuple[int, int]]:
    """Cuts of which one refines the other, each way round."""
    pairs = set()
    for fine in betas(k):
        for coarse in (fine, 2 * fine, 5 * fine, max(k, 1), k + 1):
            pairs |= {(fine, coarse), (coarse, fine)}
    return sorted(pairs)


@pytest.mark.parametrize("k", SIZES)
@pytest.mark.parametrize("coding", CODINGS)
def test_product(coding: str, k: int, rng: np.random.Generator) -> None:
    for beta_a, beta_w in beta_pairs(k):
        rows_a, rows_w = rng.integers(0, 4), rng.integers(0, 20)
        a = getattr(ops, f"pack_{coding}")(floats(rng, rows_a, k), beta_a)
        w = ops.pack_signed(floats(rng, rows_w, k), beta_w)
        got = getattr(ops, f"product_{coding}")(*a, beta_a, *w, beta_w, k)
        wanted = getattr(reference, f"product_{coding}")(*a, beta_a, *w, beta_w, k)
        same(got, wanted, (beta_a, beta_w, rows_a, rows_w))


@pytest.mark.parametrize("beta", [16, 32, 64, 100, 2048, 64 * 70 + 9])
@pytest.mark.parametrize("coding", CODINGS)
def test_product_of_extreme_bits(coding: str, beta: int) -> None:
    """All ones against all zeros: the largest counts, where a narrow partial sum would wrap."""
    k = 64 * 70 + 9
    one = np.ones((1, k), np.float32)
    for signs in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        a = getattr(ops, f"pack_{coding}")(signs[0] * one, beta)
        w = ops.pack_signed(signs[1] * one, beta)
        got = getattr(ops, f"product_{coding}")(*a, beta, *w, beta, k)
        value = signs[0] * signs[1] if coding == "signed" or signs[0] > 0 else 0
        assert got.tolist() == [[float(value * k)]]


@pytest.mark.parametrize("k", [252, 256, 65519, 65520, 65521, 140001])
@pytest.mark.parametrize("coding", CODINGS)
def test_product_of_one_long_segment(coding: str, k: int) -> None:
    """Rows of all ones beside rows of all zeros: what one of them counts stays its own."""
    signs_a, signs_w = np.array([1, -1, -1, 1, 1, 1, -1, -1, 1]), np.array([1, -1, 1])
    row = np.ones((1, k), np.float32)
    a = getattr(ops, f"pack_{coding}")((signs_a[:, None] * row).astype(np.float32), k)
    w = ops.pack_signed((signs_w[:, None] * row).astype(np.float32), k)
    got = getattr(ops, f"product_{coding}")(*a, k, *w, k, k)
    values = signs_a if coding == "signed" else signs_a.clip(0)
    assert np.array_equal(got, np.outer(values, signs_w).astype(np.float32) * k)


@pytest.mark.parametrize("n", SIZES)
def test_carry(n: int, rng: np.random.Generator) -> None:
    grad, start = floats(rng, n), floats(rng, n)
    weight = float(rng.uniform(0.1, 3.0))
    for gamma in betas(n):
        carried, wanted_carried = start.copy(), start.copy()
        bits, means = ops.carry_binarize(grad, carried, weight, gamma)
        wanted_bits, wanted_means = reference.carry_binarize(grad, wanted_carried, weight, gamma)
        same(bits, wanted_bits, (gamma, "bits"))
        same(means, wanted_means, (gamma, "means"))
        same(carried, wanted_carried, (gamma, "sum"))
        assert layout.padding_is_zero(bits, n)
        scale = np.abs(floats(rng, layout.segments(n, gamma)))
        ops.carry_settle(carried, bits, scale, gamma)
        reference.carry_settle(wanted_carried, wanted_bits, scale, gamma)
        same(carried, wanted_carried, (gamma, "kept"))


@pytest.mark.parametrize("n", SIZES)
def test_votes(n: int, rng: np.random.Generator) -> None:
    for members in (1, 2, 3, 4, 7, 8, 20):
        planes = np.zeros((layout.plane_count(members), layout.words(n)), np.uint64)
        wanted_planes = planes.copy()
        for _ in range(members):
            bits, _ = ops.pack_signed(floats(rng, 1, n), 64)
            ops.planes_add(planes, bits[0])
            reference.planes_add(wanted_planes, bits[0])
        same(planes, wanted_planes, (members, "planes"))
        assert layout.padding_is_zero(planes, n)
        for gamma in betas(n):
            scale = np.abs(floats(rng, layout.segments(n, gamma)))
            got = ops.apply_votes(planes, members, scale, gamma, n)
            wanted = reference.apply_votes(planes, members, scale, gamma, n)
            same(got, wanted, (members, gamma))


@pytest.mark.parametrize("members", [255, 256, 40_000, 65_535])
def test_votes_of_many_members(members: int, rng: np.random.Generator) -> None:
    n = 333
    counts = rng.integers(0, members + 1, n)
    counts[:2] = 0, members
    planes = np.stack(
        [
            reference.pack_bits((counts >> p & 1).astype(np.uint8)[None, :])[0]
            for p in range(layout.plane_count(members))
        ]
    )
    assert reference.planes_counts(planes, n).tolist() == counts.tolist()
    scale = np.abs(floats(rng, layout.segments(n, 100)))
    got = ops.apply_votes(planes, members, scale, 100, n)
    same(got, reference.apply_votes(planes, members, scale, 100, n), members)
    assert got[1] == scale[0] and got[0] == -scale[0]


@pytest.mark.parametrize("words", [1, 3, 4, 5, 9])
def test_a_counter_that_overflows_is_refused(words: int) -> None:
    for at in range(words):
        planes = np.zeros((2, words), np.uint64)
        bits = np.zeros(words, np.uint64)
        bits[at] = 1 << 63
        for _ in range(3):
            ops.planes_add(planes, bits)
        with pytest.raises(ValueError, match="planes: a counter of 2 planes had no room"):
            ops.planes_add(planes, bits)


@pytest.mark.parametrize("n", [1, 8, 9, 64, 65, 333])
def test_a_count_above_the_members_is_refused(n: int) -> None:
    planes = np.zeros((3, layout.words(n)), np.uint64)
    planes[:, (n - 1) // 64] = np.uint64(1) << np.uint64((n - 1) % 64)  # seven votes for the last
    scale = np.ones(1, np.float32)
    with pytest.raises(ValueError, match="planes: a count is larger than members = 6"):
        ops.apply_votes(planes, 6, scale, n, n)
    assert ops.apply_votes(planes, 7, scale, n, n)[-1] == 1.0


def test_padding_of_the_planes_is_not_counted() -> None:
    """Bits behind element n - 1 may be anything in apply_votes: they are nobody's votes."""
    planes = np.full((2, 1), 0b1000, np.uint64)
    assert ops.apply_votes(planes, 2, np.ones(1, np.float32), 3, 3).tolist() == [-1.0, -1.0, -1.0]


def test_signs_of_zeros_and_nans() -> None:
    x = np.array([[0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, 1e-45, -1e-45]], np.float32)
    for row in (x, np.tile(x, 9)):
        signed, scales = ops.pack_signed(row, 1)
        assert reference.unpack_bits(signed, 8).tolist() == [[1, 1, 0, 0, 1, 0, 1, 0]]
        unipolar, _ = ops.pack_unipolar(row, 1)
        assert reference.unpack_bits(unipolar, 8).tolist() == [[0, 0, 0, 0, 1, 0, 1, 0]]
        np.testing.assert_array_equal(scales, np.abs(row))
        assert np.isnan(ops.pack_signed(row, row.size)[1]).all()


def test_given_outputs_are_filled_and_returned(rng: np.random.Generator) -> None:
    x = floats(rng, 2, 70)
    words, scales = np.full((2, 2), 7, np.uint64), np.full((2, 3), 7, np.float32)
    got = ops.pack_signed(x, 32, out_words=words, out_scales=scales)
    assert got[0] is words and got[1] is scales
    same(words, reference.pack_signed(x, 32)[0], "words")
    out = np.full((2, 70), 7, np.float32)
    assert ops.unpack_signed(words, scales, 32, 70, out=out) is out
    same(out, reference.unpack_signed(words, scales, 32, 70), "unpacked")
