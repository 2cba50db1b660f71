"""State on its way: the same bits come out, and only of payloads that can be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.bits import reference
from meshd.core.ring.replica import BadPayloadError
from meshd.train.delta import PackedSlice
from meshd.train.optimizer import SliceState
from meshd.train.state_bytes import (
    pack_state,
    pack_weights,
    unpack_floats,
    unpack_state,
    unpack_weights,
)

seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.integers(1, 300), st.integers(0, 3))
def test_a_state_comes_out_as_it_went_in(seed: int, size: int, moments: int) -> None:
    rng = np.random.default_rng(seed)
    arrays = rng.standard_normal((1 + moments, size)).astype(np.float32)
    arrays[0, 0] = -0.0
    state = SliceState(arrays[0], tuple(arrays[1:]))
    payload = pack_state(state)
    assert len(payload) == 4 * size * (1 + moments)
    back = unpack_state(memoryview(payload), size, moments)
    for got, wanted in zip((back.latents, *back.moments), arrays, strict=True):
        assert got.tobytes() == wanted.tobytes()
        assert got.flags.owndata and got.flags.writeable
    for wrong in (payload[:-1], payload + b"\0", b"", payload[:-4]):
        with pytest.raises(BadPayloadError):
            unpack_state(wrong, size, moments)


@given(seeds, st.integers(1, 40), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_numbers_that_are_not_finite_are_refused(seed: int, count: int, value: float) -> None:
    rng = np.random.default_rng(seed)
    numbers = rng.standard_normal(count).astype(np.float32)
    assert unpack_floats(numbers.tobytes(), count).tobytes() == numbers.tobytes()
    numbers[rng.integers(count)] = value
    with pytest.raises(BadPayloadError, match="not finite"):
        unpack_floats(numbers.tobytes(), count)


def some_weights(seed: int, rows: int, columns: int, beta: int) -> PackedSlice:
    rng = np.random.default_rng(seed)
    words, scales = reference.pack_signed(rng.standard_normal((rows, columns), np.float32), beta)
    return PackedSlice(words, scales.astype(np.float16).view(np.uint16), columns)


@given(seeds, st.integers(1, 5), st.integers(1, 150), st.sampled_from([1, 16, 64]))
def test_weights_come_out_as_they_went_in(seed: int, rows: int, columns: int, beta: int) -> None:
    part, like = (
        some_weights(seed, rows, columns, beta),
        some_weights(seed + 1, rows, columns, beta),
    )
    payload = pack_weights(part)
    back = unpack_weights(memoryview(payload), like)
    assert back.words.tobytes() == part.words.tobytes()
    assert back.codes.tobytes() == part.codes.tobytes()
    assert (back.words.shape, back.codes.shape) == (like.words.shape, like.codes.shape)
    for wrong in (payload[:-1], payload + b"\0", b""):
        with pytest.raises(BadPayloadError, match="not this slice's"):
            unpack_weights(wrong, like)
    for code in (0x7C00, 0x7E00, 0x8001):  # infinity, not a number, negative
        with pytest.raises(BadPayloadError, match="impossible weights"):
            unpack_weights(payload[:-2] + np.uint16(code).tobytes(), like)
    if columns % 64:
        words = part.words.copy()
        words[-1, -1] |= np.uint64(1 << 63)
        with pytest.raises(BadPayloadError, match="impossible weights"):
            unpack_weights(pack_weights(PackedSlice(words, part.codes, columns)), like)
