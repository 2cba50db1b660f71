"""Between the captain of a ring and this machine's worker: what is handed on, and to whom.

    captain's daemon                       this daemon                       worker
      RingProposal, RingPlan      --->     if it is of our attempt    --->   RingMember
      RingAck                     <---     to the captain that asked  <---
      RingComplaint               <---     to the present captain     <---
      RingLeave(gone)             <---     its process has ended      <---   |
      RingLeave                   <---     this machine wants to go   --->   hands over
                                           it may go                  <---   WorkerDismissed

Who has no worker for a ring that it is asked for, or that a record counts it in, says so at once:
the others then do not wait for it.
"""

from __future__ import annotations

from meshd.core.effects import LogJob, TellWorker
from meshd.core.errors import RemoteProtocolError
from meshd.core.job import is_stalled
from meshd.core.member import Member
from meshd.core.membership import Membership
from meshd.core.messages import (
    JobRecord,
    RingAck,
    RingComplaint,
    RingLeave,
    RingPlan,
    RingProposal,
    WorkerDismissed,
    WorkerFailed,
)
from meshd.core.registry import ring_of
from meshd.core.ring.wire_forms import plan_of
from meshd.core.site import Site
from meshd.core.standing import Standing
from meshd.core.types import Generation, JobId, MachineKey

LEAVE_S = 1.0
"""A member that leaves gets so long to hand over; then its worker is killed: the owner is back."""

LEAVE_AGAIN_S = 0.2
"""A captain that was just deciding on a ring takes no leave; it hears of it again."""

COUNTED = ("ready", "training", "finished")
"""Stages in which the worker answers."""


