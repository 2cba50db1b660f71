"""How a ring comes to be: the captain's part. The members' part is `meshd/core/member.py`.

The captain of a job is the living machine with the lowest `captain_order(job, key)`: a function of
who is alive, so nobody elects it, and when it is lost the next one takes over.

    captain                                      member
      record -> forming(g), gossiped     --->    knows the record
      PROPOSE(g, ring order)             --->    fetches blobs, starts its worker, for as long as
                                                 it takes: a large file on a slow link is no fault
                            READY(g, port)  <--- or REFUSE(g, reason, fatal)
      all ready: record -> training(g); from here on the ring's captain acts (`meshd.core.rings`)

A member that refuses or is lost ends the generation: ABORT to the others, and the job waits again
with g + 1. Three in a row stop the job. Two captains that do not see each other may both form g:
records then say which one counts (`meshd.core.job.order`), and the other one gives up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from meshd.core.job import advance, captain_order
from meshd.core.messages import Abort, JobRecord, Propose, Ready, Refuse
from meshd.core.registry import Job, ring_of
from meshd.core.scheduler import Decision, Machine, Request, schedule
from meshd.core.site import Site
from meshd.core.types import Generation, JobId, MachineKey, Step

FAILURES_MAX = 3  # the third failed ring in a row is no accident; a person should look
RETRY_S = 1.0  # one period of heartbeats: the next try then sees what made the last one fail
SETTLE_S = 4.0  # after its start a daemon first listens: longer than a lost machine is missed
PATIENCE_S = 15.0
"""A captain that sees too few machines forms nothing. Another machine, which sees enough, tries it
in its place after this time: then some member refuses and says whom it does not hear."""
RESEND_S = 5.0  # a link that broke and came back may have lost a message; all may come twice


@dataclass
class Formation:
    """One generation that this machine forms. Complete when `ready` has every member."""

    job: JobId
    generation: Generation
    members: tuple[MachineKey, ...]
    step: Step
    asked_at: float
    ready: dict[MachineKey, Ready] = field(default_factory=dict)


class Captain:
    """All formations of this machine."""

    def __init__(self, site: Site, now: float) -> None:
        self._site = site
        self._settled_at = now + SETTLE_S
        self._formations: dict[JobId, Formation] = {}
        self._failures: dict[JobId, int] = {}
        self._retry_at: dict[JobId, float] = {}
        self._possible_since: dict[JobId, float] = {}
        """When a job that another captain should form could first have been formed."""

    def captain_of(self, job: JobId) -> MachineKey:
        """Who is the captain of a job now, as far as this machine sees."""
        return min(self._site.alive(), key=lambda key: captain_order(job, key))

    def decisions(self, own: Machine) -> list[Decision]:
        """What the scheduler says on all waiting jobs. `own`: this machine, free or not."""
        return schedule(self._requests(), self._machines(own))

    def consider(self, own: Machine, now: float) -> None:
        """Start forming what can be formed."""
        if now < self._settled_at:
            return
        self._take_over(now)
        if not self._requests():
            return
        for decision in self.decisions(own):
            if not decision.machines:
                self._possible_since.pop(decision.job, None)
            elif self._our_turn(decision.job, now):
                self._propose(decision, now)
                return  # the machines are taken now: `Node` asks again after this change

    def handle_timer(self, now: float) -> None:
        """Repeat what a broken link may have swallowed."""
        for formation in self._formations.values():
            if now - formation.asked_at >= RESEND_S:
                formation.asked_at = now
                self._ask(formation, set(formation.members) - set(formation.ready))

    def next_timer(self, now: float) -> float:
        """When there is something to do without any input."""
        times = [formation.asked_at + RESEND_S for formation in self._formations.values()]
        for at in (self._settled_at, *self._retry_at.values()):
            if at > now:
                times.append(at)
        return min(times, default=float("inf"))

    # --- inputs ----------------------------------------------------------------------------------

    def forms(self, job: JobId) -> bool:
        """Whether this machine forms an attempt at a job now."""
        return job in self._formations

    def on_ready(self, sender: MachineKey, ready: Ready, now: float) -> None:
        """A member is ready; the last one completes the ring."""
        formation = self._formation(sender, ready.job, ready.generation)
        if formation is None:
            return
        formation.ready[sender] = ready
        other = min(formation.ready)
        first, names = formation.ready[other], self._site.names([sender, other])
        if (ready.steps, ready.parameters) != (first.steps, first.parameters):
            self._fail(formation, f"{names} count different steps or parameters for one job")
        elif ready.shape != first.shape:
            self._fail(formation, f"{names} cut the job into different slices")
        elif len(formation.ready) == len(formation.members):
            self._commit(formation)

    def on_refuse(self, sender: MachineKey, refuse: Refuse, now: float) -> None:
        """A member cannot take part."""
        formation = self._formation(sender, refuse.job, refuse.generation)
        if formation is None:
            return
        name = self._site.name(sender)
        about_itself = refuse.reason.startswith("it ")  # "desk-3 does not hear desk-2"
        reason = f"{name}{refuse.reason[2:]}" if about_itself else f"{name}: {refuse.reason}"
        if refuse.fatal:
            self._fail(formation, reason)
        else:
            self._abandon(formation, reason, now, counted=not refuse.busy)

    def lost(self, key: MachineKey, why: str, now: float) -> None:
        """A machine is gone, and with it the formations that need it."""
        for formation in list(self._formations.values()):
            if key in formation.members:
                self._abandon(formation, f"{self._site.name(key)} {why}", now, counted=True)

    def changed(self, record: JobRecord, now: float) -> None:
        """A record of a job changed, perhaps by a peer."""
        formation = self._formations.get(record.job)
        if record.state != "waiting":
            self._possible_since.pop(record.job, None)
        if record.state not in ("waiting", "forming"):
            self._retry_at.pop(record.job, None)
            self._failures.pop(record.job, None)
        if formation is None:
            return
        ours = ring_of(record) == (formation.generation, self._site.me.key)
        if not ours or record.state != "forming":
            del self._formations[record.job]
            self._abort(formation, record.reason)
        elif record.checkpoint.step != formation.step:
            self._abandon(formation, "a later checkpoint came to light", now, counted=False)

    # --- steps -----------------------------------------------------------------------------------

    def _our_turn(self, job: JobId, now: float) -> bool:
        """Whether this machine should form a ring that can be formed: see `PATIENCE_S`."""
        since = self._possible_since.setdefault(job, now)
        captain = self.captain_of(job) == self._site.me.key
        return now >= (self._retry_at.get(job, 0.0) if captain else since + PATIENCE_S)

    def _formation(
        self, sender: MachineKey, job: JobId, generation: Generation
    ) -> Formation | None:
        """The formation that a member speaks about; counts what is of another generation."""
        formation = self._formations.get(job)
        if formation is None or formation.generation != generation:
            self._site.refused["other-generation"] += 1
            return None
        if sender not in formation.members:
            self._site.refused["not-a-member"] += 1
            return None
        return formation

    def _propose(self, decision: Decision, now: float) -> None:
        job = self._site.registry.get(decision.job)
        assert job is not None  # noqa: S101 - the scheduler only answers for registered jobs
        record = advance(
            job.record,
            "form",
            f"{self._site.names(list(decision.machines))}"
            f" {'prepares' if len(decision.machines) == 1 else 'prepare'}",
            captain=self._site.me.key,
            members=tuple(self._site.ring_member(key) for key in decision.machines),
            step=job.record.checkpoint.step,
            began=job.record.checkpoint.step,
        )
        formation = Formation(record.job, record.generation, decision.machines, record.step, now)
        self._formations[record.job] = formation
        self._site.registry.put(record)
        self._ask(formation, decision.machines)

    def _ask(self, formation: Formation, members: Iterable[MachineKey]) -> None:
        proposal = Propose(formation.job, formation.generation, formation.members)
        for key in sorted(members):
            self._site.out.send(key, proposal)

    def _commit(self, formation: Formation) -> None:
        job = self._drop(formation)
        ready = formation.ready[formation.members[0]]
        members = tuple(
            self._site.ring_member(key, formation.ready[key].port) for key in formation.members
        )
        record = advance(
            job.record,
            "commit",
            f"trains on {self._site.names(list(formation.members))}",
            members=members,
            steps=ready.steps,
            parameters=ready.parameters,
        )
        self._site.registry.put(record)

    def _abandon(self, formation: Formation, reason: str, now: float, counted: bool) -> None:
        job = self._drop(formation)
        failures = self._failures.get(formation.job, 0) + int(counted)
        self._failures[formation.job] = failures
        self._retry_at[formation.job] = now + RETRY_S
        self._abort(formation, reason)
        if failures >= FAILURES_MAX:
            hint = self._site.resume_hint(job.record, job.spec.name)
            sentence = f"{failures} rings in a row could not be formed; the last one: {reason}"
            self._site.registry.put(advance(job.record, "stop", f"{sentence}; {hint}"))
        else:
            self._site.registry.put(
                advance(job.record, "abandon", f"the last ring could not be formed: {reason}")
            )

    def _fail(self, formation: Formation, reason: str) -> None:
        job = self._drop(formation)
        self._abort(formation, reason)
        self._site.registry.put(advance(job.record, "fail", reason))

    def _abort(self, formation: Formation, reason: str) -> None:
        message = Abort(formation.job, formation.generation, "", reason)
        for key in formation.members:
            self._site.out.send(key, message)

    def _drop(self, formation: Formation) -> Job:
        del self._formations[formation.job]
        job = self._site.registry.get(formation.job)
        assert job is not None  # noqa: S101 - only finished jobs are forgotten
        return job

    def _take_over(self, now: float) -> None:
        """A captain that was lost while it formed a ring leaves the job to the next one."""
        for job in self._site.registry:
            record = job.record
            if record.state != "forming" or record.job in self._formations:
                continue
            ours = record.captain == self._site.me.key  # from before this daemon restarted
            orphaned = not self._site.here(record.captain)
            if ours or (orphaned and self.captain_of(record.job) == self._site.me.key):
                name = self._site.name(record.captain)
                reason = f"{name}, which formed the last ring, was lost or restarted"
                self._retry_at[record.job] = now + RETRY_S
                self._site.registry.put(advance(record, "abandon", reason))

    # --- views -----------------------------------------------------------------------------------

    def _requests(self) -> list[Request]:
        return [
            Request(
                job.record.job,
                job.record.submitted_at,
                job.spec.mesh.members_min,
                job.most(),
            )
            for job in self._site.registry
            if job.record.state == "waiting"
        ]

    def left_over(self, own: Machine) -> list[Machine]:
        """Machines that no waiting job gets now: free for a job that trains."""
        taken = {key for decision in self.decisions(own) for key in decision.machines}
        return [m for m in self._machines(own) if m.available and m.key not in taken]

    def _machines(self, own: Machine) -> list[Machine]:
        """All living machines; one that a record places in a ring is taken, whatever it says."""
        placed = {
            member.key: f"prepares {job.spec.name}"
            for job in self._site.registry
            if job.record.state == "forming"
            for member in job.record.members
        }
        machines = [own]
        for peer in self._site.peers:
            if peer.alive:
                machines.append(Machine(peer.key, peer.name, peer.available, peer.why))
        return [
            replace(machine, available=False, why=placed[machine.key])
            if machine.available and machine.key in placed
            else machine
            for machine in machines
        ]
