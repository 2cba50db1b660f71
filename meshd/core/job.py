"""A job's life: every change of state is a row of this table, and replicas of a record only merge.

        submit           form            commit          finish
    * --------> waiting ------> forming -------> training -------> done
                   ^               |                 |
                   |--- abandon ---|                 |--- stop ---> stopped ---resume---> waiting
              (generation + 1)     |--- stop / fail  |--- fail ---> failed       (generation + 1)

    cancel leads from every state that is not final to `cancelled`, for ever.

A replica of the record lies on every machine. Nobody votes on it: `merge` takes the later of two
states by a total order that every row of the table climbs, so it does not matter in which order or
how often records arrive (a join semilattice; Shapiro et al. 2011, "Conflict-free replicated data
types").

    order = (cancelled, generation, rank of the state, ring, step, captain, stalled, rest as text)

Within one generation, which is one attempt, the ring may change many times while the job trains
(`reform`): each new one is higher than the last. A ring that cannot be formed leaves the record in
the state `training` with a sentence (`stall`), until the next one.

The checkpoint is a lattice of its own beside it: a complete checkpoint stays true whatever became
of the generation that wrote it, so the later one survives a merge with a later state. The end of a
stopped job's sentence (`onward`) says from where it would go on: it follows the checkpoint, and has
no part in the order.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass, replace
from typing import Any

from meshd.core.errors import LocalProtocolError, RemoteProtocolError, UsageError
from meshd.core.jobspec import JobSpec, parse_json
from meshd.core.messages import (
    CarriedBlob,
    Checkpoint,
    JobRecord,
    RingMember,
    RingName,
    SliceBlob,
)
from meshd.core.text import one_line
from meshd.core.types import BlobId, Generation, JobId, MachineKey, Step

# state -> {event: next state}
TRANSITIONS: dict[str, dict[str, str]] = {
    "waiting": {"form": "forming", "stop": "stopped", "fail": "failed", "cancel": "cancelled"},
    "forming": {
        "commit": "training",
        "abandon": "waiting",
        "stop": "stopped",
        "fail": "failed",
        "cancel": "cancelled",
    },
    "training": {"finish": "done", "stop": "stopped", "fail": "failed", "cancel": "cancelled"},
    "stopped": {"resume": "waiting", "cancel": "cancelled"},
    "failed": {},
    "done": {},
    "cancelled": {},
}
NEXT_GENERATION = {"abandon", "resume"}
"""Events that go back in the table, and therefore up in the generation."""

RANK = {state: rank for rank, state in enumerate(TRANSITIONS)}
"""Place of a state within one generation; every event but those of NEXT_GENERATION climbs."""

FINAL = {state for state, events in TRANSITIONS.items() if not events}
RUNNING = {"forming", "training"}

MAX_DATA_BYTES = 64 * 2**30  # a blob's manifest then has 2 MiB, which still fits a control frame
MAX_MEMBERS = 256
MAX_SLICES = 4096  # 16 for each of the most members, far finer than needed
MAX_GENERATION = 2**31  # a ring a second for 68 years; a u32 carries it


def job_id(spec: str, data: BlobId, data_bytes: int, submitter: MachineKey, at: float) -> JobId:
    """BLAKE2b-128 (RFC 7693) over the immutable head as canonical JSON."""
    head = json.dumps([spec, data, data_bytes, submitter, float(at).hex()], separators=(",", ":"))
    return JobId(hashlib.blake2b(head.encode(), digest_size=16, person=b"meshd job").hexdigest())


def new_record(
    spec: str, data: BlobId, data_bytes: int, submitter: MachineKey, at: float
) -> JobRecord:
    """A job as it is submitted: it waits for its first generation."""
    return JobRecord(
        job=job_id(spec, data, data_bytes, submitter, at),
        spec=spec,
        data=data,
        data_bytes=data_bytes,
        submitter=submitter,
        submitted_at=at,
        reason="waits for a captain to look for machines",
        generation=Generation(1),
    )


def advance(record: JobRecord, event: str, reason: str, **changes: Any) -> JobRecord:
    """Apply one row of the table.

    Args:
        record: the state before.
        event: a key of `TRANSITIONS[record.state]`.
        reason: one sentence for `status`.
        changes: other fields of the record.

    Raises:
        LocalProtocolError: the table has no such row; a defect of the caller.
    """
    state = TRANSITIONS[record.state].get(event)
    if state is None:
        raise LocalProtocolError(f"job {record.job[:8]} is {record.state}: cannot {event}")
    if event in NEXT_GENERATION:
        changes |= {
            "generation": Generation(record.generation + 1),
            "captain": MachineKey(""),
            "members": (),
            "ring": NO_RING_NAME,
            "step": record.checkpoint.step,
        }
    return replace(record, state=state, reason=one_line(reason), **changes)


STALLED = "stalled: "
NO_RING_NAME = RingName(Generation(0), MachineKey(""))


def reform(
    record: JobRecord, ring: RingName, members: tuple[RingMember, ...], step: Step, reason: str
) -> JobRecord:
    """The same attempt in a new ring, which goes on from `step`.

    Raises:
        LocalProtocolError: the job does not train, or the ring is not a later one.
    """
    if record.state != "training" or ring <= record.ring:
        raise LocalProtocolError(f"job {record.job[:8]}: {ring} cannot follow {record.ring}")
    return replace(record, ring=ring, members=members, step=step, reason=one_line(reason))


def stall(record: JobRecord, why: str) -> JobRecord:
    """The same ring, whose members wait for what they need to go on.

    Raises:
        LocalProtocolError: the job does not train.
    """
    if record.state != "training":
        raise LocalProtocolError(f"job {record.job[:8]} is {record.state}: cannot stall")
    return replace(record, reason=one_line(f"{STALLED}{why}"))


def is_stalled(record: JobRecord) -> bool:
    """Whether a job that trains waits for what its ring needs."""
    return record.state == "training" and record.reason.startswith(STALLED)


def onward(step: Step) -> str:
    """What `meshd resume` does with a job whose checkpoint has this step."""
    return f"goes on from step {step}" if step else "starts again from the beginning"


_ONWARD = re.compile(r"(?<=` )(goes on from step \d+|starts again from the beginning)$")


def can(record: JobRecord, event: str) -> bool:
    """Whether the table has a row for this event."""
    return event in TRANSITIONS[record.state]


# --- merging -------------------------------------------------------------------------------------


def captain_order(job: JobId, key: MachineKey) -> bytes:
    """The lowest of these among the machines that are alive is the job's captain.

    A digest of both, so that the work of captains spreads evenly over the machines.
    """
    digest = hashlib.blake2b(f"{job}:{key}".encode(), digest_size=16, person=b"meshd captain")
    return digest.digest()


@dataclass(frozen=True)
class Order:
    """The total order of states of one job, as a sort key of plain values."""

    key: tuple[bool, int, int, RingName, int, int, bool, str]


def order(record: JobRecord) -> Order:
    """Where a record's state lies in the total order; equal only for equal states."""
    captain = 0
    if record.captain:
        captain = (1 << 128) - int.from_bytes(captain_order(record.job, record.captain), "big")
    reason = _ONWARD.sub("", record.reason)
    rest = repr(
        (reason, record.members, record.steps, record.results, record.parameters, record.began)
    )
    return Order(
        (
            record.state == "cancelled",
            record.generation,
            RANK[record.state],
            record.ring,
            record.step,
            captain,
            record.reason.startswith(STALLED),
            rest,
        )
    )


