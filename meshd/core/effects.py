"""What the node asks for: the core decides, and only `meshd/daemon` acts.

An effect is a wish in the imperative, complete in itself: whoever performs it needs to know nothing
of why. What came of it comes back as an input (a message, a worker's event, a blob that is held).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from meshd.core.messages import JobRecord, RingLeave, RingPlan, RingProposal, SliceBlob
from meshd.core.types import BlobId, Generation, JobId, MachineKey, Step


@dataclass(frozen=True)
class Send:
    """Hand a message to the link to this machine; without a link it is dropped."""

    key: MachineKey
    message: object


@dataclass(frozen=True)
class Connect:
    """Open (or move) the link to this machine; its CURVE key is the one that is expected there."""

    key: MachineKey
    host: str
    port: int


@dataclass(frozen=True)
class Disconnect:
    """Close the link to this machine."""

    key: MachineKey


@dataclass(frozen=True)
class SaveRecord:
    """Write the job's record to disk, in place of an older one."""

    record: JobRecord


@dataclass(frozen=True)
class ForgetJob:
    """Remove the job's folder: record and log."""

    job: JobId


@dataclass(frozen=True)
class FetchBlob:
    """Have this blob on disk: at once if it is, else from these machines, the first first.

    Comes back as `Node.blob_held` or `Node.blob_missing`. No holders: look on this disk only.
    """

    blob: BlobId
    holders: tuple[MachineKey, ...]
    size: int
    """Bytes that it must have; -1 where unknown."""


@dataclass(frozen=True)
class StopFetch:
    """This blob is no longer wanted."""

    blob: BlobId


@dataclass(frozen=True)
class PinBlobs:
    """From now on these blobs, and no others, may not be evicted from the cache.

    What was pinned before and is neither here nor in `cached` is of no use any more (a superseded
    checkpoint): it goes at once. At the first time that holds for everything else on the disk.
    """

    blobs: frozenset[BlobId]
    cached: frozenset[BlobId]
    """Data of known jobs, which the next job may use again: stays as long as there is room."""


@dataclass(frozen=True)
class StartWorker:
    """Start the worker of one generation; all blobs named here are held."""

    job: JobId
    generation: Generation
    spec: str
    data: BlobId
    step: Step
    slices: tuple[SliceBlob, ...]
    carried: BlobId
    """Empty: the carried error starts from zero."""
    joins: bool = False
    """It starts with nothing, and gets its state from the ring; `slices` is empty then."""


@dataclass(frozen=True)
class TellWorker:
    """Hand a message of the ring to the worker of this generation."""

    job: JobId
    generation: Generation
    message: RingProposal | RingPlan | RingLeave


@dataclass(frozen=True)
class StopWorker:
    """End the worker of this generation; its exit is not news any more."""

    job: JobId
    generation: Generation
    reason: str
    grace_s: float = 0.0
    """How long it may still take to exit by itself, before it is killed."""


@dataclass(frozen=True)
class LogJob:
    """A line for the job's log on this machine."""

    job: JobId
    text: str


@dataclass(frozen=True)
class Note:
    """A line for the daemon's own log."""

    text: str


Effect = (
    Send
    | Connect
    | Disconnect
    | SaveRecord
    | ForgetJob
    | FetchBlob
    | StopFetch
    | PinBlobs
    | StartWorker
    | TellWorker
    | StopWorker
    | LogJob
    | Note
)


class Outbox:
    """Collects effects in order. What is sent to this machine itself stays here, for `Node`."""

    def __init__(self, own_key: MachineKey) -> None:
        self._own_key = own_key
        self._effects: list[Effect] = []
        self.to_self: list[object] = []

    def add(self, effect: Effect) -> None:
        """Ask for one effect."""
        self._effects.append(effect)

    def send(self, key: MachineKey, message: object) -> None:
        """Send to one machine, which may be this one."""
        if key == self._own_key:
            self.to_self.append(message)
        else:
            self._effects.append(Send(key, message))

    def send_all(self, keys: Iterable[MachineKey], message: object) -> None:
        """Send to each of these machines but this one."""
        for key in keys:
            if key != self._own_key:
                self._effects.append(Send(key, message))

    def drain(self) -> list[Effect]:
        """All effects since the last call."""
        effects, self._effects = self._effects, []
        return effects
