"""The captain's part in a change of a job's ring: who is asked, how long, and when it is decided.

    training --(lost, leaves, joins, complaint)--> asking --(all answered, or silence)--> training
                                                      ^  |
                                                      +--+  stalled: some slice is nobody's

A member that is lost is not asked; one that does not answer within what answers took so far is left
out, and comes back as a newcomer when it can. Whoever answered has stopped for this ring, so the
older one can commit nothing more, whatever the silent ones do.

Every decision comes with a sentence. What is sent may get lost: members repeat their ACK until they
hear the plan, and the captain asks again.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from meshd.core.ring.agreement import NO_RING, Ack, Plan, Proposal, RingId
from meshd.core.ring.deadline import Deadline
from meshd.core.ring.plan import Shape, Stall, make_plan
from meshd.core.types import MachineKey

ANSWER_FIRST_S, ANSWER_FLOOR_S, ANSWER_CEILING_S = 2.0, 0.6, 10.0
"""An ACK takes a round trip and what the member's ring thread does at the moment: milliseconds. The
floor is for a machine that is loaded by its owner."""

ASK_AGAIN_S = 0.3
"""How long the answer to a PROPOSE may take before it is sent again: it may have been lost."""

JOIN_BATCH_S = 1.0
"""Newcomers are taken in together with those that come within this time: each new ring costs all
members a step."""

BLAMES_MAX = 2
"""So many rings in a row that end with complaints about one member that answers all the same, and
bring no step: then the ring is formed without it."""


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
    acks: dict[MachineKey, Ack] = field(default_factory=dict)
    stalled: bool = False


class RingCaptain:
    """One job's changes of ring, while this machine is its captain."""

    def __init__(self, me: MachineKey, shape: Shape, least: int = 1) -> None:
        """`least`: members without which the job does not go on."""
        self.me = me
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
        self._blamed_at = -1
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
            self.plan, self.members = plan, plan.order
            self.newest = max(self.newest, plan.ring)

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
            self._decide(now)

    def leaves(self, key: MachineKey, why: str, now: float) -> None:
        """A member wants to go: the next ring is without it, but it hands over first."""
        if key in self.members and self._asking is None:
            self._ask(why, now)

    def joins(self, key: MachineKey, now: float) -> None:
        """A machine has the data and a worker, and wants in."""
        if key not in self.members:
            self._joining.setdefault(key, now)

    def complains(
        self, sender: MachineKey, ring: RingId, about: MachineKey, why: str, now: float
    ) -> None:
        """A member says that its ring cannot go on."""
        self.saw(ring)
        if self._asking is not None or (self.plan is not None and ring < self.plan.ring):
            return
        if about in self.members:
            self._blamed[about] += 1
            if self._blamed[about] > BLAMES_MAX:
                del self._blamed[about]
                self.members = tuple(member for member in self.members if member != about)
        self._ask(why, now)

    def on_ack(self, sender: MachineKey, ack: Ack, now: float) -> None:
        """A member answers a proposal."""
        asking = self._asking
        if asking is None or ack.ring != asking.proposal.ring:
            if self.plan is not None and ack.ring == self.plan.ring:
                self._out.append(Tell(sender, self.plan))  # it did not hear COMMIT
            self.saw(ack.ring)
            if asking is not None and ack.ring > asking.proposal.ring:
                self._ask(asking.why, now)  # another captain asked for a higher one meanwhile
            return
        if sender not in asking.proposal.members:
            return
        if sender not in asking.acks:
            self._answers.observe(max(0.0, now - asking.since))
        asking.acks[sender] = ack
        self._decide(now)

    def handle_timer(self, now: float) -> None:
        """Ask again, decide without the silent ones, take in who has come."""
        asking = self._asking
        if asking is None:
            if self._joining and now - min(self._joining.values()) >= JOIN_BATCH_S:
                self._ask("machines join", now)
            return
        if now - asking.asked_at >= ASK_AGAIN_S:
            asking.asked_at = now
            for key in self._silent(asking):
                self._out.append(Ask(key, asking.proposal))
        self._decide(now)

    def next_timer(self) -> float:
        """When there is something to do without any input."""
        if self._asking is not None:
            again = self._asking.asked_at + ASK_AGAIN_S
            return again if self._asking.stalled else min(again, self._until(self._asking))
        return min(self._joining.values(), default=float("inf")) + JOIN_BATCH_S

    # --- steps -----------------------------------------------------------------------------------

    def _ask(self, why: str, now: float) -> None:
        """A new proposal to all members and all that want in."""
        self.members = (*self.members, *sorted(set(self._joining) - set(self.members)))
        self._joining.clear()
        self.newest = RingId(self.newest.generation + 1, self.me)
        proposal = Proposal(self.newest, self.members)
        self._asking = _Asking(proposal, why, now, now)
        for key in self.members:
            self._out.append(Ask(key, proposal))

    def _silent(self, asking: _Asking) -> list[MachineKey]:
        """Members that were asked, are not lost, and have not answered."""
        return [k for k in asking.proposal.members if k in self.members and k not in asking.acks]

    def _until(self, asking: _Asking) -> float:
        return asking.since + self._answers.limit()

    def _decide(self, now: float) -> None:
        """Form the ring if everybody answered, or if who did not has had its time."""
        asking = self._asking
        if asking is None or (self._silent(asking) and now < self._until(asking)):
            return
        staying = [key for key, ack in asking.acks.items() if not ack.leaving]
        if len(staying) < max(1, self._least):
            self._stall(asking, f"{len(staying)} of at least {self._least} machines are there", -1)
            return
        before = self.plan.order if self.plan else self.members
        plan = make_plan(asking.proposal.ring, asking.acks, before, self._shape)
        if isinstance(plan, Stall):
            what = f"nobody who is there has {len(plan.missing)} of the slices"
            self._stall(asking, what, plan.step, plan.missing)
            return
        self._asking = None
        self.plan, self.members = plan, plan.order
        if plan.step > self._blamed_at:
            self._blamed.clear()
        self._blamed_at = plan.step
        for key in asking.acks:
            self._out.append(Tell(key, plan))
        self._out.append(Formed(plan, asking.why))

    def _stall(self, asking: _Asking, why: str, step: int, missing: tuple[int, ...] = ()) -> None:
        """Say once that the job waits; who answers later may complete it."""
        if not asking.stalled:
            asking.stalled = True
            self._out.append(Stalled(why, step, missing))
