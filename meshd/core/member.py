"""This machine's part in one attempt at a job: from PROPOSE to the end of its worker.

    fetches --all blobs held--> starts --WorkerReady--> ready --first plan--> training --> finished
       |                           |                      |                     |
       +------- Refuse ------------+----------------------+                  RingLeave

One job at a time. A membership belongs to one attempt (job, generation, captain); the rings of that
attempt come and go (`meshd.core.relay`). As soon as the job's record names another attempt or an
end, the membership is over and the worker is stopped: the record is the truth, whoever changed it.
A machine is asked to join while the job trains as it is asked when it forms; it then starts with
nothing but the data. Nothing here has a deadline.
"""

from __future__ import annotations

from meshd.core.effects import (
    FetchBlob,
    LogJob,
    StartWorker,
    StopFetch,
    StopWorker,
)
from meshd.core.events import CheckpointSaved, ModelSaved, WorkerExited
from meshd.core.job import advance, can
from meshd.core.membership import Membership
from meshd.core.messages import (
    Abort,
    Checkpoint,
    CheckpointPart,
    Finished,
    JobProgress,
    JobRecord,
    MemberResult,
    Progress,
    Propose,
    Ready,
    Refuse,
    RingLeave,
    WorkerFailed,
    WorkerProgress,
    WorkerReady,
)
from meshd.core.peers import HEARTBEAT_S, LOST_AFTER_S
from meshd.core.registry import ring_of
from meshd.core.site import Site
from meshd.core.standing import Standing
from meshd.core.types import BlobId, Generation, JobId, MachineKey, Step

RESEND_S = 5.0  # as the captain's: READY and FINISHED until a plan and `done` answer them

PROGRESS_S = 0.4  # a little less than the half second at which workers report, so that none is lost

UNHEARD_S = LOST_AFTER_S + 1.0
"""A machine that comes is heard by some a moment before the others; a member that does not hear
another one for so long after it was asked never will: one of them does not trust the other."""

DISMISSED_S = 0.5
"""A worker that was dismissed gets so long to see its last frames off: on 100 Mbit/s, 6 MB."""


