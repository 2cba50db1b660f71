"""The codec: every valid message survives, nothing else gets through, nothing else is raised."""

from __future__ import annotations

import dataclasses
import random
import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from meshd.core.errors import LocalProtocolError, RemoteProtocolError
from meshd.core.messages import (
    Block,
    Goodbye,
    Heartbeat,
    Hello,
    JobProgress,
    LocalBody,
    Manifest,
    WorkerFailed,
    WorkerProgress,
)
from meshd.core.types import BlobId, MachineKey, Step
from meshd.wire.codec import decode, encode, frame_limit
from meshd.wire.kinds import Flag, Kind, Many, Raw, Real, Record, Text, Whole
from meshd.wire.limits import HEADER_BYTES, MAX_CONTROL_FRAME_BYTES, MAX_DEPTH, MAX_TOKENS
from meshd.wire.schema import NUMBERS, Family, record

Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
HEX = "0123456789abcdef"
WIDE = "aZ0 ~é€😀"


def texts(kind: Text) -> st.SearchStrategy[str]:
    """Valid texts of a shape, its shortest and longest among them."""
    ascii_bytes = st.integers(kind.low, min(kind.high, kind.low + 40)) | st.just(kind.high)
    alphabets = {
        "key": Z85,
        "job": HEX,
        "blob": HEX,
        "word": "abc",
        "name": "aZ9",
        "host": "a.:%_-9",
    }
    if kind.shape in alphabets:
        return ascii_bytes.flatmap(lambda n: st.text(alphabets[kind.shape], min_size=n, max_size=n))
    if kind.shape.endswith("-or-empty"):
        alphabet = Z85 if kind.shape.startswith("key") else HEX
        return st.just("") | st.text(alphabet, min_size=kind.high, max_size=kind.high)
    if kind.shape == "hex":
        return st.binary(max_size=kind.high // 2).map(bytes.hex)
    if kind.shape == "state":
        return st.sampled_from(["waiting", "forming", "training", "stopped", "failed", "done"])
    if kind.shape == "path":
        return st.just("") | st.text("a/b é", max_size=100).map(lambda s: "/" + s)
    return st.text(WIDE, max_size=kind.high // 4 if kind.high < 5000 else 100) | st.just(
        "x" * kind.high if kind.high < 5000 else ""
    )


def values(kind: Kind) -> st.SearchStrategy[Any]:
    """Valid values of a kind."""
    if isinstance(kind, Flag):
        return st.booleans()
    if isinstance(kind, Whole):
        return st.integers(kind.low, kind.high) | st.sampled_from([kind.low, kind.high])
    if isinstance(kind, Real):
        return st.floats(kind.low, kind.high, allow_nan=False)
    if isinstance(kind, Text):
        return texts(kind)
    if isinstance(kind, Raw):
        return st.binary(min_size=kind.low, max_size=min(kind.high, 100))
    if isinstance(kind, Many):
        return st.lists(values(kind.item), max_size=min(3, kind.high)).map(tuple)
    assert isinstance(kind, Record)
    return st.builds(kind.cls, **{name: values(inner) for name, inner in kind.fields.items()})


MESSAGES = st.sampled_from(list(NUMBERS.values())).flatmap(lambda cls: values(record(cls)))


@given(MESSAGES)
def test_every_valid_message_survives(message: Any) -> None:
    frame = encode(message)
    decoded = decode(memoryview(frame))
    assert decoded == message and type(decoded) is type(message)
    assert encode(decoded) == frame, "equal messages are equal bytes"


@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_else(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(data)


@given(st.sampled_from(list(NUMBERS)), st.binary(max_size=200))
def test_random_bodies_raise_nothing_else(number: int, body: bytes) -> None:
    only_protocol_errors(b"mD\x01" + number.to_bytes(2, "big") + body)


SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text()
KEYS = st.text() | st.binary()
ANYTHING = st.recursive(
    SCALARS | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(MESSAGES, st.data())
def test_a_wrong_value_in_any_field_raises_nothing_else(message: Any, data: st.DataObject) -> None:
    frame = encode(message)
    fields = msgpack.unpackb(frame[HEADER_BYTES:])
    name = data.draw(st.sampled_from(sorted(fields)) if fields else st.just("x"))
    fields[name] = data.draw(ANYTHING)
    only_protocol_errors(frame[:HEADER_BYTES] + msgpack.packb(fields))


@given(MESSAGES, st.randoms(use_true_random=False))
def test_damaged_frames_raise_nothing_else(message: Any, chance: random.Random) -> None:
    frame = bytearray(encode(message))
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(frame))
        what = chance.choice(["flip", "cut", "insert", "drop"])
        note(f"{what} at {at}")
        if what == "flip":
            frame[at] ^= 1 << chance.randrange(8)
        elif what == "cut" and at:
            del frame[at:]
        elif what == "insert":
            frame.insert(at, chance.randrange(256))
        elif len(frame) > 1:
            del frame[at]
    only_protocol_errors(bytes(frame))


def only_protocol_errors(frame: bytes) -> None:
    """Decode; what is taken must be what encodes to it, or to other bytes for the same message."""
    try:
        message = decode(frame)
    except RemoteProtocolError as error:
        assert "\n" not in str(error)
        return
    assert decode(encode(message)) == message


def largest(kind: Kind) -> Any:
    """A value whose encoding is as long as the kind allows."""
    if isinstance(kind, Flag):
        return True
    if isinstance(kind, Whole | Real):
        return kind.high
    if isinstance(kind, Text):
        letter = "/" if kind.shape == "path" else "a"
        return "training" if kind.shape == "state" else letter * kind.high
    if isinstance(kind, Raw):
        return b"\xff" * kind.high
    if isinstance(kind, Many):
        return (largest(kind.item),) * kind.high
    assert isinstance(kind, Record)
    return kind.cls(**{name: largest(inner) for name, inner in kind.fields.items()})


@pytest.mark.parametrize("number", NUMBERS)
def test_the_largest_message_fits_its_own_limit(number: int) -> None:
    message = largest(record(NUMBERS[number]))
    if frame_limit(number) == MAX_CONTROL_FRAME_BYTES:  # thousands of paths of 4 KiB: not sent
        with pytest.raises(LocalProtocolError, match="too large"):
            encode(message)
        return
    frame = encode(message)
    # the limit allows every whole number 9 bytes, and so does not depend on who encodes it
    assert frame_limit(number) * 0.4 < len(frame) <= frame_limit(number)
    assert decode(frame) == message


@pytest.mark.parametrize("number", NUMBERS)
def test_one_byte_above_the_limit_is_refused_unread(number: int) -> None:
    frame = b"mD\x01" + number.to_bytes(2, "big") + b"\x91" * (frame_limit(number) - 4)
    with pytest.raises(RemoteProtocolError) as caught:
        decode(frame)
    assert caught.value.code == "oversize"


def test_nothing_is_built_from_a_bomb() -> None:
    """Ten megabytes of empty maps once cost 606 MiB; here two million of them, in the largest
    frame that a message may have, cost nothing but the walk."""
    limit = frame_limit(31)
    bombs = [
        b"\xdd" + (limit - 10).to_bytes(4, "big") + b"\x80" * (limit - 10),  # empty maps
        b"\xdd\xff\xff\xff\xff" * 1000,  # declared, never there
        b"\xdc\xff\xff" * 7 + b"\x90" * (limit - 26),  # nested declarations
    ]
    for bomb in bombs:
        frame = b"mD\x01\x00\x1f" + bomb
        tracemalloc.start()
        with pytest.raises(RemoteProtocolError):
            decode(frame)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 100_000, "bytes of memory for a frame that is refused"


def test_depth_is_exactly_limited() -> None:
    for depth, code in ((MAX_DEPTH, "wrong-type"), (MAX_DEPTH + 1, "too-deep")):
        with pytest.raises(RemoteProtocolError) as caught:
            decode(b"mD\x01\x00\x03" + b"\x91" * depth + b"\xc0")
        assert caught.value.code == code


def test_values_are_exactly_limited() -> None:
    for count, code in ((MAX_TOKENS - 1, "wrong-type"), (MAX_TOKENS, "oversize")):
        with pytest.raises(RemoteProtocolError) as caught:
            decode(b"mD\x01\x00\x1f\xdd" + count.to_bytes(4, "big") + b"\x00" * count)
        assert caught.value.code == code


def test_families_part_the_links() -> None:
    frames = {
        Family.MACHINE: Goodbye(""),
        Family.WORKER: WorkerFailed("", False),
        Family.LOCAL: LocalBody(b""),
    }
    for family, message in frames.items():
        assert decode(encode(message), family) == message
        for other in set(Family) - {family}:
            with pytest.raises(RemoteProtocolError) as caught:
                decode(encode(message), other)
            assert caught.value.code == "wrong-link"


def test_a_line_is_made_showable() -> None:
    shown = decode(encode(Goodbye("a\x1b[31m\nb\u202ec" + "é" * 1000))).reason
    assert shown.startswith("a [31m b c") and shown.endswith("é...")
    assert shown.isprintable() and len(shown.encode()) <= 1000


BEAT = Heartbeat(1, 1, True, "")


@pytest.mark.parametrize(
    "message",
    [
        "text",
        dataclasses.replace(BEAT, boot=True),
        dataclasses.replace(BEAT, sequence=-1),
        Hello(1, "a b", "", 1, 0, "1"),
        Hello(1, "a", "", 0, 0, "1"),
        Block(BlobId("x"), 0, b""),
        WorkerFailed("", False, MachineKey("~" * 40)),
        dataclasses.replace(BEAT, available=1),  # type: ignore[arg-type]
        Manifest(BlobId("00" * 32), 0, [b"x" * 32]),  # type: ignore[arg-type]
        WorkerProgress(None),  # type: ignore[arg-type]
    ],
    ids=repr,
)
def test_our_own_mistakes_are_ours(message: Any) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        encode(message)
    assert "\n" not in str(caught.value)


def test_floats_may_be_given_as_whole_numbers() -> None:
    assert isinstance(decode(encode(progress(loss=1))).progress.loss, float)


def test_a_loss_that_is_not_finite_is_not_sent() -> None:
    for loss in (float("nan"), float("inf")):
        with pytest.raises(LocalProtocolError):
            encode(progress(loss=loss))


def progress(loss: float) -> WorkerProgress:
    return WorkerProgress(JobProgress(Step(0), 0, loss, -1, 0, 0))
