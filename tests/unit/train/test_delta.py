"""Weights as differences: lossless on any weights, and nothing but `WeightsError` on any bytes."""

from __future__ import annotations

import dataclasses
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from meshd.bits.layout import segments, words
from meshd.train.delta import (
    HEADER,
    LARGEST_CODE,
    Form,
    PackedSlice,
    WeightsError,
    decode_weights,
    encode_weights,
)

SEED = 20_261_123


def weights(generator: np.random.Generator, shapes: list[tuple[int, int, int]]):
    """Any legal weights in slices of (rows, columns, beta)."""
    slices = []
    for rows, columns, beta in shapes:
        signs = generator.integers(0, 2, (rows, words(columns) * 64), np.uint8)
        signs[:, columns:] = 0
        packed = np.packbits(signs, axis=1, bitorder="little").view(np.uint64)
        codes = generator.integers(0, LARGEST_CODE + 1, (rows, segments(columns, beta)), np.uint16)
        slices.append(PackedSlice(packed, codes, columns))
    return slices


def moved(generator: np.random.Generator, last: list[PackedSlice], share: float):
    """Like a step: a share of the signs flips, and as many scales move by a few codes."""
    new = []
    for part in last:
        flips = np.zeros((len(part.words), part.words.shape[1] * 64), np.uint8)
        flips[:, : part.columns] = generator.random((len(part.words), part.columns)) < share
        moves = generator.integers(-3, 4, part.codes.shape) * (
            generator.random(part.codes.shape) < share
        )
        codes = np.clip(part.codes.astype(np.int64) + moves, 0, LARGEST_CODE).astype(np.uint16)
        packed = part.words ^ np.packbits(flips, axis=1, bitorder="little").view(np.uint64)
        new.append(PackedSlice(packed, codes, part.columns))
    return new


def same(got: list[PackedSlice], wanted: list[PackedSlice]) -> bool:
    return len(got) == len(wanted) and all(
        g.columns == w.columns
        and g.words.dtype == np.uint64
        and g.codes.dtype == np.uint16
        and np.array_equal(g.words, w.words)
        and np.array_equal(g.codes, w.codes)
        for g, w in zip(got, wanted, strict=True)
    )


def counted_flips(new: list[PackedSlice], last: list[PackedSlice]) -> int:
    """The slow way: bit by bit."""
    return sum(
        int(a) != int(b)
        for n, o in zip(new, last, strict=True)
        for a, b in zip(
            np.unpackbits(n.words.view(np.uint8)),
            np.unpackbits(o.words.view(np.uint8)),
            strict=True,
        )
    )


SHAPES = st.lists(
    st.tuples(st.integers(0, 4), st.integers(1, 150), st.sampled_from([1, 7, 16, 64, 999])),
    max_size=4,
)


@given(SHAPES, st.integers(0, 2**32), st.sampled_from([0.0, 0.01, 0.3, None]))
def test_every_weight_survives(shapes, seed, share) -> None:
    generator = np.random.default_rng(seed)
    last = weights(generator, shapes)
    new = weights(generator, shapes) if share is None else moved(generator, last, share)
    encoded = encode_weights(new, last)
    assert same(decode_weights(encoded.payload, last), new)
    assert same(decode_weights(memoryview(encoded.payload), last), new)
    assert encoded.flips == counted_flips(new, last)
    whole = encode_weights(new, None)
    assert whole.flips is None and whole.payload[0] == Form.WHOLE
    assert same(decode_weights(whole.payload, last, holds_last=False), new)
    assert same(decode_weights(whole.payload, last), new)


@given(st.integers(0, LARGEST_CODE), st.integers(0, LARGEST_CODE))
def test_every_scale_survives(before: int, after: int) -> None:
    zero = np.zeros((1, 1), np.uint64)
    last = [PackedSlice(zero, np.full((1, 1), before, np.uint16), 9)]
    new = [PackedSlice(zero, np.full((1, 1), after, np.uint16), 9)]
    assert decode_weights(encode_weights(new, last).payload, last)[0].codes[0, 0] == after


@pytest.fixture(scope="module")
def step() -> tuple[list[PackedSlice], list[PackedSlice]]:
    """Weights before and after a step that flips a hundredth."""
    print(f"seed {SEED}")
    generator = np.random.default_rng(SEED)
    last = weights(generator, [(20, 300, 16), (7, 70, 64)])
    return last, moved(generator, last, 0.01)


def test_a_step_costs_far_less_than_the_weights(step) -> None:
    last, new = step
    encoded = encode_weights(new, last)
    assert encoded.payload[0] == Form.DELTA
    assert len(encoded.payload) * 4 < len(encode_weights(new, None).payload)


def test_the_whole_is_sent_where_it_is_smaller(step) -> None:
    last, _ = step
    new = [dataclasses.replace(p, words=p.words * 0, codes=p.codes * 0) for p in last]
    encoded = encode_weights(new, last)
    assert encoded.payload == encode_weights(new, None).payload
    assert encoded.flips == counted_flips(new, last)
    assert same(decode_weights(encoded.payload, last), new)


