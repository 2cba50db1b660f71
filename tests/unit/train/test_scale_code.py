"""One byte a scale: every byte is one, encoding is to the nearest, a ring's mean has no side."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.train.scale_code import decode_scales, encode_scales, mean_with

SEED = 20_261_123
EVERY = np.arange(256, dtype=np.uint8)
LARGEST, SMALLEST = 30.0, 2.0**-27 * 1.125


def value(code: int) -> float:
    """The slow way: exponent and fraction by hand."""
    return 0.0 if code == 0 else 2.0 ** (code // 8 - 27) * (1 + code % 8 / 8)


def nearest(scale: float) -> int:
    """The slow way: compare with every code; ties to the even one."""
    if scale < SMALLEST:
        return 1 if scale > 2.0**-27 * 1.0625 else 0
    return min(range(1, 256), key=lambda code: (abs(value(code) - scale), code % 2))


def test_every_byte_is_a_scale_and_is_its_own_code() -> None:
    scales = decode_scales(EVERY)
    assert scales.dtype == np.float32
    assert scales.tolist() == [value(code) for code in range(256)]
    assert (scales[0], scales[1], scales[255]) == (0.0, SMALLEST, LARGEST)
    assert np.array_equal(encode_scales(scales), EVERY)


@given(
    st.floats(0, 40, width=32)
    | st.integers(0, 0x41F80000).map(lambda bits: float(np.uint32(bits).view(np.float32)))
    | st.integers(1, 254).map(lambda code: (value(code) + value(code + 1)) / 2)
)
def test_encoding_is_to_the_nearest(scale: float) -> None:
    given_scale = np.array([scale], np.float32)
    assert encode_scales(given_scale)[0] == nearest(float(given_scale[0]))


def test_ends_are_kept() -> None:
    extremes = np.array([0.0, -0.0, 1e-45, 31.0, 3e38], np.float32)
    assert encode_scales(extremes).tolist() == [0, 0, 0, 255, 255]


@pytest.mark.parametrize("wrong", [-1e-9, np.inf, np.nan])
def test_what_is_no_scale_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="negative or not finite"):
        encode_scales(np.array([1.0, wrong], np.float32))


def test_what_is_given_stays_as_it_was() -> None:
    scales = np.array([0.3, -0.0], np.float32)
    encode_scales(scales)
    assert np.signbit(scales).tolist() == [False, True]
    decode_scales(EVERY)[:] = 1
    assert decode_scales(EVERY)[0] == 0


@pytest.mark.parametrize("members", [2, 3, 8, 64, 256])
def test_a_rings_mean_is_near_and_has_no_side(members: int) -> None:
    """2,000 segments whose members differ by a tenth: a sum in these codes is 89 % short at 256."""
    print(f"seed {SEED}")
    generator = np.random.default_rng(SEED)
    base = np.exp(generator.uniform(-8, 1, 2000))
    own = (base * np.exp(generator.normal(0, 0.1, (members, 2000)))).astype(np.float32)
    codes = encode_scales(own[0])
    for count, scales in enumerate(own[1:], 2):
        codes = encode_scales(mean_with(codes, scales, count))
    error = decode_scales(codes) / own.mean(axis=0) - 1
    assert abs(float(error.mean())) < 0.01
    assert float(np.abs(error).mean()) < 0.06


@given(st.binary(min_size=1, max_size=9), st.integers(2, 256), st.floats(0, 2.0**100, width=32))
def test_hostile_codes_can_do_nothing_but_be_scales(codes: bytes, members: int, own: float) -> None:
    arrived = np.frombuffer(codes, np.uint8)
    mean = mean_with(arrived, np.full(len(codes), own, np.float32), members)
    assert len(encode_scales(mean)) == len(codes)
