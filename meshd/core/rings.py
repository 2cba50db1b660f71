"""The rings of which this machine is captain: what they are told, and what becomes of the records.

    lost machines, complaints, leaves, joins, time ---> RingCaptain ---> RingProposal, RingPlan
                                                             |
                                   the job's record <--------+  a new ring, or what it waits for

A job that trains has one captain (`meshd.core.standing`), which this machine becomes and ceases to
be with what it sees: nothing is handed over. It goes on from the last ring that its own worker was
told of, or from the record, whichever is later, and asks for a ring if a member is missing or there
has been none. Two captains for a while cost time, and nothing else: the higher ring wins.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from meshd.core.effects import LogJob
from meshd.core.errors import RemoteProtocolError
from meshd.core.invitations import Invitations
from meshd.core.job import advance, can, reform, stall
from meshd.core.member import Member
from meshd.core.messages import (
    Abort,
    JobRecord,
    JobUpdate,
    Ready,
    Refuse,
    RingAck,
    RingComplaint,
    RingLeave,
    RingMember,
    RingName,
)
from meshd.core.registry import Job, ring_of
from meshd.core.relay import is_of, suspect_of
from meshd.core.ring.agreement import NO_RING, Plan
from meshd.core.ring.captain import Ask, CaptainEffect, Formed, RingCaptain, Stalled, Tell
from meshd.core.ring.wire_forms import (
    ack_of,
    id_of,
    name_of,
    plan_message,
    plan_of,
    proposal_message,
    shape_of,
)
from meshd.core.site import Site
from meshd.core.standing import Standing
from meshd.core.types import Generation, JobId, MachineKey, Step

STALL_PATIENCE_S = 60.0
"""A job that no ring can be formed for ends its attempt after this time: a machine that comes back
after a restart or with its cable is there within it, and a person who watches has read why."""


CAUSES = 3
"""So many lost machines a stalled job's sentence names, with what became of them."""


@dataclass
class Led:
    """One job whose ring this machine is captain of."""

    attempt: tuple[Generation, MachineKey]
    captain: RingCaptain
    ready: Ready
    """Our own worker's: what the others' must be like."""
    addresses: dict[MachineKey, RingMember] = field(default_factory=dict)
    leaving: dict[MachineKey, str] = field(default_factory=dict)
    """Who wants to go, and why, since the last ring."""
    complaint: str = ""
    """The last one, as it was logged."""
    stalled: str = ""
    stalled_at: float = float("inf")


