"""Chunks of any slices: one array on the wire, wherever its parts lie."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.ring.replica import BadPayloadError
from meshd.core.slices import TensorShape, cut_slices
from meshd.train.chunk import Chunk, planes_of

SLICES = cut_slices([TensorShape("a", 3, 777, 0), TensorShape("b", 31, 70, 32)], 64).slices


def test_planes_hold_the_count_and_no_more() -> None:
    for voters in range(1, 300):
        assert voters < 2 ** planes_of(voters) <= 2 * voters


@given(st.sets(st.sampled_from(range(len(SLICES))), min_size=1))
def test_parts_are_joined_in_index_order(picked: set[int]) -> None:
    parts = [SLICES[index] for index in sorted(picked)]
    chunk = Chunk(parts, 64)
    flat = np.arange(SLICES[-1].offset + SLICES[-1].padded, dtype=np.float32)
    wanted = np.concatenate([flat[p.offset : p.offset + p.padded] for p in parts])
    assert chunk.floats_of(flat).tobytes() == wanted.tobytes()
    assert chunk.segments_of(flat[::64].copy()).tobytes() == wanted[::64].tobytes()
    assert chunk.bits_of(flat[::64].astype(np.uint64)).tolist() == wanted[::64].tolist()
    assert sum(stop - start for start, stop in chunk.runs) == chunk.length
    gaps = sum(a.index + 1 != b.index for a, b in itertools.pairwise(parts))
    assert len(chunk.runs) == gaps + 1, "as few runs as there are"
    for part in parts:
        own = chunk.slice_of(part, wanted)
        assert own.tolist() == flat[part.offset : part.offset + part.size].tolist()


@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(0, 1))
def test_a_payload_comes_out_as_it_went_in(seed: int, voters: int, room: int) -> None:
    rng = np.random.default_rng(seed)
    chunk = Chunk(SLICES[1:4], 64)
    shape = planes_of(voters), chunk.words
    planes = rng.integers(0, 2**64, shape, np.uint64, endpoint=False)
    codes = rng.integers(0, 256, chunk.segments, np.uint8)
    payload = chunk.pack(planes, codes)
    got, got_codes = chunk.unpack(memoryview(payload), voters, room)
    assert got.flags.writeable and len(got) == planes_of(voters + room)
    assert got[: len(planes)].tobytes() == planes.tobytes() and not got[len(planes) :].any()
    assert got_codes.tobytes() == codes.tobytes()
    for wrong in (payload[:-1], payload + b"\0", b""):
        with pytest.raises(BadPayloadError, match="are no votes of"):
            chunk.unpack(wrong, voters, room)
