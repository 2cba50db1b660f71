"""Members and captains of one job under a virtual clock, on a network that obeys a seed.

The machines are those of `meshd/core/ring`; the job is of small whole numbers (`toy`). What is
simulated is only what lies outside them: links, threads that compute, and who believes whom alive.
"""

from __future__ import annotations

import functools
import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from ring_toy import ToyHolding, ToyJob

from meshd.core.ring import captain as captains
from meshd.core.ring.agreement import NO_RING, Ack, Plan, Proposal, RingId
from meshd.core.ring.captain import RingCaptain
from meshd.core.ring.effects import (
    Answer,
    Committed,
    Complaint,
    Dismissed,
    FrameHead,
    Gathered,
    Reformed,
    SendFrame,
)
from meshd.core.ring.member import NOTHING, RingMember

GATHER_EVERY = 2
KIND_CHECK, KIND_END = 1, 2
VIEW_S = 3.0  # as meshd.core.peers.LOST_AFTER_S: when a silent machine is missed


@dataclass
class Weather:
    """How bad the network is: probabilities for one message, and seconds."""

    frame_loss: float = 0.0
    control_loss: float = 0.0
    copies: float = 0.0
    delay_s: float = 0.002
    control_delay_s: float = 0.02


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
    joined_at: float = -1.0


