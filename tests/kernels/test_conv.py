"""Convolutions: every instruction set gives the bits of the plain numpy definition, and what is
defined is what torch's float convolution computes from the binarized image."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshd.bits import layout, ops, reference, reference_conv
from meshd.bits.ops import ConvShape

CODINGS = ("signed", "unipolar")
Packed = tuple[layout.Words, layout.Floats]

pytestmark = pytest.mark.usefixtures("isa")

each_example = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

# Both ways to the rows of a product, and a plain product: taps within words and across them,
# strides that skip, windows without a tap inside, groups, kernels as large as the padded image.
SHAPES = [
    ConvShape(2, 5, 6, 64, padding=(1, 1)),
    ConvShape(1, 4, 4, 128, padding=(2, 0), dilation=(2, 1)),
    ConvShape(2, 5, 4, 70, padding=(1, 1)),
    ConvShape(1, 7, 5, 16, kernel=(3, 2), stride=(2, 1), padding=(1, 2)),
    ConvShape(1, 6, 6, 192, padding=(1, 1), groups=3),
    ConvShape(1, 5, 5, 24, kernel=(2, 2), groups=3),
    ConvShape(2, 3, 3, 5, padding=(1, 1), groups=5),
    ConvShape(2, 3, 4, 96, kernel=(1, 1)),
    ConvShape(1, 3, 4, 64, kernel=(1, 1), padding=(1, 2)),
    ConvShape(1, 4, 4, 32, kernel=(1, 1), stride=(2, 3)),
    ConvShape(1, 2, 2, 64, kernel=(2, 2), padding=(3, 3), dilation=(3, 3)),
    ConvShape(1, 3, 3, 64, kernel=(5, 4), padding=(1, 1)),
    ConvShape(1, 9, 1, 1, kernel=(9, 1)),
    ConvShape(1, 0, 3, 64, kernel=(2, 2), padding=(1, 0)),
    ConvShape(0, 4, 4, 64),
]


def betas(shape: ConvShape) -> list[int]:
    """All that a cut may be, fast and slow ones: divisors of a tap, and the whole window."""
    channels = shape.tap_channels
    cuts = {n for n in (1, 7, 8, 16, 32, 64, 128, channels) if channels % n == 0}
    return [*sorted(cuts), shape.k, shape.k + 9]


def pairs(shape: ConvShape) -> list[tuple[int, int]]:
    """Cuts of which one refines the other."""
    return [
        (a, w)
        for a in betas(shape)
        for w in betas(shape)
        if (max(a, w) >= shape.k or max(a, w) % min(a, w) == 0) and min(a, w) < shape.k + 9
    ]


def image(shape: ConvShape, rng: np.random.Generator) -> layout.Floats:
    """Gaussian, some of it zeros of both signs: (rows, tap_channels)."""
    x = rng.standard_normal((shape.rows, shape.tap_channels), np.float32)
    zeros = rng.choice(np.array([0.0, -0.0], np.float32), x.shape)
    return np.where(rng.random(x.shape) < 0.05, zeros, x)


def same(
    got: layout.Floats | layout.Words, wanted: layout.Floats | layout.Words, case: object
) -> None:
    assert got.dtype == wanted.dtype and got.shape == wanted.shape, case
    assert np.array_equal(got.view(np.uint8), wanted.view(np.uint8)), f"{case}: {got} != {wanted}"


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("coding", CODINGS)
def test_bits_of_the_definition(coding: str, shape: ConvShape, rng: np.random.Generator) -> None:
    x = image(shape, rng)
    for beta_a, beta_w in pairs(shape):
        filters = (
            shape.groups * int(rng.integers(0, 6)) if rng.random() < 0.8 else 66 * shape.groups
        )
        bias = rng.standard_normal(filters).astype(np.float32) if rng.random() < 0.5 else None
        packed: Packed = getattr(ops, f"pack_{coding}")(x, beta_a)
        w = ops.pack_signed(rng.standard_normal((filters, shape.k), np.float32), beta_w)
        got = getattr(ops, f"conv2d_{coding}")(*packed, beta_a, shape, *w, beta_w, bias=bias)
        wanted = getattr(reference_conv, f"conv2d_{coding}")(
            *packed, beta_a, shape, *w, beta_w, bias
        )
        same(got, wanted, (beta_a, beta_w, filters))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_windows_as_a_packed_matrix(shape: ConvShape, rng: np.random.Generator) -> None:
    for beta_a in betas(shape):
        packed = ops.pack_signed(image(shape, rng), beta_a)
        words, scales = ops.im2col(*packed, beta_a, shape)
        wanted_words, wanted_scales = reference_conv.im2col(*packed, beta_a, shape)
        same(words, wanted_words, (beta_a, "words"))
        same(scales, wanted_scales, (beta_a, "scales"))
        assert layout.padding_is_zero(words, shape.k)


def dense(x: layout.Floats, shape: ConvShape) -> torch.Tensor:
    """Packed rows' floats as torch has images: (B, C, H, W), float64."""
    size = (shape.batch, shape.height, shape.width, shape.channels)
    return torch.from_numpy(x.astype(np.float64).reshape(size)).permute(0, 3, 1, 2)


