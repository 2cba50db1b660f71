"""What this machine knows of its part in one attempt at a job; `meshd.core.member` moves it on."""

from __future__ import annotations

from dataclasses import dataclass, field

from meshd.core.job import NO_RING_NAME
from meshd.core.messages import (
    Finished,
    JobProgress,
    Ready,
    RingMember,
    RingName,
    RingPlan,
)
from meshd.core.types import BlobId, Generation, JobId, MachineKey, Step


@dataclass
class Membership:
    """This machine in one attempt."""

    job: JobId
    name: str
    generation: Generation
    captain: MachineKey
    step: Step
    wanted: set[BlobId]
    """Blobs that are not held yet."""
    carried: BlobId
    proposed: tuple[RingMember, ...]
    asked_at: float
    control_base: int
    """The control links' byte counter when the membership began."""
    said_at: float
    stage: str = "fetches"
    joins: bool = False
    """It came while the job trained."""
    plan: RingPlan | None = None
    """The last ring with this machine in it that its worker was told of."""
    newest: RingName = NO_RING_NAME
    """The highest ring that its worker was asked for."""
    ready: Ready | None = None
    answered: bool = False
    """READY was sent."""
    finished: Finished | None = None
    progress: JobProgress | None = None
    progress_at: float = float("-inf")
    pieces: dict[Step, frozenset[BlobId]] = field(default_factory=dict)
    """Blobs of the last two checkpoints that this machine wrote."""
    told: MachineKey = MachineKey("")
    """Who got FINISHED."""
    exited: bool = False
    """The worker is gone, after it finished."""
    leaves: str = ""
    """Why this machine wants to go, and until when it may hand over; None if it does not."""
    leaves_at: float | None = None
    left_said_at: float = 0.0

    def ring_id(self) -> tuple[JobId, Generation, MachineKey]:
        """What names the attempt; a job's generation may have been proposed by two captains."""
        return self.job, self.generation, self.captain
