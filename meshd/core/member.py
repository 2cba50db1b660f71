"""This machine's part in one ring: from PROPOSE to the end of its worker. One job at a time.

    fetches --all blobs held--> starts --WorkerReady--> ready --COMMIT--> training --> finished
       |                           |                      |                  |
       +------- Refuse ------------+----------------------+       the job stops, with a sentence
                                                                  that names machine and cause

A membership belongs to one ring (job, generation, captain). As soon as the job's record names
another ring or an end, the membership is over and the worker is stopped: the record is the truth,
whoever changed it. Nothing here has a deadline but the blame of a third machine (`BLAME_S`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from meshd.core.effects import (
    FetchBlob,
    LogJob,
    StartRing,
    StartWorker,
    StopFetch,
    StopWorker,
)
from meshd.core.events import CheckpointSaved, ModelSaved, WorkerExited
from meshd.core.job import advance, can
from meshd.core.messages import (
    Abort,
    CheckpointPart,
    Commit,
    Finished,
    JobProgress,
    JobRecord,
    MemberResult,
    Progress,
    Propose,
    Ready,
    Refuse,
    RingMember,
    WorkerFailed,
    WorkerProgress,
    WorkerReady,
)
from meshd.core.peers import HEARTBEAT_S, LOST_AFTER_S
from meshd.core.registry import ring_of
from meshd.core.site import Site
from meshd.core.types import BlobId, Generation, JobId, MachineKey, Rank, Step

RESEND_S = 5.0  # as the captain's: READY and FINISHED until they are answered by COMMIT and `done`

PROGRESS_S = 0.4  # a little less than the half second at which workers report, so that none is lost

UNHEARD_S = LOST_AFTER_S + 1.0
"""A machine that comes is heard by some a moment before the others; a member that does not hear
another one for so long after it was asked never will: one of them does not trust the other."""

BLAME_S = LOST_AFTER_S + 1.0
"""A worker that blames another machine is believed only after this time: by then that machine
either said itself what happened to its worker, or is lost. Both are better sentences."""


@dataclass
class Membership:
    """This machine in one ring."""

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
    ring: tuple[RingMember, ...] = ()
    ready: Ready | None = None
    answered: bool = False
    """READY was sent."""
    finished: Finished | None = None
    progress: JobProgress | None = None
    progress_at: float = float("-inf")
    pieces: dict[Step, frozenset[BlobId]] = field(default_factory=dict)
    """Blobs of the last two checkpoints that this machine wrote."""
    blame: tuple[float, str] | None = None
    """(when to act on it, the sentence)."""

    def ring_id(self) -> tuple[JobId, Generation, MachineKey]:
        """What names the ring; a job's generation may have been proposed by two captains."""
        return self.job, self.generation, self.captain


