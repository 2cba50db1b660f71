"""One frozen dataclass for each message; `proto/messages.toml` is the contract they are tested on.

Numbers and limits live in the contract and in `meshd/wire`; this file says what a message means.
Three families: machine to machine over control links (1..99), daemon and worker over a socket pair
(100..149), command line to daemon (150..199). 19..23, captain and workers, go over the first two.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from meshd.core.types import BlobId, Generation, JobId, MachineKey, Rank, Step

# --- parts of messages ---------------------------------------------------------------------------


@dataclass(frozen=True)
class RingMember:
    """One member of a committed ring and where its bulk link listens."""

    key: MachineKey
    name: str
    host: str
    port: int


@dataclass(frozen=True, order=True)
class RingName:
    """Names one ring of an attempt; the higher one counts. `salt`: of the captain's process."""

    generation: Generation
    captain: MachineKey
    salt: int = 0


@dataclass(frozen=True)
class RingPast:
    """A ring that committed steps, and the number of the first one, from 0."""

    ring: RingName
    step: Step


@dataclass(frozen=True)
class RingTransfer:
    """What one machine sends another before a ring goes on (`meshd.core.ring.agreement.Cargo`).
    index: a slice, or 0. donor, receiver: places in `RingPlan.machines`."""

    cargo: int
    index: int
    donor: int
    receiver: int


@dataclass(frozen=True)
class ThrownAway:
    """Committed steps that a machine has to forget, since the others' history is another one."""

    key: MachineKey
    steps: int


@dataclass(frozen=True)
class RingShape:
    """The job's slices as the captain needs them; see `meshd.core.ring.plan.Shape`. Bytes."""

    sizes: tuple[int, ...] = ()
    buckets: tuple[int, ...] = ()
    weights: tuple[int, ...] = ()
    copies: int = 1
    statistics: bool = False
    carries: bool = True


@dataclass(frozen=True)
class SliceBlob:
    """A slice's latents and optimizer state in one checkpoint. `slice`: index in the slice map."""

    slice: int
    blob: BlobId


@dataclass(frozen=True)
class CarriedBlob:
    """A member's carried error in one checkpoint, which only that member holds."""

    key: MachineKey
    blob: BlobId


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint: all slices of the state after `step` committed steps."""

    step: Step
    slices: tuple[SliceBlob, ...]
    carried: tuple[CarriedBlob, ...]


@dataclass(frozen=True)
class MemberResult:
    """What one member reports when a job is done. Bytes are counted where they are sent."""

    key: MachineKey
    name: str
    accuracy: float
    weight_hash: str
    bytes_sent: int
    model: BlobId


@dataclass(frozen=True)
class JobProgress:
    """How far a ring is. `loss` is the member's own mean over the last steps; accuracy in 0..1,
    or -1 before the first evaluation. `bytes_sent`: by this member since the job started."""

    step: Step
    epoch: int
    loss: float
    accuracy: float
    seconds: float
    bytes_sent: int


@dataclass(frozen=True)
class JobRecord:
    """A job: an immutable head (what is asked) and monotone state (how far it is).

    The head is named by `job`; `meshd.core.job` says which of two states is the later one.
    """

    job: JobId
    spec: str
    """Canonical JSON of `meshd.core.jobspec.JobSpec`."""
    data: BlobId
    data_bytes: int
    submitter: MachineKey
    submitted_at: float
    """Unix time, seconds, of the submitter's clock; orders the queue, nothing else."""
    state: str = "waiting"
    reason: str = ""
    generation: Generation = Generation(0)
    members: tuple[RingMember, ...] = ()
    step: Step = Step(0)
    steps: int = 0
    """Steps of the whole job; 0 while unknown."""
    checkpoint: Checkpoint = Checkpoint(Step(0), (), ())
    results: tuple[MemberResult, ...] = ()
    captain: MachineKey = MachineKey("")
    """Who proposed this generation, empty while the job waits: the two together name an attempt."""
    parameters: int = 0
    """Trainable numbers of the network; 0 while unknown."""
    began: Step = Step(0)
    """The step from which this generation goes on: what it sends is compared from here on."""
    ring: RingName = RingName(Generation(0), MachineKey(""))
    """The attempt's highest ring that was decided; `members` are its members, in ring order."""