def float_conv(x: torch.Tensor, w: layout.Floats, shape: ConvShape) -> np.ndarray[Any, Any]:
    filters = torch.from_numpy(w.astype(np.float64))
    filters = filters.reshape(-1, *shape.kernel, shape.tap_channels).permute(0, 3, 1, 2)
    y = torch.nn.functional.conv2d(
        x,
        filters,
        stride=shape.stride,
        padding=shape.padding,
        dilation=shape.dilation,
        groups=shape.groups,
    )
    return y.permute(0, 2, 3, 1).numpy()


shapes: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    batch=st.integers(1, 2),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    groups=st.integers(1, 3),
    channels=st.sampled_from([1, 3, 8, 32, 40, 64, 128]),
)


@each_example
@given(
    numbers=shapes,
    seed=st.integers(0, 2**32 - 1),
    coding=st.sampled_from(CODINGS),
    cut=st.sampled_from(["channels", "half", "window"]),
    cut_w=st.sampled_from(["channels", "window"]),
)
def test_torch_agrees(
    numbers: dict[str, Any], seed: int, coding: str, cut: str, cut_w: str
) -> None:
    """conv2d of the dequantized image; where a scale is a window's, of its signs, scaled after."""
    numbers["channels"] *= numbers["groups"]
    for axis, side in enumerate(("height", "width")):
        reach = numbers["dilation"][axis] * (numbers["kernel"][axis] - 1) + 1
        numbers[side] = max(numbers[side], reach - 2 * numbers["padding"][axis])
    shape = ConvShape(**numbers)
    rng = np.random.default_rng(seed)
    channels = shape.tap_channels
    half = channels // 2 if channels % 2 == 0 else channels
    beta_a = {"channels": channels, "half": half, "window": shape.k}[cut]
    beta_w = channels if cut_w == "channels" else shape.k
    x = rng.standard_normal((shape.rows, channels), np.float32)
    packed: Packed = getattr(ops, f"pack_{coding}")(x, beta_a)
    w = ops.pack_signed(rng.standard_normal((4 * shape.groups, shape.k), np.float32), beta_w)
    bias = rng.standard_normal(4 * shape.groups).astype(np.float32)
    got = getattr(ops, f"conv2d_{coding}")(*packed, beta_a, shape, *w, beta_w, bias=bias)
    dense_w = ops.unpack_signed(*w, beta_w, shape.k)
    if beta_a < shape.k:
        dense_x = getattr(ops, f"unpack_{coding}")(*packed, beta_a, channels)
        wanted = float_conv(dense(dense_x, shape), dense_w, shape)
    else:
        signs = np.where(x >= 0, 1.0, -1.0) if coding == "signed" else np.where(x > 0, 1.0, 0.0)
        means = windowed_means(x, shape)
        wanted = float_conv(dense(signs, shape), dense_w, shape) * np.repeat(means, 4, axis=3)
    np.testing.assert_allclose(got, wanted + bias, rtol=0, atol=3e-6 * shape.k + 1e-5)


def windowed_means(x: layout.Floats, shape: ConvShape) -> np.ndarray[Any, Any]:
    """(B, Ho, Wo, groups): mean |x| over the elements of each window that are in the image."""
    ones = np.ones((shape.groups, shape.k), np.float32)
    total = float_conv(dense(np.abs(x), shape), ones, shape)
    count = float_conv(dense(np.ones_like(x), shape), ones, shape)
    mean: np.ndarray[Any, Any] = total / np.maximum(count, 1)
    return mean


