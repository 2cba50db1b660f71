"""Golden frames, both ways, and frames to reject, each with the error it must give.

    python tests/proto/test_frames.py --rewrite

writes `proto/frames/**/*.hex` anew from the `.json` files beside them (golden frames: write the
`.json` by hand, it is the message) and `proto/frames/reject/*` from REJECTS below. Commit only a
difference that you understand: a changed frame is a changed protocol, and needs a new version and
an entry in `proto/CHANGELOG.md` unless the old one was never released.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import struct
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest

from meshd.core.errors import RemoteProtocolError
from meshd.wire import bulk, codec
from meshd.wire.bulk import BulkHeader
from meshd.wire.schema import NUMBERS, Family

FRAMES = Path(__file__).resolve().parents[2] / "proto" / "frames"
KINDS: dict[str, type[Any]] = {cls.__name__: cls for cls in NUMBERS.values()}
KINDS["BulkHeader"] = BulkHeader


def to_json(value: Any) -> Any:
    """A message as JSON shows it; bytes as {"hex": ...}."""
    if dataclasses.is_dataclass(value):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, tuple):
        return [to_json(item) for item in value]
    return value


def from_json(kind: Any, value: Any) -> Any:
    """Back again, by the dataclass's annotations: a second reader, independent of the codec's."""
    if typing.get_origin(kind) is tuple:
        return tuple(from_json(typing.get_args(kind)[0], item) for item in value)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        assert value.keys() == hints.keys(), f"{kind}: {value.keys() ^ hints.keys()}"
        make = typing.cast(Callable[..., Any], kind)
        return make(**{name: from_json(hints[name], item) for name, item in value.items()})
    return bytes.fromhex(value["hex"]) if kind is bytes else value


def encode(message: Any) -> bytes:
    return bulk.pack(message) if isinstance(message, BulkHeader) else codec.encode(message)


def read_hex(path: Path) -> bytes:
    return bytes.fromhex("".join(path.read_text().split()))


def write_hex(path: Path, data: bytes) -> None:
    text = data.hex()
    path.write_text("\n".join(text[i : i + 96] for i in range(0, len(text), 96)) + "\n")


# --- frames to reject ----------------------------------------------------------------------------


def raw(number: int, body: bytes, version: int = 1, magic: bytes = b"mD") -> bytes:
    return magic + bytes((version,)) + number.to_bytes(2, "big") + body


def packed(number: int, fields: Any) -> bytes:
    return raw(number, msgpack.packb(fields))


BLOB = "ab" * 32
PROGRESS = {"step": 1, "epoch": 0, "loss": 0.5, "accuracy": -1.0, "seconds": 1.0, "bytes_sent": 0}
RING = {"generation": 1, "captain": "", "salt": 0}
ACK = {
    **{"job": "0f" * 16, "generation": 1, "ring": RING, "step": -1, "history": [], "running": RING},
    **{"held": [], "going": [], "speed": 0.0, "leaving": False, "waits": False, "past": []},
    "to": "a" * 40,
}
BULK = (b"mB", 1, 2, 3, 0, 4, 5, 6, 7)


def beat(**changes: Any) -> bytes:
    return packed(2, {"boot": 7, "sequence": 1, "available": True, "why": "idle"} | changes)


def hello(**changes: Any) -> bytes:
    fields = {"protocol": 1, "name": "ada", "host": "", "port": 4800, "boot": 7, "version": "0.1"}
    return packed(1, fields | changes)


def propose(**changes: Any) -> bytes:
    return packed(11, {"job": "0f" * 16, "generation": 1, "members": []} | changes)


def progress(**changes: Any) -> bytes:
    return packed(103, {"progress": PROGRESS | changes})


def bulk_frame(**changes: Any) -> bytes:
    names = ("magic", "version", "phase", "hop", "tag", "chunk", "generation", "size", "step")
    values = dict(zip(names, BULK, strict=True)) | changes
    return struct.pack(">2sBBHHIIIQ", *values.values())


LONG_TEXT = b"\x81\xa6reason\xdb\xff\xff\xff\xff"
MANIFEST_OF_31 = packed(31, {"blob": BLOB, "size": 1, "digests": [b"x" * 31]})
RELATIVE_PATH = packed(105, {"progress": PROGRESS, "weight_hash": "", "model_path": "a/b"})

REJECTS: dict[str, tuple[str, str, bytes]] = {
    # name: (link, code, frame)
    "empty": ("machine", "not-meshd", b""),
    "header-only-half": ("machine", "not-meshd", b"mD\x01\x00"),
    "other-magic": ("machine", "not-meshd", raw(3, msgpack.packb({"reason": ""}), magic=b"GE")),
    "version-older": ("machine", "version", raw(3, msgpack.packb({"reason": ""}), version=0)),
    "version-newer": ("machine", "version", raw(3, msgpack.packb({"reason": ""}), version=2)),
    "number-unknown": ("machine", "unknown-message", packed(4, {})),
    "number-zero": ("machine", "unknown-message", packed(0, {})),
    "number-65535": ("machine", "unknown-message", packed(65535, {})),
    "worker-message-from-machine": ("machine", "wrong-link", packed(101, {"port": 1})),
    "local-message-from-machine": ("machine", "wrong-link", packed(151, {"data": b""})),
    "machine-message-from-worker": ("worker", "wrong-link", packed(3, {"reason": ""})),
    "worker-message-on-local": ("local", "wrong-link", packed(101, {"port": 1})),
    "no-body": ("machine", "malformed", raw(3, b"")),
    "cut-in-text": ("machine", "malformed", packed(3, {"reason": "bye"})[:-1]),
    "cut-in-map": ("machine", "malformed", raw(3, b"\x82\xa6reason\xa0")),
    "trailing-byte": ("machine", "malformed", packed(3, {"reason": ""}) + b"\xc0"),
    "second-message": ("machine", "malformed", packed(3, {"reason": ""}) * 2),
    "never-used-byte": ("machine", "malformed", raw(3, b"\x81\xa6reason\xc1")),
    "extension": ("machine", "malformed", raw(3, b"\x81\xa6reason\xd4\x01\x00")),
    "timestamp-extension": ("machine", "malformed", raw(3, b"\x81\xa6reason\xd6\xff\0\0\0\0")),
    "not-utf8": ("machine", "malformed", raw(3, b"\x81\xa6reason\xa1\xff")),
    "surrogate": ("machine", "malformed", raw(3, b"\x81\xa6reason\xa3\xed\xa0\x80")),
    "array-of-four-billion": ("machine", "malformed", raw(3, b"\xdd\xff\xff\xff\xff")),
    "map-of-four-billion": ("machine", "malformed", raw(3, b"\xdf\xff\xff\xff\xff")),
    "text-of-four-gigabytes": ("machine", "malformed", raw(3, LONG_TEXT)),
    "key-not-text": ("machine", "malformed", raw(3, b"\x81\x01\xa0")),
    "nested-nine": ("machine", "too-deep", raw(3, b"\x91" * 9 + b"\xc0")),
    "nested-thousand": ("machine", "too-deep", raw(3, b"\x91" * 1000 + b"\xc0")),
    "larger-than-its-kind": ("machine", "oversize", packed(34, {"blob": "a" * 200})),
    "same-key-twice": ("machine", "duplicate-key", raw(3, b"\x82\xa6reason\xa0\xa6reason\xa1x")),
    "not-a-map": ("machine", "wrong-type", packed(3, [""])),
    "nil-body": ("machine", "wrong-type", packed(3, None)),
    "field-unknown": ("machine", "unknown-field", packed(3, {"reason": "", "extra": 1})),
    "field-missing": ("machine", "missing-field", packed(2, {"boot": 7})),
    "map-empty": ("machine", "missing-field", packed(3, {})),
    "text-for-int": ("machine", "wrong-type", beat(boot="7")),
    "bool-for-int": ("machine", "wrong-type", beat(boot=True)),
    "int-for-bool": ("machine", "wrong-type", beat(available=1)),
    "float-for-int": ("machine", "wrong-type", beat(boot=7.0)),
    "int-for-float": ("worker", "wrong-type", progress(loss=1)),
    "bytes-for-text": ("machine", "wrong-type", packed(3, {"reason": b"bye"})),
    "text-for-bytes": ("local", "wrong-type", packed(151, {"data": "x"})),
    "nil-for-text": ("machine", "wrong-type", packed(3, {"reason": None})),
    "map-for-text": ("machine", "wrong-type", packed(3, {"reason": {}})),
    "text-for-array": ("machine", "wrong-type", propose(members="abc")),
    "int-for-part": ("worker", "wrong-type", packed(103, {"progress": 5})),
    "ring-step-below-none": ("worker", "out-of-bounds", packed(20, ACK | {"step": -2})),
    "slice-4096": ("machine", "out-of-bounds", packed(20, ACK | {"held": [4096]})),
    "slices-4097": ("machine", "out-of-bounds", packed(20, ACK | {"going": [0] * 4097})),
    "ring-without-captain": ("machine", "missing-field", packed(20, ACK | {"ring": {}})),
    "speed-infinite": ("machine", "out-of-bounds", packed(20, ACK | {"speed": float("inf")})),
    "ring-message-on-local": ("local", "wrong-link", packed(20, ACK)),
    "int-negative": ("machine", "out-of-bounds", beat(sequence=-1)),
    "int-2-53": ("machine", "out-of-bounds", beat(sequence=2**53)),
    "int-2-64-less-1": ("machine", "out-of-bounds", beat(sequence=2**64 - 1)),
    "port-zero": ("machine", "out-of-bounds", hello(port=0)),
    "port-65536": ("machine", "out-of-bounds", hello(port=65536)),
    "name-empty": ("machine", "out-of-bounds", hello(name="")),
    "name-too-long": ("machine", "out-of-bounds", hello(name="a" * 64)),
    "name-escape-sequence": ("machine", "bad-shape", hello(name="a\x1b[2Jb")),
    "host-second-endpoint": ("machine", "bad-shape", hello(host="a;tcp://b")),
    "line-with-newline": ("machine", "bad-shape", packed(3, {"reason": "a\nb"})),
    "line-too-long": ("machine", "out-of-bounds", packed(3, {"reason": "a" * 1001})),
    "job-upper-case": ("machine", "bad-shape", propose(job="0F" * 16)),
    "job-too-short": ("machine", "out-of-bounds", propose(job="0f" * 15)),
    "blob-not-hex": ("machine", "bad-shape", packed(34, {"blob": "zz" * 32})),
    "key-not-z85": ("machine", "bad-shape", propose(members=["~" * 40])),
    "key-too-long": ("machine", "out-of-bounds", propose(members=["a" * 41])),
    "members-257": ("machine", "out-of-bounds", propose(members=["a" * 40] * 257)),
    "digest-of-31-bytes": ("machine", "out-of-bounds", MANIFEST_OF_31),
    "loss-nan": ("worker", "out-of-bounds", progress(loss=float("nan"))),
    "loss-infinite": ("worker", "out-of-bounds", progress(loss=float("inf"))),
    "accuracy-above-1": ("worker", "out-of-bounds", progress(accuracy=1.5)),
    "path-relative": ("worker", "bad-shape", RELATIVE_PATH),
    "bulk-empty": ("bulk", "not-meshd", b""),
    "bulk-other-magic": ("bulk", "not-meshd", bulk_frame(magic=b"mD")),
    "bulk-version-newer": ("bulk", "version", bulk_frame(version=2)),
    "bulk-cut": ("bulk", "malformed", bulk_frame()[:-1]),
    "bulk-trailing-byte": ("bulk", "malformed", bulk_frame() + b"\0"),
    "bulk-step-2-53": ("bulk", "malformed", bulk_frame(step=2**53)),
    "bulk-payload-too-large": ("bulk", "oversize", bulk_frame(size=(64 << 20) + 1)),
}  # fmt: skip


def decode_on(link: str, data: bytes) -> Any:
    return bulk.unpack(data) if link == "bulk" else codec.decode(data, Family[link.upper()])


# --- tests ---------------------------------------------------------------------------------------

GOLDEN = sorted(p for p in FRAMES.glob("*/*.json") if p.parent.name != "reject")


@pytest.mark.parametrize("path", GOLDEN, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_golden_frame_both_ways(path: Path) -> None:
    kind = KINDS[path.parent.name]
    shown = json.loads(path.read_text())
    message = from_json(kind, shown)
    frame = read_hex(path.with_suffix(".hex"))
    assert encode(message) == frame
    decoded = bulk.unpack(frame) if kind is BulkHeader else codec.decode(frame)
    assert decoded == message and type(decoded) is kind
    assert to_json(decoded) == shown


def test_every_message_has_a_golden_frame() -> None:
    assert {p.parent.name for p in GOLDEN} == set(KINDS)
    assert all(p.with_suffix(".hex").exists() for p in GOLDEN)
    assert len(list(FRAMES.glob("*/*.hex"))) == len(list(FRAMES.glob("*/*.json")))


@pytest.mark.parametrize("name", REJECTS)
def test_frame_is_rejected_with_its_code(name: str) -> None:
    about = json.loads((FRAMES / "reject" / f"{name}.json").read_text())
    frame = read_hex(FRAMES / "reject" / f"{name}.hex")
    assert (about["link"], about["code"], frame) == REJECTS[name], "run --rewrite, read the diff"
    with pytest.raises(RemoteProtocolError) as caught:
        decode_on(about["link"], frame)
    assert caught.value.code == about["code"], str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_other_rejects_lie_about() -> None:
    assert {p.stem for p in (FRAMES / "reject").iterdir()} == set(REJECTS)


def test_every_code_of_a_frame_is_a_sentence_in_the_readme() -> None:
    readme = (FRAMES.parent / "README.md").read_text()
    for code in sorted({code for _, code, _ in REJECTS.values()}):
        assert f"| `{code}` |" in readme, code


def test_a_version_that_differs_is_named_on_both_sides() -> None:
    for version, lags in ((0, "update meshd on the peer"), (2, "update meshd on this machine")):
        with pytest.raises(RemoteProtocolError) as caught:
            codec.decode(raw(3, b"", version=version))
        assert f"speaks protocol {version}, this machine 1" in str(caught.value)
        assert lags in str(caught.value)


def rewrite() -> None:
    for path in GOLDEN:
        message = from_json(KINDS[path.parent.name], json.loads(path.read_text()))
        write_hex(path.with_suffix(".hex"), encode(message))
    folder = FRAMES / "reject"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for name, (link, code, frame) in REJECTS.items():
        about = {"link": link, "code": code}
        (folder / f"{name}.json").write_text(json.dumps(about) + "\n")
        write_hex(folder / f"{name}.hex", frame)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rewrite", action="store_true", required=True)
    parser.parse_args()
    rewrite()
    sys.exit(0)
