"""Binarized weights on the wire: what differs from weights that both sides already hold.

Law: lossless whatever the weights are; a payload is trusted with nothing but its bytes.

In a step of training few signs flip and scales move by little, so a member sends, for the slices of
one chunk together,

    sign words      new XOR last                   a flip is a 1; all else is 0
    scales          zigzag(new - last mod 2^16)    of their float16 codes, read as integers

and an entropy coder takes the zeros away. Codes of non-negative float16 numbers are ordered as the
numbers are, so a small move is a small difference; zigzag (0, -1, 1, -2 -> 0, 1, 2, 3) makes it a
small number of either sign, and all low bytes before all high bytes puts the zeros together.

    payload  = form u8 | crc32 u32 of the new weights | one zstd frame that declares its size
    content  = words uint64 of each slice | low bytes of each scale's zigzag | high bytes

Form WHOLE is the same against weights of zeros: for a receiver that lacks the last ones, and where
it is smaller. The checksum is of what comes out, so a receiver that holds other weights than the
sender thinks hears of it at once. All members hold the same last weights: a payload is passed on
as it came. What compresses best is measured in docs/adr/0017; zigzag: Protocol Buffers, encoding.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import zstandard
from numpy.typing import NDArray

from meshd.bits.layout import Words, padding_is_zero

Codes = NDArray[np.uint16]

HEADER = struct.Struct("<BI")  # form, crc32
LEVEL = 1  # zstd's; higher ones take longer and save nothing here
LARGEST_CODE = 0x7BFF  # of float16's largest number: above are infinity, NaN and negative ones


class Form(IntEnum):
    """What the content is the difference against; the numbers are on the wire."""

    WHOLE = 0
    DELTA = 1


class WeightsError(Exception):
    """A payload of weights that cannot be, or that belongs to other weights; one line says why."""


class OtherBaseError(WeightsError):
    """What came out is not what went in: the payload is damaged, or what is held here."""


@dataclass(frozen=True)
class PackedSlice:
    """One binary slice's weights: words uint64 (rows, W(columns)), codes uint16 (rows, S).

    `codes` are those of the float16 scales, `scales.view(np.uint16)`.
    """

    words: Words
    codes: Codes
    columns: int


@dataclass(frozen=True)
class Encoded:
    """A payload, and how many signs differ from the last weights (None: there were none)."""

    payload: bytes
    flips: int | None


def encode_weights(new: Sequence[PackedSlice], last: Sequence[PackedSlice] | None) -> Encoded:
    """Return a chunk's new weights as a payload; `last` is what the receiver holds, or None.

    The whole form is tried where the difference takes more than half of the plain bytes, and taken
    where it is smaller.

    Raises:
        ValueError: `new` and `last` differ in shape.
    """
    if last is None:
        return Encoded(_payload(Form.WHOLE, new, _joined(new)), None)
    if [_shape(part) for part in new] != [_shape(part) for part in last]:
        raise ValueError("new and last weights differ in shape")
    words, codes = _joined(new)
    last_words, last_codes = _joined(last)
    flipped = words ^ last_words
    flips = int.from_bytes(flipped.tobytes(), "little").bit_count()
    payload = _payload(Form.DELTA, new, (flipped, codes - last_codes))
    if 2 * len(payload) > words.nbytes + codes.nbytes:
        payload = min(payload, _payload(Form.WHOLE, new, (words, codes)), key=len)
    return Encoded(payload, flips)


def decode_weights(
    payload: bytes | memoryview, last: Sequence[PackedSlice], *, holds_last: bool = True
) -> list[PackedSlice]:
    """Return the weights that a peer's payload stands for, in arrays of their own.

    `last`: what this member holds; only the shapes are taken when it does not (`holds_last`).

    Raises:
        WeightsError: another size than the slices have, not one whole zstd frame, padding bits that
            are set, a scale that is negative or not finite, a difference against weights that are
            not held, or against others than these. Nothing larger than the slices is allocated.
    """
    size = sum(part.words.nbytes + part.codes.nbytes for part in last)
    form, checksum, content = _open(payload, size)
    word_count = sum(part.words.size for part in last)
    words = np.frombuffer(content, "<u8", word_count).astype(np.uint64)
    codes = _unplanes(np.frombuffer(content, np.uint8, offset=word_count * 8))
    if form is Form.DELTA:
        if not holds_last:
            raise WeightsError("the weights came as a difference, against ones not held here")
        last_words, last_codes = _joined(last)
        words ^= last_words
        codes += last_codes
    slices = _cut(words, codes, last)
    if _checksum(slices) != checksum:
        raise OtherBaseError(
            "the weights are damaged, or a difference against other ones than here"
        )
    if bool((codes > LARGEST_CODE).any()):
        raise WeightsError("impossible weights: a scale is negative or not finite")
    if not all(padding_is_zero(part.words, part.columns) for part in slices):
        raise WeightsError("impossible weights: bits behind the end of a row")
    return slices


def _payload(form: Form, new: Sequence[PackedSlice], difference: tuple[Words, Codes]) -> bytes:
    words, codes = difference
    content = words.astype("<u8", copy=False).tobytes() + _planes(codes)
    frame = zstandard.ZstdCompressor(level=LEVEL).compress(content)
    return HEADER.pack(form, _checksum(new)) + frame


def _open(payload: bytes | memoryview, size: int) -> tuple[Form, int, bytes]:
    """The payload's form, checksum and content, which is of `size` bytes.

    A frame is opened only when the size that it declares is the right one: the decompressor writes
    into so many bytes and no more, so no frame can unfold to more than it should.
    """
    if len(payload) < HEADER.size:
        raise WeightsError(f"{len(payload)} bytes are no weights")
    number, checksum = HEADER.unpack_from(payload)
    if number not in Form.__members__.values():
        raise WeightsError(f"weights of unknown form {number}")
    frame = bytes(payload[HEADER.size :])
    try:
        declared = zstandard.frame_content_size(frame)
        if declared != size:
            raise WeightsError(f"weights of {declared} bytes instead of {size}")
        content = zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise WeightsError(f"weights that do not decompress: {error}") from None
    if len(content) != size:  # a frame to be skipped declares a size and holds nothing
        raise WeightsError(f"weights of {len(content)} bytes instead of {size}")
    return Form(number), checksum, content


def _planes(difference: Codes) -> bytes:
    """Differences of codes (n,) in zigzag, low bytes first."""
    signed = difference.view(np.int16)
    zigzag = ((signed << 1) ^ (signed >> 15)).view(np.uint16)
    return (zigzag & 0xFF).astype(np.uint8).tobytes() + (zigzag >> 8).astype(np.uint8).tobytes()


def _unplanes(planes: NDArray[np.uint8]) -> Codes:
    """What `_planes` was given, of its bytes (2 n,)."""
    low, high = planes.astype(np.uint16).reshape(2, -1)
    zigzag = low | (high << np.uint16(8))
    sign = np.uint16(0) - (zigzag & np.uint16(1))  # all ones where negative
    codes: Codes = (zigzag >> np.uint16(1)) ^ sign
    return codes


def _joined(parts: Sequence[PackedSlice]) -> tuple[Words, Codes]:
    """All words (n,) and all codes (m,), one slice after the other."""
    words = [np.zeros(0, np.uint64), *(part.words.reshape(-1) for part in parts)]
    codes = [np.zeros(0, np.uint16), *(part.codes.reshape(-1) for part in parts)]
    return np.concatenate(words), np.concatenate(codes)


def _cut(words: Words, codes: Codes, shapes: Sequence[PackedSlice]) -> list[PackedSlice]:
    """`_joined` undone: views in the shapes of these slices."""
    slices = []
    word, code = 0, 0
    for part in shapes:
        own_words = words[word : word + part.words.size].reshape(part.words.shape)
        own_codes = codes[code : code + part.codes.size].reshape(part.codes.shape)
        slices.append(PackedSlice(own_words, own_codes, part.columns))
        word, code = word + part.words.size, code + part.codes.size
    return slices


def _checksum(parts: Sequence[PackedSlice]) -> int:
    """CRC-32 of all words and codes, little-endian, slice by slice."""
    crc = 0
    for part in parts:
        crc = zlib.crc32(part.words.astype("<u8", copy=False).tobytes(), crc)
        crc = zlib.crc32(part.codes.astype("<u2", copy=False).tobytes(), crc)
    return crc


def _shape(part: PackedSlice) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    return part.words.shape, part.codes.shape, part.columns
