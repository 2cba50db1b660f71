"""The captain's part in a change of a job's ring: who is asked, how long, and when it is decided.

    training --(lost, leaves, joins, complaint)--> asking --(all answered, or silence)--> training
                                                      ^  |
                                                      +--+  stalled: some slice is nobody's

A member that is lost is not asked; one that does not answer within what answers took so far is left
out, and comes back as a newcomer when it can. Whoever answered has stopped for this ring, so the
older one can commit nothing more, whatever the silent ones do.

Every decision comes with a sentence. What is sent may get lost: members repeat their ACK until they
hear the plan, and the captain asks again. The caller repeats, too: who wants in or out, and who
is lost, is said again until a ring shows that it was heard.

Two captains (views of who lives may differ for a while) outbid each other, since the higher ring
counts: each waits longer from time to time before it tries again, but the first by name, whom all
who see both follow, does not. A ring that another one formed ends what this one asks.

Who stops a ring again and again loses its place: a member that others blame, one that answers and
does not do its part, one that blames now this member and now that.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from meshd.core.ring.agreement import NO_RING, Ack, Plan, Proposal, RingId
from meshd.core.ring.deadline import Deadline
from meshd.core.ring.plan import Shape, Stall, make_plan
from meshd.core.types import MachineKey

ANSWER_FIRST_S, ANSWER_FLOOR_S, ANSWER_CEILING_S = 2.0, 0.6, 10.0
"""An ACK takes a round trip and what the member's ring thread does at the moment: milliseconds. The
floor is for a machine that is loaded by its owner."""

UNSUSPECTED_S = 2.5
"""At least so long a member may take that nobody has complained about. It is probably well and has
no time at the moment: a machine whose cores are taken by a process that loads torch has been seen
to answer after a second, and two rings that train side by side throw away what one of them did."""

ASK_AGAIN_S = 0.3
"""How long the answer to a PROPOSE may take before it is sent again: it may have been lost."""

JOIN_BATCH_S = 1.0
"""Newcomers are taken in together with those that come within this time: each new ring costs all
members a step."""

BLAMES_MAX = 2
"""So many rings in a row that end with complaints about one member that answers all the same, and
bring no step: then the ring is formed without it."""

BARRED_S, BARRED_MAX_S = 30.0, 3600.0
"""How long such a member may not come back, twice as long each time: every attempt may cost the
others as much as their patience with it, seconds."""

FALL_BACK_S = 120.0
"""How long a job waits for members that are away and may have committed more, before it goes on
from an older state that is whole: a machine is started again in less, and hours of training may lie
between; a newcomer that drew the first state has all of it."""

OUTBIDS_MAX = 5
"""Doublings of `ASK_AGAIN_S`, to 10 s, which leave another captain the time for a whole ring."""


@dataclass(frozen=True)
class Ask:
    """Send a member the proposal."""

    to: MachineKey
    proposal: Proposal


@dataclass(frozen=True)
class Tell:
    """Send a member the plan."""

    to: MachineKey
    plan: Plan


@dataclass(frozen=True)
class Formed:
    """The ring is decided; `why`: a sentence."""

    plan: Plan
    why: str


@dataclass(frozen=True)
class Stalled:
    """No ring can be formed from those who are there; `missing`: slices that nobody has."""

    why: str
    step: int
    missing: tuple[int, ...]


CaptainEffect = Ask | Tell | Formed | Stalled


@dataclass
class _Asking:
    """A proposal that is being answered."""

    proposal: Proposal
    why: str
    since: float
    asked_at: float
    complaint: tuple[MachineKey, MachineKey] | None = None
    """Who complained of the present ring, and about whom, if that is why it is asked."""
    acks: dict[MachineKey, Ack] = field(default_factory=dict)
    stalled: bool = False
    tried: int | None = None
    """The floor with which these answers gave no ring."""
    outbid_until: float | None = None
    """Another captain asked for a higher ring: when to ask for a still higher one."""


class RingCaptain:
    """One job's changes of ring, while this machine is its captain."""

    def __init__(self, me: MachineKey, shape: Shape, least: int = 1, salt: int = 0) -> None:
        """`least`: members without which the job does not go on. `salt`: drawn by each process."""
        self.me = me
        self._salt = salt
        self.members: tuple[MachineKey, ...] = ()
        """The present ring's, or those who are asked for the next one; in ring order."""
        self.newest = NO_RING
        """The highest ring that this captain knows of."""
        self.plan: Plan | None = None
        self._shape = shape
        self._least = least
        self._asking: _Asking | None = None
        self._joining: dict[MachineKey, float] = {}
        self._answers = Deadline(ANSWER_FIRST_S, ANSWER_FLOOR_S, ANSWER_CEILING_S)
        self._blamed: Counter[MachineKey] = Counter()
        """Rings since the last step that ended with a complaint about this member."""
        self._accused: dict[MachineKey, set[MachineKey]] = {}
        """Sender -> whom it complained about since the last step."""
        self._blamed_at = -1
        self._barred: dict[MachineKey, tuple[float | None, float]] = {}
        """Who lost its place -> until when it may not come back (None: from its next wish on), and
        for how long that was."""
        self._stalled_at: float | None = None
        """Since when no ring can be formed."""
        self._outbids = 0
        """Higher rings of others since the last one that was formed here."""
        self._out: list[CaptainEffect] = []

    def drain(self) -> list[CaptainEffect]:
        """Effects since the last call, in order."""
        effects, self._out = self._out, []
        return effects

    @property
    def asks(self) -> bool:
        """Whether a proposal is being answered."""
        return self._asking is not None

    # --- inputs ----------------------------------------------------------------------------------

    def take_over(self, plan: Plan | None, newest: RingId) -> None:
        """Become captain of a job whose present ring another machine formed, or that has none."""
        self.newest = max(self.newest, newest)
        if plan is not None and (self.plan is None or plan.ring > self.plan.ring):
            self.newest = max(self.newest, plan.ring)
            self.plan = plan
            for key, pause in plan.barred:
                self._barred.setdefault(key, (0.0 if key in plan.order else None, pause))
            if self._asking is None or plan.ring > self._asking.proposal.ring:
                self.members, self._asking = plan.order, None

    def saw(self, ring: RingId) -> None:
        """Somebody spoke of this ring; the next proposal has to be higher."""
        self.newest = max(self.newest, ring)

    def form(self, members: tuple[MachineKey, ...], why: str, now: float) -> None:
        """Ask these machines for a ring, the first one of the job or a new one."""
        self.members = members
        self._ask(why, now)

    def lost(self, key: MachineKey, why: str, now: float) -> None:
        """A machine is gone for good: its worker ended, or its daemon is not heard."""
        self._joining.pop(key, None)
        if key not in self.members:
            return
        self.members = tuple(member for member in self.members if member != key)
        if self._asking is None:
            self._ask(why, now)
        else:
            self._asking.acks.pop(key, None)
            self._asking.tried = None
            self._decide(now)

    def leaves(self, key: MachineKey, why: str, now: float) -> None:
        """A member wants to go: the next ring is without it, but it hands over first."""
        if key in self.members and self._asking is None:
            self._ask(why, now)

    def joins(self, key: MachineKey, now: float) -> None:
        """A machine has the data and a worker, and wants in; also one that was lost and is back."""
        if key in self.members:
            return
        until, pause = self._barred.get(key, (0.0, 0.0))
        if until is None:
            until = now + pause
            self._barred[key] = until, pause
        if now >= until:
            self._joining.setdefault(key, now)

    def complains(
        self, sender: MachineKey, ring: RingId, about: MachineKey, why: str, now: float
    ) -> None:
        """A member says that its ring cannot go on."""
        self.saw(ring)
        plan = self.plan
        if self._asking is not None or (plan is not None and ring < plan.ring):
            return
        ours = plan is not None and ring == plan.ring
        if plan is not None and ours and sender not in plan.order:
            return
        self._ask(why, now)
        if ours and self._asking is not None:
            self._asking.complaint = sender, about

    def on_ack(self, sender: MachineKey, ack: Ack, now: float) -> None:
        """A member answers a proposal."""
        asking = self._asking
        if asking is None or ack.ring != asking.proposal.ring:
            if self.plan is not None and ack.ring == self.plan.ring:
                self._out.append(Tell(sender, self.plan))  # it did not hear COMMIT
            self.saw(ack.ring)
            if asking is not None and ack.ring > asking.proposal.ring:
                self._outbid(asking, ack.ring.captain, now)
            return
        if sender not in asking.proposal.members:
            return
        if sender not in asking.acks:
            self._answers.observe(max(0.0, now - asking.since))
        if asking.acks.get(sender) != ack:
            asking.acks[sender], asking.tried = ack, None
        self._decide(now)

    def handle_timer(self, now: float) -> None:
        """Ask again, decide without the silent ones, take in who has come."""
        asking = self._asking
        if asking is None:
            if self._joining and now - min(self._joining.values()) >= JOIN_BATCH_S:
                self._ask("machines join", now)
            return
        if asking.outbid_until is not None:
            if now >= asking.outbid_until:
                self._ask(asking.why, now)
            return
        if asking.stalled and self._joining:
            self._ask(asking.why, now)  # whoever comes may have what the others lack
            return
        if now - asking.asked_at >= ASK_AGAIN_S:
            asking.asked_at = now
            for key in self._silent(asking):
                self._out.append(Ask(key, asking.proposal))
        self._decide(now)

    def next_timer(self) -> float:
        """When there is something to do without any input."""
        asking = self._asking
        if asking is not None and asking.outbid_until is not None:
            return asking.outbid_until
        if asking is not None:
            again = asking.asked_at + ASK_AGAIN_S
            return again if asking.stalled else min(again, self._until(asking))
        return min(self._joining.values(), default=float("inf")) + JOIN_BATCH_S

    # --- steps -----------------------------------------------------------------------------------

    def _ask(self, why: str, now: float) -> None:
        """A new proposal to all members and all that want in."""
        self.members = (*self.members, *sorted(set(self._joining) - set(self.members)))
        self._joining.clear()
        self.newest = RingId(self.newest.generation + 1, self.me, self._salt)
        proposal = Proposal(self.newest, self.members)
        self._asking = _Asking(proposal, why, now, now)
        for key in self.members:
            self._out.append(Ask(key, proposal))

    def _outbid(self, asking: _Asking, other: MachineKey, now: float) -> None:
        """Another captain asked for a higher ring meanwhile. The first time it may be long gone."""
        if asking.outbid_until is not None:
            return
        self._outbids += 1
        doublings = min(self._outbids, OUTBIDS_MAX) if other < self.me else 0
        pause = ASK_AGAIN_S * 2**doublings if self._outbids > 1 else 0.0
        asking.outbid_until = now + pause
        if not pause:
            self._ask(asking.why, now)

    def _blame(self, about: MachineKey, sender: MachineKey, now: float) -> None:
        """A ring ended because of this member, as the sender sees it."""
        self._blamed[about] += 1
        accused = self._accused.setdefault(sender, set())
        accused.add(about)
        if self._blamed[about] <= BLAMES_MAX:
            return
        culprit = about
        if sender in self.members and len(accused) > 1:  # not all of them: it hears nobody itself
            culprit = sender
            for key in accused - {sender}:
                self._barred.pop(key, None)
        self._expel(culprit, now)

    def _expel(self, key: MachineKey, now: float) -> None:
        _, before = self._barred.get(key, (0.0, 0.0))
        pause = min(max(2 * before, BARRED_S), BARRED_MAX_S)
        self._barred[key] = now + pause, pause
        del self._blamed[key]
        self.members = tuple(member for member in self.members if member != key)

    def _judge(self, asking: _Asking, now: float) -> None:
        """Who is to blame for the end of the ring, once the answers are there."""
        if asking.complaint is None or self.plan is None:
            return
        (sender, about), asking.complaint = asking.complaint, None
        steps = max((ack.step for ack in asking.acks.values()), default=-1)
        if steps > self._blamed_at:
            self._blamed.clear()
            self._accused.clear()
            self._blamed_at = steps
        if about:
            self._blame(about, sender, now)
        else:
            for key in self._idle(asking, self.plan) or [sender]:
                self._blame(key, key, now)
        for key in set(asking.acks) - set(self.members):
            del asking.acks[key]

    def _idle(self, asking: _Asking, plan: Plan) -> list[MachineKey]:
        """A ring stood still: the others waited for who still had its part to do. None if most of
        them had: then it was the one who said so that was in a hurry."""
        answered = [key for key in plan.order if key in asking.acks]
        idle = [key for key in answered if not asking.acks[key].waits]
        return idle if 2 * len(idle) <= len(answered) else []

    def _silent(self, asking: _Asking) -> list[MachineKey]:
        """Members that were asked, are not lost, and have not answered."""
        return [k for k in asking.proposal.members if k in self.members and k not in asking.acks]

    def _until(self, asking: _Asking) -> float:
        """How long to wait for who is silent: less for who was complained about."""
        about = asking.complaint[1] if asking.complaint else None
        limit = self._answers.limit()
        if any(key != about for key in self._silent(asking)):
            limit = max(limit, UNSUSPECTED_S)
        return asking.since + limit

    def _decide(self, now: float) -> None:
        """Form the ring if everybody answered, or if who did not has had its time."""
        asking = self._asking
        if asking is None or asking.outbid_until is not None:
            return
        if self._silent(asking) and now < self._until(asking):
            return
        self._judge(asking, now)
        staying = [key for key, ack in asking.acks.items() if not ack.leaving]
        if len(staying) < max(1, self._least):
            what = f"{len(staying)} of at least {self._least} machines are there"
            self._stall(asking, what, now)
            return
        before = self.plan.order if self.plan else self.members
        floor = self._floor(asking, now)
        if asking.tried == floor:
            return
        plan = make_plan(asking.proposal.ring, asking.acks, before, self._shape, floor)
        if isinstance(plan, Stall):
            asking.tried = floor
            what = f"nobody who is there has {len(plan.missing)} of the slices"
            self._stall(asking, what, now, plan.step, plan.missing)
            return
        self._asking = self._stalled_at = None
        plan = replace(plan, barred=tuple((key, one[1]) for key, one in self._barred.items()))
        self.plan, self.members = plan, plan.order
        self._outbids = 0
        for key in asking.acks:
            self._out.append(Tell(key, plan))
        self._out.append(Formed(plan, asking.why))

    def _floor(self, asking: _Asking, now: float) -> int:
        """The steps that must not be lost yet: what somebody who is there has committed, while
        others are away that were in the last ring. That ring may not have got to its own first
        state: then those who are there have the step before, and no more can be missing."""
        plan = self.plan
        if plan is None or all(key in asking.acks for key in plan.order):
            return 0
        if self._stalled_at is not None and now - self._stalled_at >= FALL_BACK_S:
            return 0
        return max(plan.step - 1, *(ack.step for ack in asking.acks.values() if ack.past), 0)

    def _stall(
        self,
        asking: _Asking,
        why: str,
        now: float,
        step: int = -1,
        missing: tuple[int, ...] = (),
    ) -> None:
        """Say once that the job waits; who answers later may complete it."""
        if self._stalled_at is None:
            self._stalled_at = now
        if not asking.stalled:
            asking.stalled = True
            self._out.append(Stalled(why, step, missing))
