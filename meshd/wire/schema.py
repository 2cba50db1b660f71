"""The table: every message's number and every field's limits. `proto/messages.toml` is the
contract; a test holds the two against each other and against the dataclasses.

A field's kind comes from its annotation. Where that does not say enough (plain text, bytes,
tuples, numbers with closer bounds), LIMITS does, by class and field. Text, bytes and tuples
without an entry are an error at import: nothing on the wire is unbounded.
"""

from __future__ import annotations

import dataclasses
import enum
import typing
from typing import Any

from meshd.core import messages as m
from meshd.core.types import BlobId, Generation, JobId, MachineKey, Rank, Step
from meshd.wire import limits as n
from meshd.wire.kinds import Flag, Kind, Many, Raw, Real, Record, Text, Whole

NUMBERS: dict[int, type[Any]] = {
    1: m.Hello,
    2: m.Heartbeat,
    3: m.Goodbye,
    10: m.JobUpdate,
    11: m.Propose,
    12: m.Ready,
    13: m.Refuse,
    15: m.Abort,
    16: m.Progress,
    17: m.CheckpointPart,
    18: m.Finished,
    19: m.RingProposal,
    20: m.RingAck,
    21: m.RingPlan,
    22: m.RingComplaint,
    23: m.RingLeave,
    30: m.ManifestRequest,
    31: m.Manifest,
    32: m.BlockRequest,
    33: m.Block,
    34: m.BlobMissing,
    100: m.WorkerPlan,
    101: m.WorkerReady,
    103: m.WorkerProgress,
    104: m.WorkerCheckpoint,
    105: m.WorkerFinished,
    106: m.WorkerFailed,
    107: m.WorkerDismissed,
    150: m.LocalRequest,
    151: m.LocalBody,
    152: m.LocalReply,
}
"""Message numbers; never reused, not even for a message that is gone (14, 102)."""

OF_THE_RING = frozenset(range(19, 24))
"""Machine messages that a daemon hands on between captain and worker."""


class Family(enum.Enum):
    """Which messages a link carries; anything else on it is refused as `wrong-link`."""

    MACHINE = frozenset(range(1, 100))
    WORKER = frozenset(range(100, 150)) | OF_THE_RING
    LOCAL = frozenset(range(150, 200))


BY_NEWTYPE: dict[Any, Kind] = {
    MachineKey: Text("key", 40, 40),
    JobId: Text("job", 32, 32),
    BlobId: Text("blob", 64, 64),
    Generation: Whole(0, 2**32 - 1),  # a u32 in the bulk header
    Step: Whole(),
    Rank: Whole(0, n.MAX_MEMBERS - 1),
}
BY_TYPE: dict[Any, Kind] = {bool: Flag(), int: Whole(), float: Real()}

_LINE = Text("line", n.MAX_LINE_BYTES)
_NAME = Text("name", n.MAX_NAME_BYTES, 1)
_HOST = Text("host", n.MAX_HOST_BYTES)
_PATH = Text("path", n.MAX_PATH_BYTES)
_PORT = Whole(1, 65_535)
_KEY_OR_NONE = Text("key-or-empty", 40)
_BLOB_OR_NONE = Text("blob-or-empty", 64)
_SPEC = Text("text", n.MAX_SPEC_BYTES)
_VERSION = Text("name", 32, 1)
_HASH = Text("hex", 128)
_ACCURACY = Real(-1.0, 1.0)  # -1: not evaluated yet
_SECONDS = Real(0.0, 1e12)
_STATE = Text("state", 16, 1)
_SLICE = Whole(0, n.MAX_SLICES - 1)
_SLICES = Whole(0, n.MAX_SLICES)
_BLOB_BYTES = Whole(0, n.MAX_BLOB_BYTES)
_INDICES = Many(_SLICE, n.MAX_SLICES)
_COPIES = Whole(1, n.MAX_MEMBERS)
_PLACE = Whole(0, n.MAX_MEMBERS - 1)
_SPEED = Real(0.0, 1e12)