class Rings:
    """All jobs that this machine is captain of while they train."""

    def __init__(self, site: Site, member: Member, standing: Standing) -> None:
        self._site = site
        self._member = member
        self._standing = standing
        self._led: dict[JobId, Led] = {}
        self.invitations = Invitations(site)

    # --- inputs ----------------------------------------------------------------------------------

    def on_ack(self, sender: MachineKey, ack: RingAck, now: float) -> None:
        """A member answers a proposal of ours."""
        led = self._of(sender, ack.job, ack.generation)
        if led is not None and ack.to == self._site.me.key:
            led.captain.on_ack(sender, ack_of(ack), now)
            self._act(ack.job, led, now)

    def on_complaint(self, sender: MachineKey, complaint: RingComplaint, now: float) -> None:
        """A member's ring cannot go on. The captain itself may be what is silent: then the next one
        is captain until there is a new ring."""
        job = self._site.registry.get(complaint.job)
        why = f"{self._site.name(sender)} says: {complaint.why}"
        if complaint.about:
            why = f"{self._site.name(complaint.about)} {complaint.why}"
        if job is not None and is_of(job.record, self._member.now):
            suspect = suspect_of(complaint, self._member.now, job.record)
            captain = self._standing.captain_of(job.record)
            if suspect == captain and suspect not in (sender, self._site.me.key):
                self._standing.put_out(job.record, suspect, why)
                self._look(job, now)
        led = self._of(sender, complaint.job, complaint.generation)
        own = complaint.about == self._site.me.key  # it is here and answers; but it may ask itself
        if led is not None and (not own or sender == self._site.me.key):
            if why != led.complaint:  # a member that is not answered says it again
                led.complaint = why
                self._site.out.add(LogJob(complaint.job, f"the ring does not go on: {why}"))
            led.captain.complains(sender, id_of(complaint.ring), complaint.about, why, now)
            self._act(complaint.job, led, now)

    def on_leave(self, sender: MachineKey, leave: RingLeave, now: float) -> None:
        """A member has no worker any more, or wants to go."""
        job = self._site.registry.get(leave.job)
        if job is None or job.record.generation != leave.generation:
            self._site.refused["other-generation"] += 1
            return
        if leave.gone:
            self.invitations.failed(leave.job, sender, now)
            self._standing.put_out(job.record, sender, leave.why, itself=True)
            self._look(job, now)
            led = self._led.get(leave.job)
            if led is not None:
                self._leave_out(leave.job, led, sender, leave.why, now)
        else:
            led = self._of(sender, leave.job, leave.generation)
            if led is not None:
                why = led.leaving[sender] = f"{self._site.name(sender)} {leave.why}"
                led.captain.leaves(sender, why, now)
                self._act(leave.job, led, now)

    def on_ready(self, sender: MachineKey, ready: Ready, now: float) -> None:
        """A machine has a worker for a job that trains: it may join."""
        led = self._of(sender, ready.job, ready.generation, anybody=True)
        if led is None or sender in led.captain.members:
            return
        job = self._site.registry.get(ready.job)
        why = self._unlike(led, ready)
        if job is not None and len(led.captain.members) >= job.most():
            why = "the ring is full"
        if why:
            self._site.out.send(sender, Abort(ready.job, ready.generation, "", why))
            return
        led.addresses[sender] = self._site.ring_member(sender, ready.port)
        led.captain.joins(sender, now)
        self._act(ready.job, led, now)

    def on_refuse(self, sender: MachineKey, refuse: Refuse, now: float) -> None:
        """A machine that was asked to join cannot, and says why. Broken data, which no ring could
        use, would have ended the job before: this is that machine's trouble."""
        job = self._site.registry.get(refuse.job)
        if job is None or job.record.generation != refuse.generation:
            self._site.refused["other-generation"] += 1
            return
        if not self.invitations.is_asked(refuse.job, sender):
            self._site.refused["not-a-member"] += 1
            return
        self.invitations.failed(refuse.job, sender, now)
        if not refuse.busy:
            text = f"{self._site.name(sender)} does not join: {refuse.reason}"
            self._site.out.add(LogJob(refuse.job, text))

    def lost(self, key: MachineKey, why: str, now: float) -> None:
        """A machine is gone, or its link has been broken for too long."""
        sentence = f"{self._site.name(key)} {why}"
        for job in self._site.registry:
            if self._standing.put_out(job.record, key, sentence):
                self._look(job, now)
        for job_id, led in list(self._led.items()):
            self._leave_out(job_id, led, key, sentence, now)

    def changed(self, record: JobRecord, now: float) -> None:
        """A record changed, perhaps by another captain."""
        if record.state != "training":
            self._standing.forget(record.job)
            self.invitations.forget(record.job)
        job = self._site.registry.get(record.job)
        if job is not None:
            self._look(job, now)

    def look(self, now: float) -> None:
        """Something may have changed in who is captain of what."""
        for job in self._site.registry:
            if job.record.state == "training" or job.record.job in self._led:
                self._look(job, now)

    def handle_timer(self, now: float) -> None:
        """Ask again, decide, and give up what has stalled too long."""
        for job_id, led in list(self._led.items()):
            led.captain.handle_timer(now)
            self._act(job_id, led, now)
            job = self._site.registry.get(job_id)
            if job is not None and now >= led.stalled_at + STALL_PATIENCE_S:
                led.stalled_at = now
                if self._standing.most_are_here(job.record):
                    self._stop(job, f"no ring could be formed: {led.stalled}")

    def next_timer(self, now: float) -> float:
        """When there is something to do without any input."""
        times = [led.captain.next_timer() for led in self._led.values()]
        times += [led.stalled_at + STALL_PATIENCE_S for led in self._led.values()]
        return min(times, default=float("inf"))

    # --- who is captain --------------------------------------------------------------------------

    def leads(self, job: JobId) -> bool:
        """Whether this machine is captain of a job's ring."""
        return job in self._led

    def _of(
        self, sender: MachineKey, job_id: JobId, generation: Generation, anybody: bool = False
    ) -> Led | None:
        """The ring that a member speaks about, if it is ours; who is mistaken in that gets to know
        the record."""
        led, job = self._led.get(job_id), self._site.registry.get(job_id)
        if job is None or job.record.generation != generation:
            self._site.refused["other-generation"] += 1
            return None
        if led is None:
            self._site.refused["not-captain"] += 1
            self._site.out.send(sender, JobUpdate(job.record))
            return None
        known = {*led.captain.members, *(led.captain.plan.order if led.captain.plan else ())}
        if not anybody and sender not in known:
            self._site.refused["not-a-member"] += 1
            return None
        return led

    def _look(self, job: Job, now: float) -> None:
        """Become captain of a job's ring, remain it, or cease to be."""
        record, me = job.record, self._site.me.key
        led = self._led.get(record.job)
        if led is not None and (record.state != "training" or led.attempt != ring_of(record)):
            led = None
            del self._led[record.job]
        if record.state != "training":
            return
        captain = self._standing.captain_of(record)
        if captain is None:
            self._nobody_is_left(job)
        member = self._member.now
        if captain != me or not is_of(record, member) or member is None or member.ready is None:
            self._led.pop(record.job, None)
            return
        if led is None:
            led = self._begin(job, member.ready)
            if led is None:
                return
        self._catch_up(record, led, now)
        self._act(record.job, led, now)

    def _begin(self, job: Job, ready: Ready) -> Led | None:
        record = job.record
        try:
            shape = shape_of(ready.shape)
        except RemoteProtocolError as error:
            self._site.registry.put(advance(record, "fail", f"{self._site.me.name}: {error}"))
            return None
        me = self._site.me
        captain = RingCaptain(me.key, shape, job.spec.mesh.members_min, salt=me.boot)
        led = self._led[record.job] = Led(ring_of(record), captain, ready)
        return led

    def _catch_up(self, record: JobRecord, led: Led, now: float) -> None:
        """What the record and our own worker know of rings that others formed."""
        member, captain = self._member.now, led.captain
        newest = record.ring
        if member is not None:
            newest = max(newest, member.newest)
            if member.plan is not None and member.plan.ring >= record.ring:
                led.addresses |= {part.key: part for part in member.plan.members}
                captain.take_over(plan_of(member.plan), id_of(newest))
        order = tuple(part.key for part in record.members)
        led.addresses = {part.key: part for part in record.members} | led.addresses
        stub = Plan(id_of(record.ring), order, record.step, (), (), 1)
        captain.take_over(stub, id_of(newest))
        if captain.plan is not None and captain.plan.ring == NO_RING and not captain.asks:
            captain.form(order, "the job starts", now)
        out = self._standing.out_of(record)
        for key in captain.members:
            if not self._site.here(key):
                why = out.get(key, f"{self._site.name(key)} is not here")
                self._leave_out(record.job, led, key, why, now)

    def _nobody_is_left(self, job: Job) -> None:
        """No member that is seen has a worker: this attempt is over, if most of them are seen."""
        out = self._standing.out_of(job.record)
        if out and self._standing.most_are_here(job.record):
            self._stop(job, next(iter(out.values())))

    # --- effects ---------------------------------------------------------------------------------

    def _leave_out(self, job_id: JobId, led: Led, key: MachineKey, why: str, now: float) -> None:
        """A member is gone: a new ring; or, where all steps are done, only its result is gone."""
        member, job = self._member.now, self._site.registry.get(job_id)
        if job is not None:
            self._say_stalled(job, led)
        if key not in led.captain.members or job is None:
            led.captain.lost(key, why, now)
            return
        if member is not None and member.stage == "finished" and not led.captain.asks:
            rest = tuple(part for part in job.record.members if part.key != key)
            newest = max(led.captain.newest, id_of(job.record.ring))
            me = self._site.me
            ring = RingName(Generation(newest.generation + 1), me.key, me.boot)
            names = self._site.names([part.key for part in rest])
            reason = f"{names} finish; {why}"
            self._site.registry.put(reform(job.record, ring, rest, job.record.step, reason))
            return
        led.captain.lost(key, why, now)
        self._act(job_id, led, now)

    def _act(self, job_id: JobId, led: Led, now: float) -> None:
        """Perform what the captain asks for."""
        for effect in led.captain.drain():
            job = self._site.registry.get(job_id)
            if job is not None:
                self._perform(job, led, effect, now)

    def _perform(self, job: Job, led: Led, effect: CaptainEffect, now: float) -> None:
        attempt = job.record.generation
        if isinstance(effect, Ask):
            message = proposal_message(job.record.job, attempt, effect.proposal)
            self._site.out.send(effect.to, message)
        elif isinstance(effect, Tell):
            if effect.plan.owners:  # else it is only what a record says of a ring
                plan = plan_message(job.record.job, attempt, effect.plan, led.addresses)
                self._site.out.send(effect.to, plan)
        elif isinstance(effect, Formed):
            self._formed(job, led, effect)
        else:
            self._stalled(job, led, effect, now)

    def _formed(self, job: Job, led: Led, formed: Formed) -> None:
        plan, record = formed.plan, job.record
        led.stalled, led.stalled_at = "", float("inf")
        self.invitations.done(record.job, plan.order)
        if name_of(plan.ring) <= record.ring:
            return
        members = tuple(led.addresses[key] for key in plan.order)
        reason = f"trains on {self._site.names(list(plan.order))}"
        if record.ring.generation:
            why = self._standing.out_of(record) | led.leaving
            gone = [why[m.key] for m in record.members if m.key not in plan.order and m.key in why]
            cause = formed.why
            for part in record.members:
                cause = cause.replace(part.key, part.name)
            reason = "; ".join([reason, *(gone[:CAUSES] or [cause])])
        led.leaving = {}
        step = Step(plan.step)
        self._site.registry.put(reform(record, name_of(plan.ring), members, step, reason))

    def _stalled(self, job: Job, led: Led, stalled: Stalled, now: float) -> None:
        led.stalled = stalled.why
        led.stalled_at = min(led.stalled_at, now)
        self._say_stalled(job, led)

    def _say_stalled(self, job: Job, led: Led) -> None:
        """The sentence grows with what is heard of the machines that are missed."""
        causes = list(self._standing.out_of(job.record).values())
        if led.stalled and job.record.state == "training":
            sentence = "; ".join([led.stalled, *causes[:CAUSES]])
            self._site.registry.put(stall(job.record, sentence))

    def _stop(self, job: Job, why: str) -> None:
        if can(job.record, "stop"):
            hint = self._site.resume_hint(job.record, job.spec.name)
            stopped = advance(job.record, "stop", f"{why}; {hint}", step=Step(job.step()))
            self._site.registry.put(stopped)

    def _unlike(self, led: Led, ready: Ready) -> str:
        """Why a machine's job is not the one that we train."""
        ours = led.ready
        if (ready.steps, ready.parameters) != (ours.steps, ours.parameters):
            return "it counts other steps or parameters for this job"
        return "" if ready.shape == ours.shape else "it cuts this job into other slices"

    # --- machines that may join ------------------------------------------------------------------

    def room(self) -> list[tuple[Job, int]]:
        """Jobs of ours that could use more machines, and how many."""
        jobs = []
        for job_id, led in self._led.items():
            job = self._site.registry.get(job_id)
            finished = self._member.now is not None and self._member.now.stage == "finished"
            if job is not None and not finished and job.record.ring.generation:
                jobs.append((job, job.most() - len(led.captain.members)))
        return jobs
