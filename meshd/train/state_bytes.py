"""State on its way from one member to another: little-endian, lengths from the slice alone.

    slice      latents float32 (size,), then each moment float32 (size,)
    weights    packed words uint64, then scale codes float16, as they lie

A payload of any other length, or with numbers that cannot be, is refused before it is used.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from meshd.bits.layout import padding_is_zero
from meshd.core.ring.replica import BadPayloadError, Payload
from meshd.train.delta import LARGEST_CODE, PackedSlice
from meshd.train.optimizer import SliceState

Floats = NDArray[np.float32]


def pack_state(state: SliceState) -> bytes:
    """A slice's latents and moments."""
    return b"".join(array.astype("<f4", copy=False).tobytes() for array in _arrays(state))


def unpack_state(payload: Payload, size: int, moments: int) -> SliceState:
    """Read a slice's state of `size` elements back, in arrays of its own.

    Raises:
        BadPayloadError: another length, or numbers that are not finite.
    """
    numbers = unpack_floats(payload, size * (1 + moments)).reshape(1 + moments, size)
    return SliceState(numbers[0].copy(), tuple(moment.copy() for moment in numbers[1:]))


def unpack_floats(payload: Payload, count: int) -> Floats:
    """Read float32 (count,) back.

    Raises:
        BadPayloadError: another length, or numbers that are not finite.
    """
    if len(payload) != 4 * count:
        raise BadPayloadError(f"{len(payload)} bytes where {count} numbers are due")
    numbers = np.frombuffer(payload, "<f4").astype(np.float32)
    if not bool(np.isfinite(numbers).all()):
        raise BadPayloadError("state with numbers that are not finite")
    return numbers


def pack_weights(part: PackedSlice) -> bytes:
    """A binary slice's weights, whole."""
    words = np.ascontiguousarray(part.words).astype("<u8", copy=False)
    return words.tobytes() + np.ascontiguousarray(part.codes).astype("<u2", copy=False).tobytes()


def unpack_weights(payload: Payload, like: PackedSlice) -> PackedSlice:
    """Read weights of the shape of `like` back.

    Raises:
        BadPayloadError: another length, set padding bits, or scales that cannot be.
    """
    words, codes = like.words, like.codes
    if len(payload) != words.nbytes + codes.nbytes:
        raise BadPayloadError(f"{len(payload)} bytes of weights are not this slice's")
    new_words = np.frombuffer(payload, "<u8", words.size).astype(np.uint64).reshape(words.shape)
    new_codes = np.frombuffer(payload, "<u2", codes.size, words.nbytes).astype(np.uint16)
    if bool((new_codes > LARGEST_CODE).any()) or not padding_is_zero(new_words, like.columns):
        raise BadPayloadError("impossible weights")
    return PackedSlice(new_words, new_codes.reshape(codes.shape), like.columns)


def _arrays(state: SliceState) -> tuple[Floats, ...]:
    return state.latents, *state.moments