LIMITS: dict[tuple[type[Any], str], Kind | int] = {
    (m.RingMember, "name"): _NAME,
    (m.RingMember, "host"): _HOST,
    (m.RingMember, "port"): _PORT,
    (m.RingName, "captain"): _KEY_OR_NONE,
    (m.RingTransfer, "cargo"): Whole(1, 255),
    (m.RingTransfer, "index"): _SLICE,
    (m.RingTransfer, "donor"): _PLACE,
    (m.RingTransfer, "receiver"): _PLACE,
    (m.RingShape, "sizes"): n.MAX_SLICES,
    (m.RingShape, "buckets"): n.MAX_SLICES,
    (m.RingShape, "weights"): n.MAX_SLICES,
    (m.RingShape, "copies"): _COPIES,
    (m.SliceBlob, "slice"): _SLICE,
    (m.Checkpoint, "slices"): n.MAX_SLICES,
    (m.Checkpoint, "carried"): n.MAX_MEMBERS,
    (m.MemberResult, "name"): _NAME,
    (m.MemberResult, "accuracy"): _ACCURACY,
    (m.MemberResult, "weight_hash"): _HASH,
    (m.JobProgress, "accuracy"): _ACCURACY,
    (m.JobProgress, "seconds"): _SECONDS,
    (m.JobRecord, "spec"): _SPEC,
    (m.JobRecord, "data_bytes"): _BLOB_BYTES,
    (m.JobRecord, "submitted_at"): _SECONDS,
    (m.JobRecord, "state"): _STATE,
    (m.JobRecord, "reason"): _LINE,
    (m.JobRecord, "members"): n.MAX_MEMBERS,
    (m.JobRecord, "results"): n.MAX_MEMBERS,
    (m.JobRecord, "captain"): _KEY_OR_NONE,
    (m.Hello, "protocol"): Whole(0, 255),
    (m.Hello, "name"): _NAME,
    (m.Hello, "host"): _HOST,
    (m.Hello, "port"): _PORT,
    (m.Hello, "version"): _VERSION,
    (m.Heartbeat, "why"): _LINE,
    (m.Goodbye, "reason"): _LINE,
    (m.Propose, "members"): n.MAX_MEMBERS,
    (m.Ready, "port"): _PORT,
    (m.Refuse, "reason"): _LINE,
    (m.Abort, "lost"): _KEY_OR_NONE,
    (m.Abort, "reason"): _LINE,
    (m.CheckpointPart, "slices"): n.MAX_SLICES,
    (m.CheckpointPart, "carried"): _BLOB_OR_NONE,
    (m.CheckpointPart, "slice_count"): _SLICES,
    (m.RingProposal, "members"): n.MAX_MEMBERS,
    (m.RingAck, "past"): n.MAX_MEMBERS,
    (m.RingAck, "step"): Whole(-1),
    (m.RingAck, "history"): n.MAX_HISTORY,
    (m.RingAck, "held"): _INDICES,
    (m.RingAck, "going"): _INDICES,
    (m.RingAck, "speed"): _SPEED,
    (m.RingPlan, "members"): n.MAX_MEMBERS,
    (m.RingPlan, "machines"): n.MAX_MEMBERS,
    (m.RingPlan, "history"): n.MAX_HISTORY,
    (m.RingPlan, "owners"): n.MAX_SLICES,
    (m.RingPlan, "copies"): _COPIES,
    (m.RingPlan, "shared"): _INDICES,
    (m.RingPlan, "weights"): Many(_SPEED, n.MAX_MEMBERS),
    (m.RingPlan, "transfers"): n.MAX_TRANSFERS,
    (m.RingPlan, "thrown_away"): n.MAX_MEMBERS,
    (m.RingComplaint, "about"): _KEY_OR_NONE,
    (m.RingComplaint, "why"): _LINE,
    (m.RingLeave, "why"): _LINE,
    (m.Manifest, "size"): _BLOB_BYTES,
    (m.Manifest, "digests"): Many(Raw(32, 32), n.MAX_BLOCKS),
    (m.BlockRequest, "index"): Whole(0, n.MAX_BLOCKS - 1),
    (m.Block, "index"): Whole(0, n.MAX_BLOCKS - 1),
    (m.Block, "data"): Raw(n.BLOCK_BYTES),
    (m.SliceFile, "slice"): _SLICE,
    (m.SliceFile, "path"): _PATH,
    (m.WorkerPlan, "spec"): _SPEC,
    (m.WorkerPlan, "state_folder"): _PATH,
    (m.WorkerPlan, "scratch_folder"): _PATH,
    (m.WorkerPlan, "data_path"): _PATH,
    (m.WorkerPlan, "bind_host"): _HOST,
    (m.WorkerPlan, "threads"): Whole(1, 4096),
    (m.WorkerPlan, "slices"): n.MAX_SLICES,
    (m.WorkerPlan, "carried_path"): _PATH,
    (m.WorkerReady, "port"): _PORT,
    (m.WorkerCheckpoint, "slices"): n.MAX_SLICES,
    (m.WorkerCheckpoint, "carried_path"): _PATH,
    (m.WorkerCheckpoint, "slice_count"): _SLICES,
    (m.WorkerFinished, "weight_hash"): _HASH,
    (m.WorkerFinished, "model_path"): _PATH,
    (m.WorkerFailed, "reason"): _LINE,
    (m.WorkerFailed, "blames"): _KEY_OR_NONE,
    (m.LocalRequest, "command"): Text("word", 32, 1),
    (m.LocalRequest, "arguments"): Text("text", n.MAX_ARGUMENTS_BYTES),
    (m.LocalBody, "data"): Raw(n.BLOCK_BYTES),
    (m.LocalReply, "code"): Whole(0, 255),
    (m.LocalReply, "message"): Text("line", 4 * n.MAX_LINE_BYTES),
    (m.LocalReply, "body"): Text("text", n.MAX_REPLY_BYTES),
}
"""Limits by class and field; for a tuple whose items need none, how many of them."""


def _field_kind(cls: type[Any], name: str, annotation: Any) -> Kind:
    limit = LIMITS.get((cls, name))
    if limit is not None and not isinstance(limit, int):
        return limit
    if typing.get_origin(annotation) is tuple:
        item, rest = typing.get_args(annotation)
        if rest is not Ellipsis or limit is None:
            raise TypeError(f"{cls.__name__}.{name}: a tuple needs '...' and a limit in LIMITS")
        return Many(_plain_kind(cls, name, item), limit)
    return _plain_kind(cls, name, annotation)


def _plain_kind(cls: type[Any], name: str, annotation: Any) -> Kind:
    for table in (BY_NEWTYPE, BY_TYPE):
        if annotation in table:
            return table[annotation]
    if dataclasses.is_dataclass(annotation):
        return record(typing.cast(type[Any], annotation))
    raise TypeError(f"{cls.__name__}.{name}: {annotation} needs an entry in LIMITS")


_records: dict[type[Any], Record] = {}


def record(cls: type[Any]) -> Record:
    """The compiled kind of a message or of a part of one."""
    if cls not in _records:
        hints = typing.get_type_hints(cls)
        fields = {f.name: _field_kind(cls, f.name, hints[f.name]) for f in dataclasses.fields(cls)}
        _records[cls] = Record(cls, fields)
    return _records[cls]