@pytest.mark.parametrize("shape", SHAPES[:4] + SHAPES[7:8], ids=str)
@pytest.mark.parametrize("coding", CODINGS)
def test_the_product_of_the_windows(
    coding: str, shape: ConvShape, rng: np.random.Generator
) -> None:
    """Segments within taps: a convolution is the product of im2col's matrix, bit for bit."""
    x = image(shape, rng)
    beta = shape.tap_channels
    packed: Packed = getattr(ops, f"pack_{coding}")(x, beta)
    w = ops.pack_signed(rng.standard_normal((7, shape.k), np.float32), beta)
    y = getattr(ops, f"conv2d_{coding}")(*packed, beta, shape, *w, beta)
    rows = ops.im2col(*packed, beta, shape)
    product = getattr(ops, f"product_{coding}")(*rows, beta, *w, beta, shape.k)
    same(y.reshape(product.shape), product, shape)


@pytest.mark.parametrize("shape", [*SHAPES[:6], ConvShape(1, 40, 30, 64, padding=(1, 1))], ids=str)
@pytest.mark.parametrize("coding", CODINGS)
def test_threads_and_panels_change_no_bit(
    coding: str, shape: ConvShape, rng: np.random.Generator
) -> None:
    x = image(shape, rng)
    for beta_a, beta_w in ((shape.tap_channels, shape.k), (shape.k, shape.k)):
        packed: Packed = getattr(ops, f"pack_{coding}")(x, beta_a)
        w = ops.pack_signed(rng.standard_normal((6, shape.k), np.float32), beta_w)
        conv = getattr(ops, f"conv2d_{coding}")
        one = conv(*packed, beta_a, shape, *w, beta_w)
        same(conv(*packed, beta_a, shape, *w, beta_w, threads=3), one, "threads")
        panels = getattr(ops, f"prepare_conv2d_{coding}")(*w, beta_w, beta_a, shape, threads=2)
        out = np.full_like(one, 7)
        assert conv(*packed, beta_a, shape, *w, beta_w, panels=panels, out=out) is out
        same(out, one, "panels")
        rows = ops.im2col(*packed, beta_a, shape)
        words, scales = ops.im2col(*packed, beta_a, shape, threads=3)
        same(words, rows[0], "words")
        same(scales, rows[1], "scales")


def test_a_window_that_sees_nothing_gives_the_bias() -> None:
    shape = ConvShape(1, 1, 1, 64, kernel=(1, 1), padding=(1, 1))
    w = ops.pack_signed(np.ones((2, 64), np.float32), 64)
    bias = np.array([3.0, -0.0], np.float32)
    wanted = np.full((1, 3, 3, 2), [3.0, 0.0], np.float32)
    wanted[0, 1, 1] += 64
    for beta in (32, 64):
        x = ops.pack_signed(np.ones((1, 64), np.float32), beta)
        same(ops.conv2d_signed(*x, beta, shape, *w, 64, bias=bias), wanted, beta)


@pytest.mark.parametrize("coding", CODINGS)
def test_scales_that_are_no_numbers(coding: str) -> None:
    """A NaN in a pixel reaches the windows that see it and no other."""
    shape = ConvShape(1, 5, 5, 64, padding=(1, 1))
    x = np.ones((shape.rows, 64), np.float32)
    x[0, 3] = np.nan
    for beta in (64, shape.k):
        packed: Packed = getattr(ops, f"pack_{coding}")(x, beta)
        w = ops.pack_signed(np.ones((3, shape.k), np.float32), beta)
        y = getattr(ops, f"conv2d_{coding}")(*packed, beta, shape, *w, beta)
        seen = np.zeros((5, 5), bool)
        seen[:2, :2] = True
        assert np.array_equal(np.isnan(y[0, :, :, 0]), seen)


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"batch": -1}, ValueError, "batch: must be 0 to 2147483647, got -1"),
        ({"height": 2**31}, ValueError, "height: must be 0 to 2147483647"),
        ({"width": 2.5}, TypeError, "width: expected an integer"),
        ({"channels": 0}, ValueError, "channels: must be 1 to"),
        ({"kernel": 3}, TypeError, "kernel: expected a tuple of two integers, got 3"),
        ({"kernel": (3, 0)}, ValueError, r"kernel\[1\]: must be 1 to"),
        ({"kernel": ("3", 3)}, TypeError, r"kernel\[0\]: expected an integer"),
        ({"stride": (0, 1)}, ValueError, r"stride\[0\]: must be 1 to"),
        ({"stride": [1, 1]}, TypeError, r"stride: expected a tuple of two integers"),
        ({"padding": (1, -1)}, ValueError, r"padding\[1\]: must be 0 to"),
        ({"dilation": (1, 0)}, ValueError, r"dilation\[1\]: must be 1 to"),
        ({"groups": 0}, ValueError, "groups: must be 1 to"),
        ({"groups": 5}, ValueError, "groups: must divide channels = 64, got 5"),
        ({"kernel": (7, 1)}, ValueError, r"kernel\[0\]: .* spans 7 pixels, .* image has 6"),
        ({"dilation": (1, 3)}, ValueError, r"kernel\[1\]: .* spans 7 pixels, .* image has 5"),
        ({"channels": 2**31 - 1}, ValueError, "kernel: its elements"),
        ({"batch": 2**31 - 1, "height": 2**31 - 1}, ValueError, "shape: its pixels are more"),
        ({"padding": (2**31 - 1, 2**31 - 1)}, ValueError, "shape: its windows are more"),
    ],
)
def test_a_shape_that_cannot_be(changes: dict[str, Any], error: type[Exception], text: str) -> None:
    right: dict[str, Any] = dict(batch=2, height=6, width=5, channels=64)
    with pytest.raises(error, match=f"^{text}"):
        ConvShape(**(right | changes))