# --- machine to machine (control links) ----------------------------------------------------------


@dataclass(frozen=True)
class Hello:
    """First message on every link: who speaks which protocol, and where it can be reached."""

    protocol: int
    name: str
    host: str
    port: int
    boot: int
    """Random number of this run of the daemon: a changed one means that it restarted."""
    version: str


@dataclass(frozen=True)
class Heartbeat:
    """Sent to every peer each period: alive, and free for a job or not, and why."""

    boot: int
    sequence: int
    available: bool
    why: str


@dataclass(frozen=True)
class Goodbye:
    """The daemon ends in an orderly way."""

    reason: str


@dataclass(frozen=True)
class JobUpdate:
    """Gossip: the sender's view of one job."""

    record: JobRecord


@dataclass(frozen=True)
class Propose:
    """The captain asks a machine to prepare for a generation of a job, or to join one."""

    job: JobId
    generation: Generation
    members: tuple[MachineKey, ...]
    """In ring order; where the job trains already, this machine is none of the record's."""


@dataclass(frozen=True)
class Ready:
    """A proposed member has the data, its worker runs and its bulk link listens on `port`."""

    job: JobId
    generation: Generation
    port: int
    steps: int
    parameters: int = 0
    shape: RingShape = RingShape()


@dataclass(frozen=True)
class Refuse:
    """A proposed member cannot take part. `fatal`: no other ring could either (broken data).
    `busy`: it has another job; nothing is wrong with this one, so no failure is counted."""

    job: JobId
    generation: Generation
    reason: str
    fatal: bool
    busy: bool = False


@dataclass(frozen=True)
class Abort:
    """This generation is over, before it trained. `lost`: who ended it, or empty."""

    job: JobId
    generation: Generation
    lost: str
    reason: str


@dataclass(frozen=True)
class Progress:
    """A member tells all machines how far it is."""

    job: JobId
    generation: Generation
    progress: JobProgress


@dataclass(frozen=True)
class CheckpointPart:
    """A member tells the ring's first member which slices of a checkpoint it holds on disk."""

    job: JobId
    generation: Generation
    step: Step
    slices: tuple[SliceBlob, ...]
    carried: BlobId
    """The sender's carried error; empty where the exchange carries none."""
    slice_count: int


@dataclass(frozen=True)
class Finished:
    """A member tells the ring's first member that its worker trained the last step."""

    job: JobId
    generation: Generation
    result: MemberResult


@dataclass(frozen=True)
class RingProposal:
    """Captain to member, and on to its worker: stop for this ring, and say what you have."""

    job: JobId
    generation: Generation
    ring: RingName
    members: tuple[MachineKey, ...]


@dataclass(frozen=True)
class RingAck:
    """A worker's answer, for the captain that asked (`to`); see `meshd.core.ring.agreement.Ack`."""

    job: JobId
    generation: Generation
    ring: RingName
    step: int
    history: tuple[RingPast, ...]
    running: RingName
    held: tuple[int, ...]
    going: tuple[int, ...]
    speed: float
    leaving: bool
    waits: bool
    past: tuple[MachineKey, ...]
    to: MachineKey


@dataclass(frozen=True)
class RingPlan:
    """Captain to member, and on to its worker: a new ring (`meshd.core.ring.agreement.Plan`)."""

    job: JobId
    generation: Generation
    ring: RingName
    members: tuple[RingMember, ...]
    """In ring order, and where their bulk links listen."""
    machines: tuple[MachineKey, ...]
    """The members, then those that leave and still send something."""
    step: Step
    history: tuple[RingPast, ...]
    owners: tuple[Rank, ...]
    """Of each slice."""
    copies: int
    shared: tuple[int, ...]
    weights: tuple[float, ...]
    transfers: tuple[RingTransfer, ...]
    thrown_away: tuple[ThrownAway, ...]


@dataclass(frozen=True)
class RingComplaint:
    """A worker says, for the captain, that its ring cannot go on. `about`: a member, or empty."""

    job: JobId
    generation: Generation
    ring: RingName
    about: MachineKey
    why: str