class Member:
    """The one membership of this machine, if any."""

    def __init__(self, site: Site, standing: Standing) -> None:
        self._site = site
        self._standing = standing
        self._bytes_before: dict[JobId, int] = {}
        """What earlier generations of a job sent from here, in this run of the daemon."""
        self.now: Membership | None = None
        self.distrust = ""
        """Why this machine can trust nobody at present; empty if it can."""
        self.ending = ""
        """Why this daemon ends; empty while it does not."""
        self._last: tuple[tuple[JobId, Generation, MachineKey], str] | None = None
        """The attempt whose membership ended last, and why."""

    def availability(self) -> tuple[bool, str]:
        """Whether this machine is free for a job, and the clause that completes its name."""
        if self._site.me.unable:
            return False, self._site.me.unable
        if self.distrust:
            return False, f"cannot train: {self.distrust}"
        if self.ending:
            return False, self.ending
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
        """Why this machine has no worker in an attempt that counts it in; None if it has."""
        ring = (record.job, *ring_of(record))
        if self.now is not None and self.now.ring_id() == ring:
            return None
        if self._last is not None and self._last[0] == ring:
            return self._last[1]
        return f"the daemon on {self._site.me.name} restarted"

    # --- messages of the captain -----------------------------------------------------------------

    def on_propose(self, sender: MachineKey, propose: Propose, now: float) -> None:
        """Prepare for an attempt, or to join one that trains; or say why not."""
        job = self._site.registry.get(propose.job)
        if job is None or not self._may_ask(sender, propose, job.record):
            self._site.refused["other-generation"] += 1
            return
        if self.now is not None and self.now.ring_id() == (propose.job, *ring_of(job.record)):
            if self.now.answered:
                self._say_ready(self.now, now)
            return
        counted = [part.key for part in job.record.members]
        joins = job.record.state == "training"  # counted in or not: it has no worker for it
        forms = job.record.state == "forming" and tuple(counted) == propose.members
        if not (joins or forms) or self._site.me.key not in propose.members:
            self._site.refused["not-a-member"] += 1
            return
        available, why = self.availability()
        if not available:
            refusal = Refuse(propose.job, propose.generation, f"it {why}", False, busy=True)
            self._site.out.send(sender, refusal)
            return
        self._prepare(job.record, job.spec.name, joins, now)

    def _may_ask(self, sender: MachineKey, propose: Propose, record: JobRecord) -> bool:
        """Who forms the attempt, or, while it trains, any of its members: one is captain."""
        if record.state == "training" and sender != record.captain:
            members = [part.key for part in record.members]
            return record.generation == propose.generation and sender in members
        return ring_of(record) == (propose.generation, sender)

    def on_abort(self, sender: MachineKey, abort: Abort) -> None:
        """The captain gave this attempt up before it trained, or takes no more machines in."""
        member = self.now
        mine = member is not None and (member.job, member.generation) == (
            abort.job,
            abort.generation,
        )
        if not mine or member is None or sender != self._asker(member) or self._counted_in(member):
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
            member.ready = Ready(
                job, generation, event.port, event.steps, event.parameters, event.shape
            )
            self._say_ready(member, now)
        elif isinstance(event, WorkerProgress):
            self._progress(member, event.progress, now)
        elif isinstance(event, CheckpointSaved):
            self._checkpoint(member, event)
        elif isinstance(event, ModelSaved):
            self._finished(member, event, now)
        elif isinstance(event, WorkerFailed):
            self._over(f"the worker on {self._site.me.name} gave up: {event.reason}", event.fatal)
        elif isinstance(event, WorkerExited) and member.stage == "finished":
            member.exited = True
        elif isinstance(event, WorkerExited):
            self._over(f"the worker on {self._site.me.name} {event.reason}", fatal=False)

    def dismissed(self) -> None:
        """The ring goes on without our worker, which has handed over."""
        member = self.now
        if member is not None:
            why = f"{self._site.me.name} {member.leaves}" if member.leaves else "was left out"
            self._end(why, DISMISSED_S)

    def gone(self, sentence: str) -> None:
        """Our worker cannot go on: the others hear it at once, and go on without it."""
        member = self.now
        job = self._site.registry.get(member.job) if member else None
        self._end(sentence)
        if job is not None:
            self.say_gone(job.record, sentence)

    def say_gone(self, record: JobRecord, why: str, *keys: MachineKey) -> None:
        """All members (or these machines) hear that this one has no worker any more: which of them
        is captain, and whether that one is alive, is not for us to know."""
        message = RingLeave(record.job, record.generation, True, why)
        for key in keys or [part.key for part in record.members]:
            self._site.out.send(key, message)

    def lost(self, key: MachineKey, why: str) -> None:
        """Another machine is gone, and with it what it forms. A ring is its captain's business."""
        member = self.now
        job = self._site.registry.get(member.job) if member else None
        forming = job is not None and job.record.state == "forming"
        if member is not None and forming and key == member.captain:
            self._end(f"{self._site.name(key)}, which forms the ring, {why}")

    def changed(self, record: JobRecord) -> None:
        """The job's record changed: the membership lives only while it names this attempt."""
        member = self.now
        if member is None or member.job != record.job:
            return
        same = ring_of(record) == (member.generation, member.captain)
        if not same or record.state not in ("forming", "training"):
            self._end(record.reason)
            return
        for step in [step for step in member.pieces if step < record.checkpoint.step]:
            del member.pieces[step]
        if member.finished is not None and record.members[0].key != member.told:
            self._say_finished(member, member.said_at)

    def leave(self, why: str) -> None:
        """This daemon ends, and its worker has nobody to hand over to, or nothing."""
        member = self.now
        if member is None:
            return
        if self._counted_in(member):
            self.gone(f"{self._site.me.name} {why}")
        else:
            self._refuse(why, fatal=False)

    def handle_timer(self, now: float) -> None:
        """Repeat what a broken link may have swallowed; a machine that a ring was formed without
        says again that it is ready."""
        member = self.now
        if member is None:
            return
        if self._waits(member) and now >= self._ready_at(member):
            self._say_ready(member, now)
        elif member.stage == "finished" and now - member.said_at >= RESEND_S:
            self._say_finished(member, now)

    def next_timer(self) -> float:
        """When there is something to do without any input."""
        member = self.now
        if member is None:
            return float("inf")
        if self._waits(member):
            return self._ready_at(member)
        return member.said_at + RESEND_S if member.stage == "finished" else float("inf")

    # --- steps -----------------------------------------------------------------------------------

    def _counted_in(self, member: Membership) -> bool:
        """Whether the job trains and its record has this machine among the members."""
        job = self._site.registry.get(member.job)
        return (
            job is not None
            and job.record.state == "training"
            and any(part.key == self._site.me.key for part in job.record.members)
        )

    def _waits(self, member: Membership) -> bool:
        """Whether this machine is ready for a ring that it is not in yet, or no more."""
        if member.stage == "training" and member.leaves_at is None:
            return not self._counted_in(member)
        return member.stage == "ready"

    def _asker(self, member: Membership) -> MachineKey | None:
        """Who waits for our READY: who forms the attempt, or the captain of its ring."""
        job = self._site.registry.get(member.job)
        if job is None or job.record.state != "training":
            return member.captain
        return self._standing.captain_of(job.record)

    def _prepare(self, record: JobRecord, name: str, joins: bool, now: float) -> None:
        """Ask for the blobs: the data, every slice of the checkpoint, our own carried error; who
        joins gets all but the data from the ring."""
        checkpoint = Checkpoint(Step(0), (), ()) if joins else record.checkpoint
        own = [part.blob for part in checkpoint.carried if part.key == self._site.me.key]
        carried = own[0] if own else BlobId("")
        slices = {part.blob for part in checkpoint.slices}
        self.now = Membership(
            job=record.job,
            name=name,
            generation=record.generation,
            captain=record.captain,
            step=checkpoint.step,
            wanted={record.data, *slices, *own},
            carried=carried,
            proposed=record.members,
            asked_at=now,
            control_base=self._site.control_bytes,
            said_at=now,
            joins=joins,
        )
        if checkpoint.step and not carried:
            text = f"no carried error of step {checkpoint.step} was saved for this machine:"
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
                () if member.joins else job.record.checkpoint.slices,
                member.carried,
                member.joins,
            )
        )

    def _ready_at(self, member: Membership) -> float:
        """When to say READY (again), or to look again for a member that is not heard."""
        resend = RESEND_S if member.answered and member.stage == "ready" else HEARTBEAT_S
        return member.said_at + resend

    def _say_ready(self, member: Membership, now: float) -> None:
        """READY, or why not: a ring needs a link from each machine to the next one, and that
        these two trust one another is known to themselves alone."""
        if member.ready is None:
            return
        member.said_at = now
        unheard = [part for part in member.proposed if not self._site.here(part.key)]
        asker = self._asker(member)
        if member.answered or not unheard:
            member.answered = True
            if asker is not None:
                self._site.out.send(asker, member.ready)
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
        job = self._site.registry.get(member.job)
        if job is not None and job.record.members:
            self._site.out.send(job.record.members[0].key, part)

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
        self._say_finished(member, now)

    def _say_finished(self, member: Membership, now: float) -> None:
        """The first of the present members collects the results."""
        job = self._site.registry.get(member.job)
        if member.finished is not None and job is not None and job.record.members:
            member.said_at, member.told = now, job.record.members[0].key
            self._site.out.send(member.told, member.finished)

    def _over(self, sentence: str, fatal: bool) -> None:
        """Our worker cannot go on: before the job trains the captain hears it, then everyone."""
        member = self.now
        if member is None or not self._counted_in(member):
            self._refuse(sentence, fatal)
        elif fatal:
            job = self._site.registry.get(member.job)
            self._end(sentence)
            if job is not None and can(job.record, "fail"):
                self._site.registry.put(advance(job.record, "fail", sentence))
        else:
            if member.progress is not None:
                sentence = f"{sentence} at step {member.progress.step}"
            self.gone(sentence)

    def _refuse(self, reason: str, fatal: bool) -> None:
        member = self.now
        if member is not None:
            asker = self._asker(member)
            self._end(reason)
            refusal = Refuse(member.job, member.generation, reason, fatal)
            if asker is not None:
                self._site.out.send(asker, refusal)

    def _end(self, reason: str, grace_s: float = 0.0) -> None:
        """Forget the membership and take back what was asked for it."""
        member, self.now = self.now, None
        if member is None:
            return
        self._last = (member.ring_id(), reason)
        for blob in sorted(member.wanted):
            self._site.out.add(StopFetch(blob))
        if member.stage != "fetches":
            self._site.out.add(StopWorker(member.job, member.generation, reason, grace_s))
        worker_bytes = member.progress.bytes_sent if member.progress else 0
        self._bytes_before[member.job] = self._counted(member, worker_bytes)