class World:
    """A job on some machines, from a seed."""

    def __init__(self, seed: int, job: ToyJob, keys: list[str], weather: Weather) -> None:
        self.random = random.Random(seed)
        self.job = job
        self.weather = weather
        self.now = 0.0
        self.nodes: dict[str, Node] = {}
        self.plans: dict[RingId, Plan] = {}
        self.fired: Counter[str] = Counter()
        self.phases: Counter[tuple[str, str]] = Counter()
        self.stalled: list[captains.Stalled] = []
        self.complaints: list[Complaint] = []
        self.cuts: set[frozenset[str]] = set()
        self.on_frame: Callable[[str, str, FrameHead], None] | None = None
        self.committed_at: list[float] = []
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._link_free: dict[tuple[str, str], float] = {}
        self._link_epoch: Counter[tuple[str, str]] = Counter()
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
        living = [n for n in self.nodes.values() if n.alive and not n.frozen]
        return any(node.finished for node in living)

    # --- nodes -----------------------------------------------------------------------------------

    def add(self, key: str, step: int = NOTHING) -> Node:
        """A machine that is ready to train: at the job's start with its first state."""
        holding = ToyHolding(self.job)
        member = RingMember(key, holding, self.job.route, step)
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
            self._act(node, lambda: self._daemon(node))
        self.after(0.3, lambda: self._beat(node))

    def _daemon(self, node: Node) -> None:
        for key in sorted(node.view - {node.key}):
            self._control(node.key, key, functools.partial(self._learn, plan=node.known))
        self._look(node)
        plan = node.known
        captain = self._captain_of(node)
        if captain is None or node.finished:
            return
        if node.key not in plan.order and not node.leaving:
            self._control(node.key, captain, lambda other: self._joins(other, node.key))
        if node.leaving and node.key in plan.order:
            self._control(node.key, captain, lambda other: self._leaves(other, node.key))

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

    def _captain_of(self, node: Node) -> str | None:
        return min((k for k in node.known.order if k in node.view), default=None)

    def _look(self, node: Node) -> None:
        """Be captain or not, as this machine sees it."""
        if self._captain_of(node) != node.key:
            node.captain = None
            return
        if node.captain is None:
            node.captain = RingCaptain(node.key, self.job.shape())
        node.captain.take_over(node.known, node.member.promised)
        if node.known.ring == NO_RING and not node.captain.asks:
            node.captain.form(node.known.order, "the job starts", self.now)
        for key in node.captain.members:
            if key not in node.view:
                node.captain.lost(key, f"{key} is lost", self.now)

    def _sees(self, node: Node, key: str, alive: bool) -> None:
        if alive:
            node.view.add(key)
        elif key != node.key:
            node.view.discard(key)
        if node.captain and not alive:
            node.captain.lost(key, f"{key} is lost", self.now)
        self._look(node)

    # --- inputs and effects ----------------------------------------------------------------------

    def _act(self, node: Node, act: Callable[[], None]) -> None:
        """Give a node an input now, or when it is no longer frozen; the dead get none."""
        if node.frozen:
            node.waiting.append(lambda: self._act(node, act))
        elif node.alive and self.nodes[node.key] is node:
            act()
            self._settle(node)

    def _settle(self, node: Node) -> None:
        moved = True
        while moved:
            moved = False
            for effect in node.member.drain():
                moved = True
                self._member_effect(node, effect)
            for effect in node.captain.drain() if node.captain else ():
                moved = True
                self._captain_effect(node, effect)
        times = [node.member.next_timer()]
        if node.captain:
            times.append(node.captain.next_timer())
        at = max(min(times), self.now + 0.001)
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

        self._act(node, act)

    def _captain_effect(self, node: Node, effect: captains.CaptainEffect) -> None:
        if isinstance(effect, captains.Ask):
            self._control(node.key, effect.to, lambda o: self._proposed(o, effect.proposal))
        elif isinstance(effect, captains.Tell):
            self._control(node.key, effect.to, lambda o: o.member.commit(effect.plan, self.now))
        elif isinstance(effect, captains.Formed):
            self.plans[effect.plan.ring] = effect.plan
            self._learn(node, effect.plan)
        else:
            self.stalled.append(effect)

    def _proposed(self, node: Node, proposal: Proposal) -> None:
        node.member.leaving = node.leaving
        node.member.propose(proposal, self.now)

    def _member_effect(self, node: Node, effect: object) -> None:
        if isinstance(effect, SendFrame):
            self._frame(node.key, effect)
        elif isinstance(effect, Answer):
            self._control(node.key, effect.to, lambda o: self._ack(o, node.key, effect.ack))
        elif isinstance(effect, Complaint):
            self.complaints.append(effect)
            captain = self._captain_of(node)
            if captain:
                self._control(node.key, captain, lambda o: self._complaint(o, node.key, effect))
        elif isinstance(effect, Committed):
            node.log.append(("commit", effect.step, node.member.history[-1][0]))
            node.log.append(("digest", effect.step + 1, node.holding.digest()))
            self.committed_at.append(self.now)
            if node.member.stage == "training":
                self._next(node)
        elif isinstance(effect, Gathered):
            assert len(set(effect.payloads)) == 1, f"hashes differ at step {effect.step}"
            if effect.kind == KIND_END:
                node.finished = True
            else:
                self._compute(node)
        elif isinstance(effect, Reformed):
            node.ring = effect.plan.ring
            node.known = max((node.known, effect.plan), key=lambda plan: plan.ring)
            self._next(node)
        elif isinstance(effect, Dismissed):
            node.ring = None
            if node.leaving:
                self.kill(node.key, "left", links=False)

    def _ack(self, node: Node, sender: str, ack: Ack) -> None:
        if node.captain:
            node.captain.on_ack(sender, ack, self.now)

    def _complaint(self, node: Node, sender: str, complaint: Complaint) -> None:
        if node.captain:
            c = complaint
            node.captain.complains(sender, c.ring, c.about, c.why, self.now)

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
        node.log.append(("begin", node.member.step, ring))
        node.member.begin(ring, self.now)
        delay = 0.0
        for bucket in range(max(self.job.buckets) + 1):
            delay += self.random.uniform(0.001, 0.02)
            step = node.member.step
            self.after(delay, lambda b=bucket, s=step: self._opened(node, ring, b, s))

    def _opened(self, node: Node, ring: RingId, bucket: int, step: int) -> None:
        def act() -> None:
            if node.member.step == step:
                node.member.opened(ring, bucket, self.now)

        self._act(node, act)

    # --- network ---------------------------------------------------------------------------------

    def _cut(self, a: str, b: str) -> bool:
        return any((a in side) != (b in side) for side in self.cuts)

    def _control(self, a: str, b: str, act: Callable[[Node], None]) -> None:
        """A message between daemons: late, lost, twice or out of order. To itself: at once."""
        node = self.nodes[b]
        if a == b:
            self.after(0.0, lambda: self._act(node, lambda: act(node)))
            return
        for _ in range(1 + (self.random.random() < self.weather.copies)):
            if self.random.random() < self.weather.control_loss:
                continue
            delay = self.random.uniform(0.0001, self.weather.control_delay_s)
            self.after(delay, lambda: self._arrive(a, node, act))

    def _arrive(self, a: str, node: Node, act: Callable[[Node], None]) -> None:
        if not self._cut(a, node.key):
            self._act(node, lambda: act(node))

    def _frame(self, a: str, effect: SendFrame) -> None:
        """A frame on a link: in order; lost only with the link, or where the weather says so."""
        link = a, effect.to
        if effect.to not in self.nodes:
            return
        node, epoch = self.nodes[effect.to], self._link_epoch[link]
        at = max(
            self._link_free.get(link, 0.0), self.now + self.random.uniform(0, self.weather.delay_s)
        )
        self._link_free[link] = at
        if self.random.random() < self.weather.frame_loss:
            self.fired["frame lost"] += 1
            return

        def arrive() -> None:
            if self._cut(*link) or self._link_epoch[link] != epoch:
                return
            head = effect.head
            if self.on_frame is not None:
                self.on_frame(a, node.key, head)
            if not node.alive or node.frozen:
                pass
            self._act(node, lambda: node.member.receive(a, head, effect.payload, self.now))

        for _ in range(1 + (self.random.random() < self.weather.copies)):
            self.after(at - self.now, arrive)

    # --- faults ----------------------------------------------------------------------------------

    def kill(self, key: str, how: str = "killed", links: bool = True) -> None:
        """A process is gone: what it sent may be on its way, or lost; neighbours' links break."""
        node = self.nodes[key]
        if not node.alive:
            return
        node.alive = False
        self.fired[how] += 1
        for other in list(self.nodes.values()):
            if other.key == key:
                continue
            if links and self.random.random() < 0.5:
                self._link_epoch[(key, other.key)] += 1
            self._link_epoch[(other.key, key)] += 1
            self.after(
                self.random.uniform(0.001, 0.05),
                lambda o=other: self._act(o, lambda: o.member.link_lost(key, "closed its link")),
            )
            self.after(
                self.random.uniform(0.01, VIEW_S if how == "pulled" else 0.5),
                lambda o=other: self._act(o, lambda: self._see_dead(o, node)),
            )

    def _see_dead(self, observer: Node, node: Node) -> None:
        if self.nodes[node.key] is node:
            self._sees(observer, node.key, False)

    def restart(self, key: str) -> None:
        """The machine is back, with nothing."""
        if self.nodes[key].alive:
            return
        node = self.add(key)
        self.fired["restarted"] += 1
        node.view = {k for k, n in self.nodes.items() if n.alive}
        for other in self.nodes.values():
            if other.key != key:
                self.after(
                    self.random.uniform(0, 0.3),
                    lambda o=other: self._act(o, lambda: self._sees(o, key, True)),
                )

    def freeze(self, key: str, seconds: float) -> None:
        """SIGSTOP to worker and daemon; afterwards everything that came is there at once."""
        node = self.nodes[key]
        if not node.alive or node.frozen:
            return
        node.frozen = True
        self.fired["frozen"] += 1
        if seconds > VIEW_S:
            for other in self.nodes.values():
                if other.key != key:
                    self.after(
                        VIEW_S, lambda o=other: self._act(o, lambda: self._see_frozen(o, node))
                    )
        self.after(seconds, lambda: self._thaw(node))

    def _see_frozen(self, observer: Node, node: Node) -> None:
        if node.frozen:
            self._sees(observer, node.key, False)

    def _thaw(self, node: Node) -> None:
        node.frozen = False
        if not node.alive:
            return
        waiting, node.waiting = node.waiting, []
        for act in waiting:
            act()
        for other in self.nodes.values():
            if other.key != node.key:
                self.after(
                    self.random.uniform(0, 1.0),
                    lambda o=other: self._act(o, lambda: self._sees(o, node.key, True)),
                )

    def leave(self, key: str) -> None:
        """The owner is back."""
        node = self.nodes[key]
        if node.alive:
            node.leaving = True
            self.fired["leaves"] += 1
            self._act(node, lambda: self._daemon(node))

    def partition(self, side: set[str], seconds: float) -> None:
        """Nothing passes between `side` and the others for so long."""
        cut = frozenset(side)
        self.cuts.add(cut)
        self.fired["partition"] += 1
        for a in self.nodes:
            for b in self.nodes:
                if (a in cut) != (b in cut):
                    self._link_epoch[(a, b)] += 1
                    self.after(
                        self.random.uniform(0.8, 1.0) * VIEW_S,
                        lambda a=a, b=b: self._miss(a, b, cut),
                    )
        self.after(seconds, lambda: self._heal(cut))

    def _miss(self, a: str, b: str, cut: frozenset[str]) -> None:
        if cut in self.cuts:
            self._act(self.nodes[a], lambda: self._sees(self.nodes[a], b, False))

    def _heal(self, cut: frozenset[str]) -> None:
        self.cuts.discard(cut)
        for a in self.nodes.values():
            for b in self.nodes.values():
                if (a.key in cut) != (b.key in cut) and b.alive:
                    self.after(
                        self.random.uniform(0, 1.0),
                        lambda a=a, b=b: self._act(a, lambda: self._sees(a, b.key, True)),
                    )