@dataclass(frozen=True)
class RingLeave:
    """A member's daemon to the captain: its worker is gone, or (not `gone`) wants to hand over and
    go. A daemon to its worker: hand over and go."""

    job: JobId
    generation: Generation
    gone: bool
    why: str


@dataclass(frozen=True)
class ManifestRequest:
    """Asks for a blob's manifest."""

    blob: BlobId


@dataclass(frozen=True)
class Manifest:
    """A blob's manifest: BLAKE2b-256 digests (32 bytes each) of its blocks. The blob's id is the
    digest of the manifest's canonical bytes. Empty `digests` with size 0 is the empty blob."""

    blob: BlobId
    size: int
    digests: tuple[bytes, ...]


@dataclass(frozen=True)
class BlockRequest:
    """Asks for one block of a blob."""

    blob: BlobId
    index: int


@dataclass(frozen=True)
class Block:
    """One block of a blob. The data is a msgpack bin of at most BLOCK_BYTES."""

    blob: BlobId
    index: int
    data: bytes


@dataclass(frozen=True)
class BlobMissing:
    """The machine that was asked does not hold the blob (or not that block)."""

    blob: BlobId


# --- daemon and its worker (socket pair) ---------------------------------------------------------


@dataclass(frozen=True)
class SliceFile:
    """A slice's checkpoint as a file of its own. `path` is absolute."""

    slice: int
    path: str


@dataclass(frozen=True)
class WorkerPlan:
    """Daemon to worker, first message: everything one generation of one job needs."""

    job: JobId
    spec: str
    generation: Generation
    key: MachineKey
    state_folder: str
    """Where keys and roster lie (read only) ..."""
    scratch_folder: str
    """... and where the worker may write: checkpoints, the model."""
    data_path: str
    bind_host: str
    threads: int
    step: Step
    """Resume after this many committed steps; 0 starts anew."""
    slices: tuple[SliceFile, ...]
    """All slices of the checkpoint at `step`; empty at step 0."""
    carried_path: str
    """This member's carried error at `step`; empty: zeros."""
    joins: bool = False
    """Start with nothing: the state comes from the ring."""


@dataclass(frozen=True)
class WorkerReady:
    """Worker to daemon: data loaded, bulk link listens. `steps`: of the whole job; `parameters`:
    trainable numbers of the network, for the size of the float32 ring it is compared with."""

    port: int
    steps: int
    parameters: int = 0
    shape: RingShape = RingShape()


@dataclass(frozen=True)
class WorkerProgress:
    """Worker to daemon, at most twice a second."""

    progress: JobProgress


@dataclass(frozen=True)
class WorkerCheckpoint:
    """Worker to daemon: files of the slices it holds after `step`; the daemon takes them over."""

    step: Step
    slices: tuple[SliceFile, ...]
    carried_path: str
    slice_count: int


@dataclass(frozen=True)
class WorkerFinished:
    """Worker to daemon: all steps are committed; then it exits with 0."""

    progress: JobProgress
    weight_hash: str
    model_path: str


@dataclass(frozen=True)
class WorkerFailed:
    """Worker to daemon: why it gives up; then it exits with 1. `fatal`: no other ring could help.
    `blames`: key of the ring member that is at fault, or empty."""

    reason: str
    fatal: bool
    blames: str = ""


@dataclass(frozen=True)
class WorkerDismissed:
    """Worker to daemon: the new ring is without it, and it has handed over; it exits with 0."""


# --- command line to daemon (local socket) -------------------------------------------------------


@dataclass(frozen=True)
class LocalRequest:
    """One command. `arguments`: a JSON object. Body frames follow where the command has a body."""

    command: str
    arguments: str = "{}"


@dataclass(frozen=True)
class LocalBody:
    """A piece of a body in either direction; an empty one ends the body."""

    data: bytes = field(repr=False)


@dataclass(frozen=True)
class LocalReply:
    """The answer. `code`: an ExitCode; `message`: one line, empty if all is well; `body`: JSON."""

    code: int
    message: str
    body: str
