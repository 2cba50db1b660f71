"""The backward products: bit for bit the plain numpy ones on every instruction set, where panels,
strips, words, groups and tiles begin and end; near the dense product; what a bad value does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from meshd.bits import backward_reference, layout, ops, reference

pytestmark = pytest.mark.usefixtures("isa")

SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("backward_exact", {}),
    ("backward_int8", {"seed": 7}),
    *(("backward_planes", {"planes": planes, "seed": 7}) for planes in (1, 2, 3, 4)),
]
INTEGER_SETTINGS = SETTINGS[1:]

# (R, C, k, beta): around tiles of 4 and 6 rows and tasks of 24; groups of 5, 6, 7, words of 12 and
# 30, blocks of 150 and 180; panels of 64 columns, strips of 256.
SHAPES = [
    (0, 5, 70, 32),
    (3, 0, 70, 32),
    (3, 5, 0, 1),
    (1, 1, 1, 1),
    (2, 6, 3, 1),
    (4, 7, 65, 64),
    (5, 30, 63, 100),
    (6, 31, 64, 16),
    (7, 12, 129, 50),
    (8, 13, 200, 128),
    (25, 150, 256, 256),
    (24, 151, 257, 257),
    (26, 181, 600, 300),
    (4, 361, 128, 192),
]
BLOCKS_OF_PLANES = (2, 4300, 66, 33)  # more than 600 groups


def packed(
    rng: np.random.Generator, rows: int, k: int, beta: int, unipolar: bool
) -> tuple[layout.Words, layout.Floats]:
    b = rng.standard_normal((rows, k), np.float32)
    return (ops.pack_unipolar if unipolar else ops.pack_signed)(b, beta)


def same(got: npt.NDArray[Any], wanted: npt.NDArray[Any], case: object) -> None:
    assert got.dtype == wanted.dtype and got.shape == wanted.shape, case
    nan = np.isnan(got) & np.isnan(wanted)
    equal = nan | (got.view(np.uint32) == wanted.view(np.uint32))
    assert equal.all(), f"{case}: {got[~equal][:3]} != {wanted[~equal][:3]}"


@dataclass
class Case:
    """Operands of one product, and the dense product of the unpacked matrix in float64."""

    g: layout.Floats
    bits: tuple[layout.Words, layout.Floats]
    beta: int
    k: int
    options: dict[str, Any]

    @classmethod
    def drawn(cls, rng: np.random.Generator, shape: tuple[int, int, int, int]) -> Case:
        rows, reduced, k, beta = shape
        transposed, unipolar, cuts = (bool(x) for x in rng.integers(0, 2, 3))
        g = rng.standard_normal((reduced, rows) if transposed else (rows, reduced), np.float32)
        bits = packed(rng, reduced, k, beta, unipolar)
        keep = reference.pack_bits(rng.integers(0, 2, (rows, k), np.uint8)) if cuts else None
        options = {"transposed": transposed, "unipolar": unipolar, "keep": keep}
        return cls(g, bits, beta, k, options)

    def run(self, op: str, **more: Any) -> npt.NDArray[Any]:
        result: npt.NDArray[Any] = getattr(ops, op)(
            self.g, *self.bits, self.beta, self.k, **self.options, **more
        )
        return result

    def reference(self, op: str, **more: Any) -> npt.NDArray[Any]:
        result: npt.NDArray[Any] = getattr(backward_reference, op)(
            self.g, *self.bits, self.beta, self.k, **self.options, **more
        )
        return result

    def dense(self) -> npt.NDArray[np.float64]:
        unpack = ops.unpack_unipolar if self.options["unipolar"] else ops.unpack_signed
        b = unpack(*self.bits, self.beta, self.k).astype(np.float64)
        out = (self.g.T if self.options["transposed"] else self.g).astype(np.float64) @ b
        if self.options["keep"] is not None:
            out *= reference.unpack_bits(self.options["keep"], self.k)
        return out


@pytest.mark.parametrize("shape", [*SHAPES, BLOCKS_OF_PLANES])
@pytest.mark.parametrize(("op", "more"), SETTINGS)
def test_equals_the_plain_one(
    op: str, more: dict[str, Any], shape: tuple[int, int, int, int], rng: np.random.Generator
) -> None:
    for _ in range(3):
        case = Case.drawn(rng, shape)
        same(case.run(op, **more), case.reference(op, **more), (shape, case.options))


@pytest.mark.parametrize(("op", "more"), SETTINGS)
def test_an_empty_sum_is_zero(op: str, more: dict[str, Any]) -> None:
    words, scales = ops.pack_signed(np.ones((0, 40), np.float32), 16)
    got = getattr(ops, op)(np.ones((3, 0), np.float32), words, scales, 16, 40, **more)
    assert got.shape == (3, 40) and (got == 0).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_exact_is_the_dense_product(
    shape: tuple[int, int, int, int], rng: np.random.Generator
) -> None:
    case = Case.drawn(rng, shape)
    np.testing.assert_allclose(case.run("backward_exact"), case.dense(), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("op", "more", "bound"),
    [
        ("backward_int8", {"seed": 3}, 0.02),
        ("backward_planes", {"planes": 1, "seed": 3}, 3.5),
        ("backward_planes", {"planes": 2, "seed": 3}, 1.5),
        ("backward_planes", {"planes": 3, "seed": 3}, 0.5),
        ("backward_planes", {"planes": 4, "seed": 3}, 0.22),
    ],
)
def test_rounding_loses_what_the_quantizer_loses(
    op: str, more: dict[str, Any], bound: float, rng: np.random.Generator
) -> None:
    """Relative error of Gaussian rows. For two levels it is that of m^2 - v^2, for three of
    |v| (m - |v|), where m is the largest of 500: 2.9 and 1.2."""
    g = rng.standard_normal((30, 500), np.float32)
    case = Case(g, packed(rng, 500, 256, 256, False), 256, 256, {"unipolar": False})
    case.options |= {"transposed": False, "keep": None}
    dense = case.dense()
    error = np.linalg.norm(case.run(op, **more) - dense) / np.linalg.norm(dense)
    assert bound / 3 < error < bound


@pytest.mark.parametrize(("op", "more"), SETTINGS)
def test_threads_change_no_bit(op: str, more: dict[str, Any], rng: np.random.Generator) -> None:
    case = Case.drawn(rng, (60, 40, 300, 128))
    alone = case.run(op, **more)
    for threads in (2, 3, 64):
        same(case.run(op, threads=threads, **more), alone, threads)


@pytest.mark.parametrize(("op", "more"), SETTINGS)
def test_transposed_is_only_another_layout(
    op: str, more: dict[str, Any], rng: np.random.Generator
) -> None:
    g = rng.standard_normal((9, 33), np.float32)
    bits = packed(rng, 33, 70, 32, False)
    turned = np.ascontiguousarray(g.T)
    run = getattr(ops, op)
    same(run(turned, *bits, 32, 70, transposed=True, **more), run(g, *bits, 32, 70, **more), op)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("unipolar", [False, True])
def test_exact_passes_bad_values_on_as_a_dense_product(
    bad: float, unipolar: bool, rng: np.random.Generator
) -> None:
    g = rng.standard_normal((7, 20), np.float32)
    g[2, 11] = bad
    bits = packed(rng, 20, 70, 32, unipolar)
    got = ops.backward_exact(g, *bits, 32, 70, unipolar=unipolar)
    unpack = ops.unpack_unipolar if unipolar else ops.unpack_signed
    with np.errstate(invalid="ignore"):
        dense = g @ unpack(*bits, 32, 70)
    assert np.array_equal(np.isnan(got), np.isnan(dense))
    infinite = np.isinf(dense)
    assert np.array_equal(got[infinite], dense[infinite])
    np.testing.assert_allclose(got[np.isfinite(dense)], dense[np.isfinite(dense)], atol=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("op", "more"), INTEGER_SETTINGS)
def test_a_bad_value_makes_its_row_and_segment_nan(
    op: str, more: dict[str, Any], bad: float, rng: np.random.Generator
) -> None:
    g = rng.standard_normal((7, 20), np.float32)
    words, scales = packed(rng, 20, 70, 32, False)
    keep = reference.pack_bits((np.arange(7 * 70).reshape(7, 70) % 70 > 0).astype(np.uint8))
    g[2, 11] = bad
    got = getattr(ops, op)(g, words, scales, 32, 70, keep=keep, **more)
    assert np.isnan(got[2, 1:]).all() and got[2, 0] == 0
    assert np.isfinite(got[[0, 1, 3, 4, 5, 6]]).all()
    g[2, 11], scales[4, 1] = 0, bad
    got = getattr(ops, op)(g, words, scales, 32, 70, **more)
    assert np.isnan(got[:, 32:64]).all() and np.isfinite(got[:, :32]).all()


@pytest.mark.parametrize(("op", "more"), INTEGER_SETTINGS)
@pytest.mark.parametrize("tiny", [0.0, -0.0, 1e-31, -1e-42])
def test_what_is_too_small_counts_as_zero(op: str, more: dict[str, Any], tiny: float) -> None:
    words, scales = ops.pack_signed(np.ones((5, 40), np.float32), 16)
    got = getattr(ops, op)(np.full((3, 5), tiny, np.float32), words, scales, 16, 40, **more)
    assert (got == 0).all()


@pytest.mark.parametrize("magnitude", [2e-30, 1e-20, 1e30, 3e38])
@pytest.mark.parametrize(("op", "more"), SETTINGS)
def test_equal_values_come_back(op: str, more: dict[str, Any], magnitude: float) -> None:
    """Where all |v| are one value nothing is lost, at the ends of the range."""
    g = np.full((2, 1), magnitude, np.float32)
    words, scales = ops.pack_signed(np.ones((1, 40), np.float32), 16)
    got = getattr(ops, op)(g, words, scales, 16, 40, **more)
    np.testing.assert_allclose(got, g * np.ones((1, 40)), rtol=1e-6)


def step_over_largest(more: dict[str, Any]) -> float:
    """The distance of two levels over the largest |v|."""
    return {0: 1 / 127, 1: 2.0, 2: 1.0, 3: 1 / 3, 4: 1 / 7}[more.get("planes", 0)]


@pytest.mark.parametrize(("op", "more"), INTEGER_SETTINGS)
def test_rounding_is_unbiased_and_the_seed_counts(
    op: str, more: dict[str, Any], rng: np.random.Generator
) -> None:
    """Of an identity matrix, unipolar: out is the rounded g."""
    g = rng.standard_normal((3, 12), np.float32)
    words, scales = ops.pack_unipolar(12 * np.eye(12, dtype=np.float32), 12)

    def run(seed: int) -> npt.NDArray[Any]:
        result: npt.NDArray[Any] = getattr(ops, op)(
            g, words, scales, 12, 12, unipolar=True, **more | {"seed": seed}
        )
        return result

    runs = [run(seed) for seed in range(400)]
    same(run(3), runs[3], "same seed")
    assert len({run.tobytes() for run in runs}) > 200
    step = np.abs(g).max(axis=1) * step_over_largest(more)
    deviation = np.abs(np.mean(runs, axis=0) - g) / step[:, None]
    # A rounding has variance at most 1/4; six standard deviations of a mean of 400.
    assert deviation.max() < 6 * np.sqrt(1 / 4 / 400)


@pytest.mark.parametrize("planes", [1, 2, 3, 4])
def test_levels_of_planes(planes: int, rng: np.random.Generator) -> None:
    """Of an identity matrix, unipolar: out is the rounded g."""
    g = rng.standard_normal((30, 45), np.float32)
    g[:, ::3] = 0
    words, scales = ops.pack_unipolar(45 * np.eye(45, dtype=np.float32), 45)
    got = ops.backward_planes(g, words, scales, 45, 45, planes=planes, seed=5, unipolar=True)
    largest = np.abs(g).max(1, keepdims=True)
    distance = largest * step_over_largest({"planes": planes})
    places = (got + largest) / distance
    np.testing.assert_allclose(places, np.rint(places), atol=1e-5)
    assert (np.abs(got - g) < distance * 1.00001).all() and (np.abs(got) <= largest * 1.00001).all()
    assert len(np.unique(np.rint(places))) == (2 if planes == 1 else 2**planes - 1)
    np.testing.assert_allclose(got[np.abs(g) == largest], g[np.abs(g) == largest], rtol=1e-6)
    assert (got[g == 0] == 0).all() or planes == 1


@pytest.mark.parametrize("planes", [1, 2, 3, 4])
def test_rounding_errors_of_planes_cancel(planes: int, rng: np.random.Generator) -> None:
    """In each of 16 chains they sum up to less than a step; on their own it would be 40 or more."""
    g = rng.standard_normal((3, 20_000), np.float32)
    words, scales = ops.pack_unipolar(np.ones((20_000, 8), np.float32), 8)
    got = ops.backward_planes(g, words, scales, 8, 8, planes=planes, seed=1, unipolar=True)
    distance = np.abs(g).max(1) * step_over_largest({"planes": planes})
    assert (np.abs(got[:, 0] - g.sum(1, dtype=np.float64)) < 16.1 * distance).all()


@pytest.mark.parametrize("shape", [s for s in SHAPES if s[1] > 0])
def test_product_floats_equals_the_plain_one(
    shape: tuple[int, int, int, int], rng: np.random.Generator
) -> None:
    m, n, k, beta = shape
    x = rng.standard_normal((m, k), np.float32)
    words, scales = packed(rng, n, k, beta, False)
    got = ops.product_floats(x, words, scales, beta, k)
    same(got, backward_reference.product_floats(x, words, scales, beta, k), shape)
    same(ops.product_floats(x, words, scales, beta, k, threads=3), got, "threads")
    dense = x.astype(np.float64) @ ops.unpack_signed(words, scales, beta, k).T
    np.testing.assert_allclose(got, dense, rtol=0, atol=1e-4)


def test_arguments_that_the_common_tests_leave_out() -> None:
    words, scales = ops.pack_signed(np.ones((5, 70), np.float32), 32)
    g, keep = np.ones((3, 5), np.float32), np.zeros((3, 2), np.uint64)

    def refused(error: type[Exception], text: str, **options: Any) -> None:
        with pytest.raises(error, match=f"^{text}"):
            ops.backward_exact(options.pop("g", g), words, scales, 32, 70, **options)

    refused(TypeError, "transposed: expected a bool, got int", transposed=1)
    refused(TypeError, "unipolar: expected a bool, got NoneType", unipolar=None)
    refused(TypeError, "keep: expected a dense uint64 array", keep=keep.view(np.int64))
    refused(ValueError, r"keep: expected shape \(3, 2\), got \(2, 2\)", keep=keep[:2])
    refused(ValueError, r"g: expected shape \(5, 5\), got \(3, 5\)", transposed=True)
    refused(ValueError, "threads: must be 1 to 1024, got 0", threads=0)
    with pytest.raises(ValueError, match=r"^planes: must be 1 to 4, got 5"):
        ops.backward_planes(g, words, scales, 32, 70, planes=5, seed=0)
    with pytest.raises(ValueError, match=r"^seed: must be 0 to "):
        ops.backward_int8(g, words, scales, 32, 70, seed=-1)
    with pytest.raises(ValueError, match=r"^seed: must be 0 to "):
        ops.backward_planes(g, words, scales, 32, 70, planes=2, seed=-1)


@pytest.mark.parametrize("beta", [256, 4096, 48])
@pytest.mark.parametrize(("op", "setting"), SETTINGS[:4], ids=str)
def test_a_result_past_the_caches_is_the_same(
    rng: np.random.Generator, op: str, setting: dict[str, Any], beta: int
) -> None:
    """8.5 MB, aligned or not: the stores go another way."""
    rows, reduced, k = 520, 9, 4096
    g = rng.standard_normal((reduced, rows), np.float32)
    words, scales = packed(rng, reduced, k, beta, unipolar=True)
    keep = rng.integers(0, 2**64, (rows, k // 64), np.uint64)
    memory = np.empty(rows * k + 32, np.float32)
    first = -memory.ctypes.data % 64 // 4
    results = []
    for start in (first, first + 1):
        out = memory[start : start + rows * k].reshape(rows, k)
        options = {"transposed": True, "unipolar": True, "keep": keep, "threads": 2, "out": out}
        getattr(ops, op)(g, words, scales, beta, k, **options, **setting)
        results.append(out.copy())
    same(results[0], results[1], (op, beta))