def merge_checkpoints(a: Checkpoint, b: Checkpoint) -> Checkpoint:
    """The later checkpoint; of one and the same, all the carried errors that either names.

    Two that differ at the same step cannot both be right (the collector fails such a job); here the
    greater text wins, so that replicas converge all the same.
    """
    if a.step != b.step:
        return a if a.step > b.step else b
    if a.slices != b.slices:
        return a if repr(a.slices) > repr(b.slices) else b
    carried: dict[MachineKey, BlobId] = {}
    for part in (*a.carried, *b.carried):
        carried[part.key] = max(part.blob, carried.get(part.key, BlobId("")))
    parts = tuple(CarriedBlob(key, carried[key]) for key in sorted(carried))
    return replace(a, carried=parts)


def merge(a: JobRecord, b: JobRecord) -> JobRecord:
    """The join of two replicas: commutative, associative, idempotent, never below either.

    Raises:
        RemoteProtocolError: code `bad-record`: the immutable heads differ.
    """
    if head(a) != head(b):
        raise RemoteProtocolError("bad-record", f"two jobs claim the id {a.job[:8]}")
    later = a if order(a).key >= order(b).key else b
    checkpoint = merge_checkpoints(a.checkpoint, b.checkpoint)
    reason = _ONWARD.sub(onward(checkpoint.step), later.reason)
    return replace(later, checkpoint=checkpoint, reason=one_line(reason))


