"""What the daemon tells the node about a worker, besides the worker's own messages.

The worker speaks of files; the node only knows blobs. So the daemon takes the files over into its
blob store first, and tells the node of the blobs.
"""

from __future__ import annotations

from dataclasses import dataclass

from meshd.core.messages import (
    JobProgress,
    RingAck,
    RingComplaint,
    SliceBlob,
    WorkerDismissed,
    WorkerFailed,
    WorkerProgress,
    WorkerReady,
)
from meshd.core.types import BlobId, Step


@dataclass(frozen=True)
class CheckpointSaved:
    """A WorkerCheckpoint whose files are now blobs. `carried`: empty where there is none."""

    step: Step
    slices: tuple[SliceBlob, ...]
    carried: BlobId
    slice_count: int


@dataclass(frozen=True)
class ModelSaved:
    """A WorkerFinished whose model is now a blob."""

    progress: JobProgress
    weight_hash: str
    model: BlobId


@dataclass(frozen=True)
class WorkerExited:
    """The process is gone. `reason` completes "the worker on desk-2 ...": "was killed by ..."."""

    reason: str


WorkerEvent = (
    WorkerReady
    | WorkerProgress
    | CheckpointSaved
    | ModelSaved
    | WorkerFailed
    | WorkerDismissed
    | RingAck
    | RingComplaint
    | WorkerExited
)