class Member:
    """The one membership of this machine, if any."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._bytes_before: dict[JobId, int] = {}
        """What earlier generations of a job sent from here, in this run of the daemon."""
        self.now: Membership | None = None
        self.distrust = ""
        """Why this machine can trust nobody at present; empty if it can."""
        self._last: tuple[tuple[JobId, Generation, MachineKey], str] | None = None
        """The ring whose membership ended last, and why."""

    def availability(self) -> tuple[bool, str]:
        """Whether this machine is free for a job, and the clause that completes its name."""
        if self._site.me.unable:
            return False, self._site.me.unable
        if self.distrust:
            return False, f"cannot train: {self.distrust}"
        if self.now is None:
            return True, "is free"
        verb = "trains" if self.now.stage in ("training", "finished") else "prepares"
        return False, f"{verb} {self.now.name}"

    def pinned(self) -> frozenset[BlobId]:
        """Blobs that the present membership needs besides those of the records."""
        if self.now is None:
            return frozenset()
        return frozenset().union(*self.now.pieces.values())

    def why_not(self, record: JobRecord) -> str | None:
        """Why this machine does not train a ring that it is a member of; None if it does."""
        ring = (record.job, *ring_of(record))
        if self.now is not None and self.now.ring_id() == ring:
            return None
        if self._last is not None and self._last[0] == ring:
            return self._last[1]
        return f"the daemon on {self._site.me.name} restarted"

    # --- messages of the captain -----------------------------------------------------------------

    def on_propose(self, sender: MachineKey, propose: Propose, now: float) -> None:
        """Prepare for a ring, or say why not."""
        if self._of_ring(sender, propose.job, propose.generation):
            if self.now is not None and self.now.answered:
                self._say_ready(self.now, now)
            return
        job = self._site.registry.get(propose.job)
        if job is None or ring_of(job.record) != (propose.generation, sender):
            self._site.refused["other-generation"] += 1
            return
        members = tuple(member.key for member in job.record.members)
        known = job.record.state == "forming" and members == propose.members
        if not known or self._site.me.key not in members:
            self._site.refused["not-a-member"] += 1
            return
        available, why = self.availability()
        if not available:
            refusal = Refuse(propose.job, propose.generation, f"it {why}", False, busy=True)
            self._site.out.send(sender, refusal)
            return
        self._prepare(job.record, job.spec.name, now)

    def on_commit(self, sender: MachineKey, commit: Commit, now: float) -> None:
        """All are ready: start."""
        member = self._of_ring(sender, commit.job, commit.generation)
        if member is None or member.stage != "ready":
            self._site.refused["other-generation"] += 1
            return
        keys = [part.key for part in commit.members]
        if commit.step != member.step or keys.count(self._site.me.key) != 1:
            self._refuse("the captain commits another step or ring than it proposed", False)
            return
        member.stage, member.ring, member.said_at = "training", commit.members, now
        rank = Rank(keys.index(self._site.me.key))
        self._site.out.add(StartRing(member.job, member.generation, commit.members, rank))

    def on_abort(self, sender: MachineKey, abort: Abort) -> None:
        """The captain gave this generation up before it was committed."""
        member = self._of_ring(sender, abort.job, abort.generation)
        if member is None or member.stage in ("training", "finished"):
            self._site.refused["other-generation"] += 1
            return
        self._end(abort.reason)

    # --- blobs and worker ------------------------------------------------------------------------

    def blob_held(self, blob: BlobId) -> None:
        """A blob that was wanted lies on disk, verified."""
        if self.now is not None and blob in self.now.wanted:
            self.now.wanted.discard(blob)
            self._start_when_complete(self.now)

    def blob_missing(self, blob: BlobId, reason: str) -> None:
        """A blob cannot be had. Without its own carried error a member starts that at zero."""
        member = self.now
        if member is None or blob not in member.wanted:
            return
        if blob == member.carried:
            member.carried = BlobId("")
            text = f"no carried error of step {member.step} on this machine: it starts from zero"
            self._site.out.add(LogJob(member.job, text))
            member.wanted.discard(blob)
            self._start_when_complete(member)
        else:
            self._refuse(reason, fatal=False)

    def worker_event(self, job: JobId, generation: Generation, event: object, now: float) -> None:
        """What the worker said, or that it is gone. A worker of another generation is no news."""
        member = self.now
        if member is None or (member.job, member.generation) != (job, generation):
            return
        if isinstance(event, WorkerReady) and member.stage == "starts":
            member.stage, member.said_at = "ready", now
            member.ready = Ready(job, generation, event.port, event.steps, event.parameters)
            self._say_ready(member, now)
        elif isinstance(event, WorkerProgress):
            self._progress(member, event.progress, now)
        elif isinstance(event, CheckpointSaved):
            self._checkpoint(member, event)
        elif isinstance(event, ModelSaved):
            self._finished(member, event, now)
        elif isinstance(event, WorkerFailed):
            self._worker_failed(member, event, now)
        elif isinstance(event, WorkerExited) and member.stage != "finished" and not member.blame:
            self._over(f"the worker on {self._site.me.name} {event.reason}", fatal=False)

    def lost(self, key: MachineKey, why: str) -> None:
        """Another machine is gone: a ring that needs it is over, and so is a job it forms."""
        member = self.now
        if member is None:
            return
        if any(part.key == key for part in member.ring):
            self._stop_job(f"{self._site.name(key)} {why}")
        elif member.stage not in ("training", "finished") and key == member.captain:
            self._end(f"{self._site.name(key)}, which forms the ring, {why}")

    def changed(self, record: JobRecord) -> None:
        """The job's record changed: the membership lives only while the record names its ring."""
        member = self.now
        if member is None or member.job != record.job:
            return
        same = ring_of(record) == (member.generation, member.captain)
        if not same or record.state not in ("forming", "training"):
            self._end(record.reason)
            return
        for step in [step for step in member.pieces if step < record.checkpoint.step]:
            del member.pieces[step]

    def leave(self, why: str) -> None:
        """This daemon ends, or may not go on."""
        member = self.now
        if member is not None and member.stage in ("training", "finished"):
            self._stop_job(f"{self._site.me.name} {why}")
        elif member is not None:
            self._refuse(why, fatal=False)

    def handle_timer(self, now: float) -> None:
        """Repeat what a broken link may have swallowed; act on a blame."""
        member = self.now
        if member is None:
            return
        if member.blame and now >= member.blame[0]:
            self._stop_job(member.blame[1])
            return
        if member.stage == "ready" and now >= self._ready_at(member):
            self._say_ready(member, now)
        elif member.stage == "finished" and member.finished and now - member.said_at >= RESEND_S:
            member.said_at = now
            self._site.out.send(member.ring[0].key, member.finished)

    def next_timer(self) -> float:
        """When there is something to do without any input."""
        member = self.now
        if member is None:
            return float("inf")
        times = [member.blame[0]] if member.blame else []
        if member.stage == "ready":
            times.append(self._ready_at(member))
        elif member.stage == "finished":
            times.append(member.said_at + RESEND_S)
        return min(times, default=float("inf"))

    # --- steps -----------------------------------------------------------------------------------

    def _of_ring(
        self, captain: MachineKey, job: JobId, generation: Generation
    ) -> Membership | None:
        member = self.now
        if member is not None and member.ring_id() == (job, generation, captain):
            return member
        return None

    def _prepare(self, record: JobRecord, name: str, now: float) -> None:
        """Ask for the blobs: the data, every slice of the checkpoint, our own carried error."""
        own = [part.blob for part in record.checkpoint.carried if part.key == self._site.me.key]
        carried = own[0] if own else BlobId("")
        slices = {part.blob for part in record.checkpoint.slices}
        self.now = Membership(
            job=record.job,
            name=name,
            generation=record.generation,
            captain=record.captain,
            step=record.checkpoint.step,
            wanted={record.data, *slices, *own},
            carried=carried,
            proposed=record.members,
            asked_at=now,
            control_base=self._site.control_bytes,
            said_at=now,
        )
        if record.checkpoint.step and not carried:
            text = f"no carried error of step {record.checkpoint.step} was saved for this machine:"
            self._site.out.add(LogJob(record.job, f"{text} it starts from zero"))
        peers = self._site.peers.alive()
        first = [key for key in peers if key == record.submitter]
        others = [key for key in peers if key != record.submitter]
        self._site.out.add(FetchBlob(record.data, tuple(first + others), record.data_bytes))
        for blob in sorted(slices):
            self._site.out.add(FetchBlob(blob, tuple(peers), -1))
        if carried:
            self._site.out.add(FetchBlob(carried, (), -1))

    def _start_when_complete(self, member: Membership) -> None:
        job = self._site.registry.get(member.job)
        if member.wanted or member.stage != "fetches" or job is None:
            return
        member.stage = "starts"
        self._site.out.add(
            StartWorker(
                member.job,
                member.generation,
                job.record.spec,
                job.record.data,
                member.step,
                job.record.checkpoint.slices,
                member.carried,
            )
        )

    def _ready_at(self, member: Membership) -> float:
        """When to say READY (again), or to look again for a member that is not heard."""
        return member.said_at + (RESEND_S if member.answered else HEARTBEAT_S)

    def _say_ready(self, member: Membership, now: float) -> None:
        """READY, or why not: a ring needs a link from each machine to the next one, and that
        these two trust one another is known to themselves alone."""
        if member.ready is None:
            return
        member.said_at = now
        unheard = [part for part in member.proposed if not self._site.here(part.key)]
        if not unheard:
            member.answered = True
            self._site.out.send(member.captain, member.ready)
        elif now - member.asked_at >= UNHEARD_S:
            trusted = all(part.key in self._site.peers for part in unheard)
            verb = "hear" if trusted else "trust"
            names = ", ".join(sorted(part.name for part in unheard))
            self._refuse(f"it does not {verb} {names}", fatal=False)

    def _counted(self, member: Membership, worker_bytes: int) -> int:
        """All bytes that this machine sent for the job: bulk, control, earlier generations."""
        control = self._site.control_bytes - member.control_base
        return self._bytes_before.get(member.job, 0) + control + worker_bytes

    def _told(self, member: Membership, told: JobProgress) -> JobProgress:
        sent = self._counted(member, told.bytes_sent)
        return JobProgress(told.step, told.epoch, told.loss, told.accuracy, told.seconds, sent)

    def _progress(self, member: Membership, told: JobProgress, now: float) -> None:
        job = self._site.registry.get(member.job)
        if member.stage != "training" or job is None:
            return
        member.progress = told
        if now - member.progress_at < PROGRESS_S:
            return
        member.progress_at = now
        progress = self._told(member, told)
        job.progress[self._site.me.key] = progress
        message = Progress(member.job, member.generation, progress)
        self._site.out.send_all(self._site.peers.alive(), message)

    def _checkpoint(self, member: Membership, saved: CheckpointSaved) -> None:
        blobs = {piece.blob for piece in saved.slices} | ({saved.carried} - {""})
        member.pieces[saved.step] = frozenset(blobs)
        for old in sorted(member.pieces)[:-2]:
            del member.pieces[old]
        part = CheckpointPart(
            member.job,
            member.generation,
            saved.step,
            saved.slices,
            saved.carried,
            saved.slice_count,
        )
        if member.ring:
            self._site.out.send(member.ring[0].key, part)

    def _finished(self, member: Membership, saved: ModelSaved, now: float) -> None:
        job = self._site.registry.get(member.job)
        if member.stage != "training" or job is None:
            return
        progress = self._told(member, saved.progress)
        job.progress[self._site.me.key] = progress
        result = MemberResult(
            key=self._site.me.key,
            name=self._site.me.name,
            accuracy=progress.accuracy,
            weight_hash=saved.weight_hash,
            bytes_sent=progress.bytes_sent,
            model=saved.model,
        )
        member.pieces[Step(progress.step + 1)] = frozenset({saved.model})
        member.stage, member.said_at = "finished", now
        member.finished = Finished(member.job, member.generation, result)
        self._site.out.send_all(
            self._site.peers.alive(), Progress(member.job, member.generation, progress)
        )
        self._site.out.send(member.ring[0].key, member.finished)

    def _worker_failed(self, member: Membership, failed: WorkerFailed, now: float) -> None:
        sentence = f"the worker on {self._site.me.name} gave up: {failed.reason}"
        blamed = MachineKey(failed.blames)
        known = any(part.key == blamed for part in member.ring)
        if known and blamed != self._site.me.key and not failed.fatal:
            member.blame = (now + BLAME_S, f"{sentence} ({self._site.name(blamed)} is to blame)")
        else:
            self._over(sentence, failed.fatal)

    def _over(self, sentence: str, fatal: bool) -> None:
        """Our worker cannot go on: before the commit the captain hears it, after it everyone."""
        member = self.now
        if member is None or member.stage not in ("training", "finished"):
            self._refuse(sentence, fatal)
            return
        if fatal:
            job = self._site.registry.get(member.job)
            self._end(sentence)
            if job is not None and can(job.record, "fail"):
                self._site.registry.put(advance(job.record, "fail", sentence))
        else:
            if member.progress is not None:
                sentence = f"{sentence} at step {member.progress.step}"
            self._stop_job(sentence)

    def _stop_job(self, sentence: str) -> None:
        """Stop the committed job of this membership for everyone; the checkpoint stays."""
        member = self.now
        job = self._site.registry.get(member.job) if member else None
        self._end(sentence)
        if job is not None and can(job.record, "stop"):
            hint = self._site.resume_hint(job.record, job.spec.name)
            stopped = advance(job.record, "stop", f"{sentence}; {hint}", step=Step(job.step()))
            self._site.registry.put(stopped)

    def _refuse(self, reason: str, fatal: bool) -> None:
        member = self.now
        if member is not None:
            self._end(reason)
            refusal = Refuse(member.job, member.generation, reason, fatal)
            self._site.out.send(member.captain, refusal)

    def _end(self, reason: str) -> None:
        """Forget the membership and take back what was asked for it."""
        member, self.now = self.now, None
        if member is None:
            return
        self._last = (member.ring_id(), reason)
        for blob in sorted(member.wanted):
            self._site.out.add(StopFetch(blob))
        if member.stage != "fetches":
            self._site.out.add(StopWorker(member.job, member.generation, reason))
        worker_bytes = member.progress.bytes_sent if member.progress else 0
        self._bytes_before[member.job] = self._counted(member, worker_bytes)