def head(record: JobRecord) -> tuple[object, ...]:
    """The immutable part: what was asked, by whom, on which data."""
    return (
        record.job,
        record.spec,
        record.data,
        record.data_bytes,
        record.submitter,
        record.submitted_at,
    )


# --- checking ------------------------------------------------------------------------------------


def check_record(record: JobRecord) -> JobSpec:
    """Check a record that a peer sent or that lay on disk; returns its parsed spec.

    Raises:
        RemoteProtocolError: code `bad-record`, with the first thing that is wrong.
    """
    try:
        spec = parse_json(record.spec)
    except UsageError as error:
        raise _bad(record, str(error)) from None
    at = (record.spec, record.data, record.data_bytes, record.submitter, record.submitted_at)
    if not math.isfinite(record.submitted_at) or record.job != job_id(*at):
        raise _bad(record, "its id is not the digest of its head")
    if record.state not in TRANSITIONS:
        raise _bad(record, "unknown state")
    if not 1 <= record.generation <= MAX_GENERATION:
        raise _bad(record, f"generation {record.generation} is out of bounds")
    if not 0 < record.data_bytes <= MAX_DATA_BYTES:
        raise _bad(record, f"data of {record.data_bytes} bytes")
    if record.reason != one_line(record.reason):
        raise _bad(record, "its reason is not one line")
    if min(record.step, record.steps, record.checkpoint.step, record.parameters, record.began) < 0:
        raise _bad(record, "negative steps")
    _check_lists(record)
    return spec


def _check_lists(record: JobRecord) -> None:
    members = [member.key for member in record.members]
    if len(members) > MAX_MEMBERS or len(set(members)) != len(members):
        raise _bad(record, "too many members, or one twice")
    if bool(record.captain) != bool(members) and record.state in RUNNING:
        raise _bad(record, "a ring without captain or members")
    if bool(record.ring.generation) != bool(record.ring.captain):
        raise _bad(record, "a ring without its captain or its number")
    if len(record.results) > MAX_MEMBERS or len(record.checkpoint.carried) > MAX_MEMBERS:
        raise _bad(record, "too many results or carried errors")
    if not whole(record.checkpoint.slices):
        raise _bad(record, "its checkpoint lacks a slice")
    holders = [part.key for part in record.checkpoint.carried]
    if holders != sorted(set(holders)):
        raise _bad(record, "its carried errors are not in order")


def whole(slices: tuple[SliceBlob, ...]) -> bool:
    """Whether a checkpoint's list names the slices 0..n-1 in order, each once."""
    return len(slices) <= MAX_SLICES and all(
        part.slice == index for index, part in enumerate(slices)
    )


def _bad(record: JobRecord, what: str) -> RemoteProtocolError:
    return RemoteProtocolError("bad-record", f"record of job {record.job[:8]}: {what}")