def test_an_array_that_is_given_is_not_changed_and_none_is_shared(step) -> None:
    last, new = step
    before = [(part.words.copy(), part.codes.copy()) for part in last]
    got = decode_weights(encode_weights(new, last).payload, last)
    for part in got:
        part.words[:] = 0
        part.codes[:] = 0
    for part, (old_words, old_codes) in zip(last, before, strict=True):
        assert np.array_equal(part.words, old_words) and np.array_equal(part.codes, old_codes)


def test_a_difference_needs_the_weights_that_it_differs_from(step) -> None:
    last, new = step
    payload = encode_weights(new, last).payload
    with pytest.raises(WeightsError, match="not held here"):
        decode_weights(payload, last, holds_last=False)
    with pytest.raises(WeightsError, match="other ones than here"):
        decode_weights(payload, new)
    with pytest.raises(ValueError, match="shape"):
        encode_weights(new, last[:1])


@given(data=st.data())
def test_damaged_payloads_are_refused(step, data) -> None:
    last, new = step
    good = encode_weights(new, last if data.draw(st.booleans()) else None).payload
    how = data.draw(st.sampled_from(["cut", "flip", "longer", "random"]))
    if how == "cut":
        bad = good[: data.draw(st.integers(0, len(good) - 1))]
    elif how == "flip":
        place = data.draw(st.integers(0, len(good) - 1))
        bad = bytearray(good)
        bad[place] ^= data.draw(st.integers(1, 255))
        bad = bytes(bad)
    elif how == "longer":
        bad = good + data.draw(st.binary(min_size=1, max_size=20))
    else:
        bad = good[: data.draw(st.sampled_from([0, 5, 12]))] + data.draw(st.binary(max_size=60))
    try:
        got = decode_weights(bad, last)
    except WeightsError as error:
        assert "\n" not in str(error)
    else:  # a bit of the frame that means nothing
        assert same(got, new)


def forged(content: bytes, form: int = Form.WHOLE, crc: int | None = None) -> bytes:
    """A payload whose frame and checksum are right, whatever is in it."""
    low, high = np.frombuffer(content[8:], np.uint8).reshape(2, -1).astype(np.uint16)
    zigzag = low | high << 8
    codes = [(int(z) >> 1) ^ (0xFFFF if z & 1 else 0) for z in zigzag]
    plain = content[:8] + struct.pack(f"<{len(codes)}H", *codes)
    crc = zlib.crc32(plain) if crc is None else crc
    return HEADER.pack(form, crc) + zstandard.ZstdCompressor().compress(content)


def one_word(columns: int) -> list[PackedSlice]:
    return [PackedSlice(np.zeros((1, 1), np.uint64), np.zeros((1, 1), np.uint16), columns)]


def zigzagged(code: int) -> bytes:
    """Low and high byte of a code's difference to 0."""
    signed = code - 0x10000 if code & 0x8000 else code
    value = 2 * signed if signed >= 0 else -2 * signed - 1
    return bytes([value & 0xFF, value >> 8])


@pytest.mark.parametrize("code", [0x7C00, 0x7E00, 0x8000, 0xBC00, 0xFFFF])
def test_impossible_scales_are_refused(code: int) -> None:
    assert same(decode_weights(forged(bytes(8) + zigzagged(0)), one_word(60)), one_word(60))
    with pytest.raises(WeightsError, match="scale"):
        decode_weights(forged(bytes(8) + zigzagged(code)), one_word(60))


def test_set_padding_is_refused() -> None:
    last_bit = (1 << 59).to_bytes(8, "little") + zigzagged(0)
    assert decode_weights(forged(last_bit), one_word(60))[0].words[0, 0] == 1 << 59
    with pytest.raises(WeightsError, match="end of a row"):
        decode_weights(forged(last_bit), one_word(59))


def test_forms_that_do_not_exist_are_refused() -> None:
    with pytest.raises(WeightsError, match="form 2"):
        decode_weights(forged(bytes(10), form=2), one_word(60))


@pytest.mark.parametrize("declared", [True, False])
def test_a_bomb_is_not_unfolded(step, declared: bool) -> None:
    last, _ = step
    bomb = zstandard.ZstdCompressor(level=19, write_content_size=declared).compress(bytes(1 << 26))
    payload = HEADER.pack(Form.DELTA, 0) + bomb
    tracemalloc.start()
    with pytest.raises(WeightsError, match="instead of"):
        decode_weights(payload, last)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_frame_that_declares_less_than_it_holds_is_refused(step) -> None:
    """The size in the header is the right one, what follows unfolds to 64 MiB."""
    last, _ = step
    size = sum(part.words.nbytes + part.codes.nbytes for part in last)
    frame = bytearray(zstandard.ZstdCompressor(write_checksum=False).compress(bytes(1 << 26)))
    at = 4 + 1 + 1  # magic, descriptor, window; then the size, 4 bytes
    assert int.from_bytes(frame[at : at + 4], "little") == 1 << 26
    frame[at : at + 4] = size.to_bytes(4, "little")
    assert zstandard.frame_content_size(bytes(frame)) == size
    with pytest.raises(WeightsError, match="do not decompress"):
        decode_weights(HEADER.pack(Form.WHOLE, 0) + bytes(frame), last)
    skippable = b"\x50\x2a\x4d\x18" + struct.pack("<I", size) + bytes(size)
    with pytest.raises(WeightsError):
        decode_weights(HEADER.pack(Form.WHOLE, 0) + skippable, last)