class Relay:
    """The ring's messages of this machine's membership."""

    def __init__(self, site: Site, member: Member, standing: Standing) -> None:
        self._site = site
        self._member = member
        self._standing = standing

    # --- from the captain ------------------------------------------------------------------------

    def on_proposal(self, sender: MachineKey, proposal: RingProposal) -> None:
        """A captain asks our worker to stop and to say what it has."""
        member = self._asked(sender, proposal)
        if member is not None:
            member.newest = max(member.newest, proposal.ring)
            self._site.out.add(TellWorker(member.job, member.generation, proposal))

    def on_plan(self, sender: MachineKey, message: RingPlan) -> None:
        """A captain tells our worker its new ring."""
        member = self._asked(sender, message)
        if member is None or (member.plan is not None and message.ring <= member.plan.ring):
            return
        try:
            plan = plan_of(message)
        except RemoteProtocolError as error:
            self._site.refused[error.code] += 1
            return
        member.newest = max(member.newest, message.ring)
        self._site.out.add(TellWorker(member.job, member.generation, message))
        if self._site.me.key not in plan.order:
            return
        member.plan = message
        if member.stage == "ready":
            member.stage = "training"
        for key, steps in plan.thrown_away:
            text = f"{self._site.name(key)} goes back to the others' state: {steps} committed steps"
            self._site.out.add(LogJob(member.job, f"{text} of its own are thrown away"))

    def _asked(self, sender: MachineKey, message: RingProposal | RingPlan) -> Membership | None:
        """The membership that a captain means; counts what comes from another, or too late."""
        if message.ring.captain != sender:
            self._site.refused["not-captain"] += 1
            return None
        member = self._member.now
        mine = member is not None and member.job == message.job
        if member is not None and mine and member.generation == message.generation:
            if member.stage in COUNTED and not member.exited:
                return member
        elif mine:
            self._site.refused["other-generation"] += 1
            return None
        job = self._site.registry.get(message.job)
        why = self._member.why_not(job.record) if job else None
        why = why or f"{self._site.me.name} has no worker in it"
        self._site.out.send(sender, RingLeave(message.job, message.generation, True, why))
        return None

    # --- from our worker -------------------------------------------------------------------------

    def worker_event(self, job: JobId, generation: Generation, event: object, now: float) -> None:
        """What the worker said or suffered. A worker of another generation is no news."""
        member = self._member.now
        if member is None or (member.job, member.generation) != (job, generation):
            return
        if isinstance(event, RingAck):
            self._on_ack(member, event)
        elif isinstance(event, RingComplaint):
            self._on_complaint(member, event)
        elif isinstance(event, WorkerDismissed):
            self._member.dismissed()
        else:
            if isinstance(event, WorkerFailed) and event.blames and member.plan is not None:
                about, ring = MachineKey(event.blames), member.plan.ring
                why = f"is to blame: {event.reason}"
                complaint = RingComplaint(job, generation, ring, about, why)
                self._on_complaint(member, complaint)
            self._member.worker_event(job, generation, event, now)

    def _on_ack(self, member: Membership, ack: RingAck) -> None:
        """Our worker answers a captain."""
        if (ack.job, ack.generation) == (member.job, member.generation):
            self._site.out.send(ack.to, ack)

    def _on_complaint(self, member: Membership, complaint: RingComplaint) -> None:
        """Our worker's ring cannot go on. Where it is the captain that is silent, the next one
        after it hears it, and it alone: two that ask at once are in each other's way."""
        job = self._site.registry.get(member.job)
        if job is None or (complaint.job, complaint.generation) != (member.job, member.generation):
            return
        suspect = suspect_of(complaint, member, job.record)
        captain = self._standing.captain_of(job.record, but=(suspect,))
        captain = captain or self._standing.captain_of(job.record)
        if captain is not None:
            self._site.out.send(captain, complaint)

    # --- leaving ---------------------------------------------------------------------------------

    def leave(self, why: str, now: float) -> None:
        """This machine wants to go: with its state handed over, if there is anybody."""
        member = self._member.now
        job = self._site.registry.get(member.job) if member else None
        if member is None or job is None:
            return
        others = [m.key for m in job.record.members if m.key != self._site.me.key]
        alone = not any(self._site.here(key) for key in others)
        if member.stage != "training" or alone or member.leaves_at is not None:
            return
        member.leaves, member.leaves_at, member.left_said_at = why, now + LEAVE_S, now
        message = RingLeave(member.job, member.generation, False, why)
        self._site.out.add(TellWorker(member.job, member.generation, message))
        self._say_leave(member, job.record)

    def handle_timer(self, now: float) -> None:
        """Say again that this machine leaves; end it when its time is over."""
        member = self._member.now
        if member is None or member.leaves_at is None:
            return
        job = self._site.registry.get(member.job)
        if now >= member.leaves_at:
            self._member.gone(f"{self._site.me.name} {member.leaves}")
        elif now - member.left_said_at >= LEAVE_AGAIN_S and job is not None:
            member.left_said_at = now
            self._say_leave(member, job.record)

    def next_timer(self) -> float:
        """When there is something to do without any input."""
        member = self._member.now
        if member is None or member.leaves_at is None:
            return float("inf")
        return min(member.leaves_at, member.left_said_at + LEAVE_AGAIN_S)

    def _say_leave(self, member: Membership, record: JobRecord) -> None:
        captain = self._standing.captain_of(record)
        if captain is not None:
            message = RingLeave(member.job, member.generation, False, member.leaves)
            self._site.out.send(captain, message)

    def changed(self, record: JobRecord) -> None:
        """A record that counts this machine in, though it has no worker for it."""
        me = self._site.me.key
        counted = any(part.key == me for part in record.members)
        if record.state != "training" or not counted or me in self._standing.out_of(record):
            return
        why = self._member.why_not(record)
        if why is not None:
            self._member.say_gone(record, why)

    def welcome(self, key: MachineKey) -> None:
        """A machine came that may count on a worker which this one has no more."""
        for job in self._site.registry:
            members = [part.key for part in job.record.members]
            if job.record.state == "training" and {key, self._site.me.key} <= set(members):
                why = self._member.why_not(job.record)
                if why is not None:
                    self._member.say_gone(job.record, why, key)


def suspect_of(
    complaint: RingComplaint, member: Membership | None, record: JobRecord
) -> MachineKey:
    """Whose silence a complaint is about: a ring that was asked for and never came is its
    captain's, unless that one has said why it cannot come."""
    if is_stalled(record):
        return complaint.about
    came = member is not None and member.plan is not None and member.plan.ring >= complaint.ring
    return complaint.about or (MachineKey("") if came else complaint.ring.captain)


def is_of(record: JobRecord, member: Membership | None) -> bool:
    """Whether this machine's membership is in this record's attempt."""
    return member is not None and member.ring_id() == (record.job, *ring_of(record))