def test_cuts_across_taps_are_refused() -> None:
    shape = ConvShape(1, 3, 3, 96)
    x, w = ops.pack_signed(np.zeros((9, 96), np.float32), 96), np.zeros((2, 864), np.float32)
    for beta_a, beta_w, text in (
        (192, 96, r"beta_a: must divide channels / groups = 96 or be at least k = 864, got 192"),
        (96, 64, r"beta_w: must divide channels / groups = 96 or be at least k = 864, got 64"),
        (32, 48, r"beta_a, beta_w: one must divide the other"),
    ):
        scales = np.zeros((9, layout.segments(96, beta_a)), np.float32)
        packed = ops.pack_signed(w, beta_w)
        with pytest.raises(ValueError, match=f"^{text}"):
            ops.conv2d_signed(x[0], scales, beta_a, shape, *packed, beta_w)
        with pytest.raises(ValueError, match=f"^{text}"):
            ops.prepare_conv2d_signed(*packed, beta_w, beta_a, shape)


def test_bias_and_panels_are_checked() -> None:
    shape = ConvShape(1, 3, 3, 64)
    x = ops.pack_signed(np.zeros((9, 64), np.float32), 64)
    w = ops.pack_signed(np.zeros((2, shape.k), np.float32), 64)
    other = ops.prepare_conv2d_unipolar(*w, 64, 64, shape)
    longer = ops.prepare_conv2d_signed(*w, 64, 64, shape)
    longer = replace(longer, units=np.append(longer.units, np.uint32(0)))
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"bias": np.zeros(3, np.float32)}, ValueError, r"bias: expected shape \(2,\), got \(3,\)"),
        ({"bias": np.zeros(2)}, TypeError, "bias: expected a dense float32"),
        ({"panels": other}, ValueError, "panels: were prepared for coding = unipolar, not signed"),
        ({"panels": longer}, ValueError, "panels: expected shape"),
    ]
    for more, error, text in cases:
        with pytest.raises(error, match=f"^{text}"):
            ops.conv2d_signed(*x, 64, shape, *w, 64, **more)


def test_filters_that_do_not_fit_the_groups() -> None:
    shape = ConvShape(1, 3, 3, 64, groups=2)
    x = ops.pack_signed(np.zeros((18, 32), np.float32), 32)
    w = ops.pack_signed(np.zeros((3, shape.k), np.float32), 32)
    text = "^w_words: the number of filters must be a multiple of groups = 2, got 3"
    with pytest.raises(ValueError, match=text):
        ops.conv2d_signed(*x, 32, shape, *w, 32)


def test_a_shape_must_be_one() -> None:
    x = ops.pack_signed(np.zeros((9, 64), np.float32), 64)
    with pytest.raises(TypeError, match=r"^shape: expected a ConvShape, got tuple"):
        ops.im2col(*x, 64, (1, 3, 3, 64))  # type: ignore[arg-type]


def test_the_oracle_knows_padding() -> None:
    """By hand: 1 x 2 pixels of one channel, kernel 1 x 2, one column of padding on either side."""
    shape = ConvShape(1, 1, 2, 1, kernel=(1, 2), padding=(0, 1))
    x = np.array([[2.0], [-4.0]], np.float32)
    w = np.array([[1.0, 3.0]], np.float32)  # binarized: scale 2, signs + +
    for beta, wanted in ((1, [6.0, -10.0, -4.0]), (2, [4.0, 0.0, -8.0])):
        packed = reference.pack_signed(x, 1)
        y = reference_conv.conv2d_signed(
            *packed, beta, shape, *reference.pack_signed(w, beta), beta
        )
        assert y.reshape(-1).tolist() == wanted
