"""One chunk of a ring's step: some slices of the flat vector, and how its payloads are laid out.

Payloads, little-endian, no padding but that of bits to whole words:

    partial    planes uint64 (P(k), words)     then codes of mean scales uint8 (segments,)
    decision   planes uint64 (P(N), words)     then codes of the scales A uint8 (segments,)
    finished   of dense slices the decision; of binary ones the codes of A, then `delta`

P(k) = bit_length(k) planes count up to k voters; what `onebit` sends are votes of one. Lengths but
the last follow from the slices alone, so any other one is refused before it is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshd.bits import ops
from meshd.core.ring.replica import BadPayloadError, Payload
from meshd.core.slices import Slice
from meshd.train.optimizer import SliceVotes
from meshd.train.scale_code import Codes

Floats = NDArray[np.float32]
Words = NDArray[np.uint64]

WORD_BITS = 64


def planes_of(voters: int) -> int:
    """Bit planes that count up to `voters` votes: ceil(log2(voters + 1))."""
    return voters.bit_length()


class Chunk:
    """Sizes and views of some slices, in index order; `gamma`: elements of a gradient segment."""

    def __init__(self, slices: Sequence[Slice], gamma: int) -> None:
        self.slices = tuple(slices)
        self.runs = _runs(self.slices)
        """Ranges [start, stop) of the flat vector, as few as possible."""
        self.length = sum(part.padded for part in self.slices)
        self.words = self.length // WORD_BITS
        self.segments = self.length // gamma
        self.binary = bool(self.slices) and self.slices[0].binary
        """Whether its slices are: dense ones have a bucket of their own, so all are alike."""
        self._gamma = gamma
        self._places: dict[int, int] = {}
        padding = []
        at = 0
        for part in self.slices:
            self._places[part.index] = at
            at += part.padded
            if part.size < part.padded:
                padding.append((at - part.padded + part.size, at))
        self.padding = tuple(padding)
        """Ranges [start, stop) of this chunk's elements that are no parameter."""

    def bits_of(self, bits: Words) -> Words:
        """This chunk's part of a whole vector's bits (padded / 64,); a view where it is one run."""
        return _taken(bits, self.runs, WORD_BITS)

    def segments_of(self, values: Floats) -> Floats:
        """This chunk's part of a whole vector's segments (padded / gamma,)."""
        return _taken(values, self.runs, self._gamma)

    def floats_of(self, values: Floats) -> Floats:
        """This chunk's part of a whole flat vector (padded,)."""
        return _taken(values, self.runs, 1)

    def slice_of(self, part: Slice, values: Floats) -> Floats:
        """One slice's real elements (size,) of this chunk's (length,): a view."""
        start = self._places[part.index]
        return values[start : start + part.size]

    def votes_on(self, part: Slice, planes: Words, scale: Floats, members: int) -> SliceVotes:
        """Views of one slice's part of this chunk's planes (P, words) and scales (segments,)."""
        start = self._places[part.index]
        word, segment = start // WORD_BITS, start // self._gamma
        return SliceVotes(
            planes[:, word : word + ops.words(part.size)],
            members,
            scale[segment : segment + ops.segments(part.size, self._gamma)],
            self._gamma,
        )

    def pack(self, planes: Words, codes: Codes) -> bytes:
        """Planes (P, words) and codes (segments,) as a payload."""
        return planes.tobytes() + codes.tobytes()

    def unpack(self, payload: Payload, voters: int, room: int = 0) -> tuple[Words, Codes]:
        """Planes of `voters` votes with room for `room` more, writable, and the codes.

        Raises:
            BadPayloadError: another length.
        """
        held = planes_of(voters)
        if len(payload) != held * self.words * 8 + self.segments:
            raise BadPayloadError(f"{len(payload)} bytes are no votes of {voters} on this chunk")
        count = planes_of(voters + room)
        planes = np.empty((count, self.words), np.uint64)
        flat = np.frombuffer(payload, np.uint64, held * self.words)
        planes[:held] = flat.reshape(held, self.words)
        planes[held:] = 0
        return planes, np.frombuffer(payload, np.uint8, self.segments, held * self.words * 8)


def _runs(slices: Sequence[Slice]) -> tuple[tuple[int, int], ...]:
    runs: list[tuple[int, int]] = []
    for part in slices:
        stop = part.offset + part.padded
        if runs and runs[-1][1] == part.offset:
            runs[-1] = runs[-1][0], stop
        else:
            runs.append((part.offset, stop))
    return tuple(runs)


def _taken(values: NDArray[Any], runs: Sequence[tuple[int, int]], unit: int) -> NDArray[Any]:
    views = [values[start // unit : stop // unit] for start, stop in runs]
    return views[0] if len(views) == 1 else np.concatenate(views)
