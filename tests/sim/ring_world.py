"""Members and captains of one job under a virtual clock, on a network that obeys a seed.

The machines are those of `meshd/core/ring`; the job is of small whole numbers (`ring_toy`). What is
simulated is only what lies outside them: links, threads that compute, and who believes whom alive.
"""

from __future__ import annotations

import functools
import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from ring_links import Links, Weather
from ring_toy import ToyHolding, ToyJob

from meshd.core.ring import captain as captains
from meshd.core.ring.agreement import NO_RING, Ack, Plan, Proposal, RingId
from meshd.core.ring.captain import RingCaptain
from meshd.core.ring.effects import (
    Answer,
    Committed,
    Complaint,
    Dismissed,
    Gathered,
    MemberEffect,
    Reformed,
    SendFrame,
)
from meshd.core.ring.member import NOTHING, RingMember

GATHER_EVERY = 2
KIND_CHECK, KIND_END = 1, 2
VIEW_S = 3.0  # as meshd.core.peers.LOST_AFTER_S: when a silent machine is missed
BEAT_S = 0.3


@dataclass
class Node:
    """One machine: its worker's member, its daemon's captain, what it believes."""

    key: str
    holding: ToyHolding
    member: RingMember
    view: set[str]
    known: Plan
    captain: RingCaptain | None = None
    alive: bool = True
    frozen: bool = False
    leaving: bool = False
    finished: bool = False
    waiting: list[Callable[[], None]] = field(default_factory=list)
    """What came while it was frozen."""
    ring: RingId | None = None
    timer: float = float("inf")
    log: list[tuple] = field(default_factory=list)
    """What happened to its state, across restarts."""
    gone_at: float | None = None


