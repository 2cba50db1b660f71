"""One chunk of the ring's flat vector: what a rank owns, and how its payloads are laid out.

Payloads, little-endian, no padding but that of bits to whole words:

    votes     planes uint64 (P(k), words)            then scale sums float32 (segments,)
    counts    planes uint64 (P(N), words)            then scales bfloat16 (segments,)
    finished  planes uint64 (P(N), dense words), each binary slice's packed rows uint64,
              each binary slice's scales float16     then scales bfloat16 (segments,)

P(k) = bit_length(k) planes count up to k voters. Lengths follow from the slice map alone, so a
payload of any other length is refused before it is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshd.bits import ops
from meshd.core.schedule import planes_of
from meshd.core.slices import Region, Slice, SliceMap
from meshd.train.optimizer import SliceVotes

Floats = NDArray[np.float32]
Words = NDArray[np.uint64]
Codes = NDArray[np.uint16]

WORD_BITS = 64


def encode_scale(scale: Floats) -> Codes:
    """float32 >= 0 to bfloat16 codes, to nearest, ties to even: the upper half of its bits.

    bfloat16 keeps float32's range: gradient scales reach 1e-9, below the smallest float16.
    """
    bits = np.ascontiguousarray(scale, np.float32).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded >> np.uint32(16)).astype(np.uint16)


def decode_scale(codes: Codes) -> Floats:
    """bfloat16 codes to float32, exactly."""
    return (codes.astype(np.uint32) << np.uint32(16)).view(np.float32)


@dataclass(frozen=True)
class Finished:
    """A chunk in finished form; `weights`: (words, scales float32) of each binary slice."""

    planes: Words
    weights: list[tuple[Words, Floats]]
    codes: Codes


class Chunk:
    """Sizes and views of one region; dense slices come before binary ones."""

    def __init__(self, region: Region, slice_map: SliceMap) -> None:
        self.region = region
        self.slices = slice_map.slices[region.first : region.last]
        self.dense_slices = [part for part in self.slices if not part.binary]
        self.binary_slices = [part for part in self.slices if part.binary]
        self.length = region.stop - region.start
        self.dense_length = sum(part.padded for part in self.dense_slices)
        self.dense_words = self.dense_length // WORD_BITS
        self._gamma = slice_map.gamma
        self._words = self.length // WORD_BITS
        self._segments = self.length // self._gamma
        self._weight_shapes = [_weight_shapes(part) for part in self.binary_slices]

    def words_of(self, bits: Words) -> Words:
        """View of a whole vector's bits (padded / 64,)."""
        start = self.region.start // WORD_BITS
        return bits[start : start + self._words]

    def segments_of(self, values: Floats) -> Floats:
        """View of a whole vector's segments (padded / gamma,)."""
        start = self.region.start // self._gamma
        return values[start : start + self._segments]

    def votes_on(self, part: Slice, planes: Words, scale: Floats, members: int) -> SliceVotes:
        """Views of one slice's part of this chunk's planes (P, words) and scales (segments,)."""
        start = part.offset - self.region.start
        word, segment = start // WORD_BITS, start // self._gamma
        return SliceVotes(
            planes[:, word : word + ops.words(part.size)],
            members,
            scale[segment : segment + ops.segments(part.size, self._gamma)],
            self._gamma,
        )

    def vote_bytes(self, voters: int) -> int:
        """Length of a votes payload."""
        return planes_of(voters) * self._words * 8 + self._segments * 4

    def count_bytes(self, members: int) -> int:
        """Length of a counts payload."""
        return planes_of(members) * self._words * 8 + self._segments * 2

    def finished_bytes(self, members: int) -> int:
        """Length of a finished payload."""
        weights = sum(
            words[0] * words[1] * 8 + scales[0] * scales[1] * 2
            for words, scales in self._weight_shapes
        )
        return planes_of(members) * self.dense_words * 8 + weights + self._segments * 2

    def read_votes(self, payload: memoryview, voters: int) -> tuple[Words, Floats]:
        """Planes of `voters` votes with room for one more, writable, and the scale sums."""
        reader = _Reader(payload)
        planes = np.zeros((planes_of(voters + 1), self._words), np.uint64)
        held = planes_of(voters)
        planes[:held] = reader.take(np.uint64, held * self._words).reshape(held, -1)
        return planes, reader.take(np.float32, self._segments)

    def read_counts(self, payload: memoryview, members: int) -> tuple[Words, Codes]:
        """Planes (P, words) and scale codes (segments,)."""
        reader = _Reader(payload)
        planes = reader.take(np.uint64, planes_of(members) * self._words)
        return (
            planes.reshape(planes_of(members), self._words),
            reader.take(np.uint16, self._segments),
        )

    def read_finished(self, payload: memoryview, members: int) -> Finished:
        """All parts of a finished payload, copied out of it."""
        reader = _Reader(payload)
        count = planes_of(members)
        planes = reader.take(np.uint64, count * self.dense_words).reshape(count, self.dense_words)
        words = [
            reader.take(np.uint64, shape[0] * shape[1]).reshape(shape)
            for shape, _ in self._weight_shapes
        ]
        scales = [
            reader.take(np.float16, shape[0] * shape[1]).reshape(shape).astype(np.float32)
            for _, shape in self._weight_shapes
        ]
        weights = list(zip(words, scales, strict=True))
        return Finished(planes, weights, reader.take(np.uint16, self._segments))


class _Reader:
    """Takes typed, aligned copies off the front of a payload."""

    def __init__(self, payload: memoryview) -> None:
        self._payload = payload
        self._at = 0

    def take(self, dtype: type, count: int) -> NDArray[Any]:
        """The next `count` elements as an array of their own (frames may lie unaligned)."""
        taken: NDArray[Any] = np.frombuffer(self._payload, dtype, count, self._at).copy()
        self._at += taken.nbytes
        return taken


def _weight_shapes(part: Slice) -> tuple[tuple[int, int], tuple[int, int]]:
    """Shapes of a binary slice's packed words and of its scales."""
    first, last = part.rows
    tensor = part.tensor
    return (
        (last - first, ops.words(tensor.columns)),
        (last - first, ops.segments(tensor.columns, tensor.beta)),
    )