class World:
    """A job on some machines, from a seed. compute_s: the most that a bucket's gradient takes."""

    def __init__(
        self, seed: int, job: ToyJob, keys: list[str], weather: Weather, compute_s: float = 0.02
    ) -> None:
        self.random = random.Random(seed)
        self.job = job
        self.now = 0.0
        self.compute_s = compute_s
        self.links = Links(self.random, weather, self.after, lambda: self.now)
        self.nodes: dict[str, Node] = {}
        self.plans: dict[RingId, Plan] = {}
        self.formed_at: dict[RingId, float] = {}
        self.most_gone = 0
        """The most machines that were gone at once, see `went`."""
        self.fired: Counter[str] = Counter()
        self.stalls: list[captains.Stalled] = []
        self.complaints: list[Complaint] = []
        self.commits: list[tuple[float, str, int, RingId]] = []
        """(time, machine, step, ring) of every committed step."""
        self.struck: set[str] = set()
        self.left_at: dict[str, float] = {}
        self.finishers = 0
        self.lazy: set[str] = set()
        """Machines whose thread that computes hangs."""
        self.on_effect: Callable[[Node, object], None] | None = None
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self.start = Plan(NO_RING, tuple(keys), 0, (), (), job.copies)
        """As the job's record names its first members."""
        for key in keys:
            self.add(key, step=0)
        for node in self.nodes.values():
            node.view = set(keys)

    # --- time ------------------------------------------------------------------------------------

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.now + seconds, self._count, act))

    def run(self, until_s: float) -> bool:
        """Run to the end of the job; whether it ended in time."""
        while self._events and not self.ended():
            at, _, act = heapq.heappop(self._events)
            if at > until_s:
                return False
            self.now = at
            act()
        return self.ended()

    def ended(self) -> bool:
        return self.finishers > 0 and any(node.finished for node in self.living())

    # --- nodes -----------------------------------------------------------------------------------

    def living(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.alive and not node.frozen]

    def newest(self) -> RingId:
        """The highest ring that was formed."""
        return max(self.plans, default=NO_RING)

    def captain(self) -> str:
        """Who is captain, as most would say."""
        keys = [node.key for node in self.living() if node.captain is not None]
        return min(keys, default=min(self.nodes))

    def add(self, key: str, step: int = NOTHING) -> Node:
        """A machine that is ready to train: at the job's start with its first state."""
        holding = self.job.holding()
        member = RingMember(key, holding, holding.lay_out, step)
        before = self.nodes.get(key)
        view = {k for k, n in self.nodes.items() if n.alive} | {key}
        node = Node(key, holding, member, view, self.start)
        node.log = before.log if before else node.log
        holding.log = node.log
        if step == NOTHING:
            holding.forget()
        self.nodes[key] = node
        for other in self.nodes.values():
            if other.known.ring > node.known.ring:
                node.known = other.known
        self.after(self.random.uniform(0, 0.2), lambda: self._beat(node))
        return node

    def _beat(self, node: Node) -> None:
        """The daemon's period: news of the ring, wishes, who is captain."""
        if not node.alive:
            return
        if not node.frozen:
            self.act(node, lambda: self.daemon(node))
        self.after(BEAT_S, lambda: self._beat(node))

    def daemon(self, node: Node) -> None:
        for key in sorted(node.view - {node.key}):
            self._tell("NEWS", node.key, key, functools.partial(self._learn, plan=node.known))
        self._look(node)
        plan = node.known
        captain = self._captain_of(node)
        if node.finished:
            return
        if node.key not in plan.order and not node.leaving:
            self._tell("JOIN", node.key, captain, lambda other: self._joins(other, node.key))
        if node.leaving and node.key in plan.order:
            self._tell("LEAVE", node.key, captain, lambda other: self._leaves(other, node.key))

    def _joins(self, node: Node, key: str) -> None:
        if node.captain:
            node.captain.joins(key, self.now)

    def _leaves(self, node: Node, key: str) -> None:
        if node.captain:
            node.captain.leaves(key, f"{key} leaves", self.now)

    def _learn(self, node: Node, plan: Plan) -> None:
        if plan.ring > node.known.ring:
            node.known = plan
            self._look(node)

    def _captain_of(self, node: Node) -> str:
        """The first by name of the ring's members that live; without any, of all that live."""
        return min((k for k in node.known.order if k in node.view), default=min(node.view))

    def _look(self, node: Node) -> None:
        """Be captain or not, as this machine sees it."""
        if self._captain_of(node) != node.key:
            node.captain = None
            return
        if node.captain is None:
            salt = self.random.randrange(1 << 32)
            node.captain = RingCaptain(node.key, self.job.shape(), salt=salt)
        captain = node.captain
        captain.take_over(node.known, node.member.promised)
        if node.known.ring == NO_RING and not captain.asks:
            captain.form(node.known.order, "the job starts", self.now)
        for key in captain.members:
            if key not in node.view:
                captain.lost(key, f"{key} is lost", self.now)
        for key in node.known.order:  # lost before, and back while no ring could be formed
            if key in node.view and key not in captain.members:
                captain.joins(key, self.now)

    def sees(self, node: Node, key: str, alive: bool) -> None:
        """What a machine hears of another one's life."""
        if alive:
            node.view.add(key)
        elif key != node.key:
            node.view.discard(key)
        if node.captain and not alive:
            node.captain.lost(key, f"{key} is lost", self.now)
        self._look(node)

    # --- inputs and effects ----------------------------------------------------------------------

    def act(self, node: Node, act: Callable[[], None]) -> None:
        """Give a node an input now, or when it is no longer frozen; the dead get none."""
        if node.frozen:
            node.waiting.append(lambda: self.act(node, act))
        elif node.alive and self.nodes[node.key] is node:
            act()
            self._settle(node)

    def _settle(self, node: Node) -> None:
        moved = True
        while moved:
            moved = False
            for effect in node.member.drain():
                moved = True
                if self.on_effect:
                    self.on_effect(node, effect)
                self._member_effect(node, effect)
            for effect in node.captain.drain() if node.captain else ():
                moved = True
                if self.on_effect:
                    self.on_effect(node, effect)
                self._captain_effect(node, effect)
        at = node.member.next_timer()
        if node.captain:
            at = min(at, node.captain.next_timer())
        at = max(at, self.now + 0.001)
        if at < node.timer or node.timer <= self.now:
            node.timer = at
            if at < float("inf"):
                self.after(at - self.now, lambda: self._on_timer(node, at))

    def _on_timer(self, node: Node, at: float) -> None:
        if node.timer != at:
            return

        def act() -> None:
            node.timer = float("inf")
            node.member.handle_timer(self.now)
            if node.captain:
                node.captain.handle_timer(self.now)

        self.act(node, act)

    def _tell(self, what: str, a: str, b: str, act: Callable[[Node], None]) -> None:
        """A message between daemons."""
        node = self.nodes[b]
        self.links.control(what, a, b, lambda: self.act(node, lambda: act(node)))

    def _captain_effect(self, node: Node, effect: captains.CaptainEffect) -> None:
        if isinstance(effect, captains.Ask):
            self._tell("PROPOSE", node.key, effect.to, lambda o: self._ask(o, effect.proposal))
        elif isinstance(effect, captains.Tell):
            self._tell(
                "COMMIT", node.key, effect.to, lambda o: o.member.commit(effect.plan, self.now)
            )
        elif isinstance(effect, captains.Formed):
            assert effect.plan.ring not in self.plans
            before = self.plans.get(self.newest(), self.start).order
            for key in set(before) - set(effect.plan.order):
                if self.nodes[key].alive and self.nodes[key].gone_at is None:
                    self.went(self.nodes[key])  # not heard for too long
            self.plans[effect.plan.ring] = effect.plan
            self.formed_at[effect.plan.ring] = self.now
            self._learn(node, effect.plan)
        else:
            self.stalls.append(effect)

    def _ask(self, node: Node, proposal: Proposal) -> None:
        node.member.leaving = node.leaving
        node.member.propose(proposal, self.now)

    def _member_effect(self, node: Node, effect: MemberEffect) -> None:
        if isinstance(effect, SendFrame):
            self._frame(node, effect)
        elif isinstance(effect, Answer):
            self._tell("ACK", node.key, effect.to, lambda o: self._ack(o, node.key, effect.ack))
        elif isinstance(effect, Complaint):
            self.complaints.append(effect)
            captain = self._captain_of(node)
            self._tell(
                "COMPLAINT", node.key, captain, lambda o: self._complain(o, node.key, effect)
            )
        elif isinstance(effect, Committed):
            ring = node.member.history[-1][0]
            node.log.append(("commit", effect.step, ring, node.holding.digest()))
            self._complete(ring)
            self.commits.append((self.now, node.key, effect.step, ring))
            if node.member.stage == "training":
                self._next(node)
        elif isinstance(effect, Gathered):
            assert len(set(effect.payloads)) == 1, f"hashes differ at step {effect.step}"
            if effect.kind == KIND_END:
                node.finished = True
                self.finishers += 1
            else:
                self._compute(node)
        elif isinstance(effect, Reformed):
            node.ring = effect.plan.ring
            node.known = max((node.known, effect.plan), key=lambda plan: plan.ring)
            self._next(node)
        elif isinstance(effect, Dismissed):
            node.ring = None
            if node.leaving:
                node.alive = False
                self.left_at[node.key] = self.now
                self.fired["left"] += 1
                self.after(0.1, lambda: self.all_see(node, lambda: False))

    def _frame(self, node: Node, effect: SendFrame) -> None:
        if effect.to in self.nodes:
            to, head, payload = self.nodes[effect.to], effect.head, effect.payload
            self.links.frame(
                node.key,
                to.key,
                head,
                lambda: self.act(to, lambda: to.member.receive(node.key, head, payload, self.now)),
            )

    def _ack(self, node: Node, sender: str, ack: Ack) -> None:
        if node.captain:
            node.captain.on_ack(sender, ack, self.now)

    def _complain(self, node: Node, sender: str, complaint: Complaint) -> None:
        if node.captain:
            c = complaint
            why = f"{c.about} {c.why}" if c.about else c.why
            node.captain.complains(sender, c.ring, c.about, why, self.now)

    def all_see(self, node: Node, alive: Callable[[], bool], within_s: float = 0.3) -> None:
        """All others hear, each at its time, whether this one is there; unless it is another."""

        def hear(other: Node) -> None:
            if self.nodes[node.key] is node:
                self.sees(other, node.key, alive())

        for other in list(self.nodes.values()):
            if other is not node:
                delay = self.random.uniform(0, within_s)
                self.after(delay, lambda o=other: self.act(o, lambda: hear(o)))

    # --- the thread that computes ----------------------------------------------------------------

    def _next(self, node: Node) -> None:
        """After a ring or a commit: a gathering first where one is due, then the step."""
        member = node.member
        if member.step >= self.job.steps:
            member.gather(node.ring, KIND_END, node.holding.digest(), self.now)
        elif member.step % GATHER_EVERY == 0:
            member.gather(node.ring, KIND_CHECK, node.holding.digest(), self.now)
        else:
            self._compute(node)

    def _compute(self, node: Node) -> None:
        ring, plan, rank = node.ring, node.member.plan, node.member.rank
        node.holding.prepare(plan, rank, node.member.step)
        node.log.append(("begin", node.member.step, ring, node.holding.samples()))
        node.member.begin(ring, self.now)
        delay = 0.0
        for bucket in range(max(self.job.buckets) + 1):
            delay += self.random.uniform(0.05, 1.0) * self.compute_s
            step = node.member.step
            self.after(delay, lambda b=bucket, s=step: self._opened(node, ring, b, s))

    def _opened(self, node: Node, ring: RingId, bucket: int, step: int) -> None:
        def act() -> None:
            if node.member.step == step and node.key not in self.lazy:
                node.member.opened(ring, bucket, self.now)

        self.act(node, act)

    # --- who was gone ----------------------------------------------------------------------------

    def went(self, node: Node) -> None:
        """A fault takes this machine: it counts as gone until a ring that was formed later has
        committed a step, and so has all its copies in place."""
        node.gone_at = self.now
        self.struck.add(node.key)
        gone = sum(other.gone_at is not None for other in self.nodes.values())
        self.most_gone = max(self.most_gone, gone)

    def _complete(self, ring: RingId) -> None:
        for node in self.nodes.values():
            if node.gone_at is not None and self.formed_at[ring] > node.gone_at:
                node.gone_at = None
