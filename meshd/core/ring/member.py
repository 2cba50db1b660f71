"""One member through the rings of a job: it computes, stops, is brought to one state, goes on.

                  propose                    commit                   filled
      training -----------> stopped -----------------------> filling --------> training
         ^                     |  (undoes its step, or waits for     |
         |                     |   the results it missed)            | propose
         +---------------------+<------------------------------------+

The caller is the worker: its compute thread asks for a step (`begin`, `opened`) or for a gathering
of small payloads (`gather`), the network brings frames, the captain proposals and plans. What comes
out are effects, in order. A ring that ends while the compute thread is at work answers nothing more
to it but `Reformed`, with the step from which to go on.

Frames of an older ring are dropped and counted; those of the ring that was promised wait, since a
neighbour may have heard COMMIT first. Newer ones have only members that promised them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from meshd.core.ring.agreement import (
    HISTORY_MAX,
    NO_RING,
    Ack,
    Cargo,
    Plan,
    Proposal,
    RingId,
    Transfer,
)
from meshd.core.ring.early import EARLY_BYTES_MAX, EarlyFrames
from meshd.core.ring.effects import (
    Answer,
    Committed,
    Complaint,
    Dismissed,
    FrameHead,
    Gathered,
    MemberEffect,
    Reformed,
    SendFrame,
)
from meshd.core.ring.gathering import Gathering
from meshd.core.ring.handover import CARGO, PHASES, Past, awaited, past_frames
from meshd.core.ring.holding import Holding
from meshd.core.ring.replica import BadPayloadError, Payload
from meshd.core.ring.route import Phase, Route
from meshd.core.ring.step import RingStep
from meshd.core.ring.vigil import Vigil
from meshd.core.types import MachineKey

NOTHING = -1
"""The step of a member that has no state."""


class RingMember:
    """One member of one job. `route_of(plan, rank)` gives the frames of a ring's steps."""

    def __init__(
        self,
        me: MachineKey,
        holding: Holding,
        route_of: Callable[[Plan, int], Route],
        step: int = NOTHING,
        early_bytes: int = EARLY_BYTES_MAX,
    ) -> None:
        """`step`: committed steps of the state in `holding`, from the seed or a checkpoint.
        `early_bytes`: kept of one sender ahead of time; at least what it sends in a step."""
        self.me = me
        self.step = step
        """Steps that are committed here; `NOTHING` where there is no state."""
        self.history: tuple[tuple[RingId, int], ...] = ()
        self.plan: Plan | None = None
        """The ring that this member trains in, or fills for; None before the first."""
        self.stage = "waiting"
        self.dropped: Counter[str] = Counter()
        """Frames that were dropped, by reason."""
        self.leaving = False
        self.speed = 0.0
        self.vigil = Vigil()
        self._holding = holding
        self._route_of = route_of
        self.promised = NO_RING
        """The highest ring that this member was asked for; older ones are over."""
        self.rank = -1
        self._running: RingStep | None = None
        self._running_ring = NO_RING
        self._running_order: tuple[MachineKey, ...] = ()
        self._gathering: Gathering | None = None
        self._past: Past | None = None
        self._asked: tuple[MachineKey, ...] = ()
        """The members that the promised ring may have."""
        self._waited = False
        """Whether this member waited for others when it was stopped."""
        self._wanted: set[tuple[Cargo, int, MachineKey]] = set()
        self._gathered: set[int] = set()
        """Kinds that were gathered in this ring at this step."""
        self._accused: set[MachineKey] = set()
        """Members of this ring that a complaint about payloads has named."""
        self._early = EarlyFrames(early_bytes)
        self._out: list[MemberEffect] = []

    def drain(self) -> list[MemberEffect]:
        """Effects since the last call, in order."""
        effects, self._out = self._out, []
        return effects

    # --- captain ---------------------------------------------------------------------------------

    def propose(self, proposal: Proposal, now: float) -> None:
        """Stop, and say what is here. To an older proposal than the last one the answer is that."""
        if proposal.ring > self.promised:
            if self.stage != "stopped":
                self._waited = self._waits()
            self.promised, self._asked = proposal.ring, proposal.members
            self.stage = "stopped"
            self._gathering = None
            self.vigil.stopped(now)
        elif proposal.ring < self.promised:
            self.dropped["older-proposal"] += 1
        elif self.stage != "stopped":
            return  # a late copy: the plan came already
        self._answer(proposal.ring.captain, now)

    def _answer(self, to: MachineKey, now: float) -> None:
        self._out.append(Answer(to, self.answer()))
        self.vigil.answered(now)

    def answer(self) -> Ack:
        """What is here, for the ring that was promised."""
        return Ack(
            ring=self.promised,
            step=self.step,
            history=self.history,
            running=self._running_ring,
            held=self._holding.held() if self.step != NOTHING else (),
            going=self._holding.going() if self._running is not None else (),
            speed=self.speed,
            leaving=self.leaving,
            waits=self._waited,
            past=self._past.order if self._past is not None else (),
        )

    def commit(self, plan: Plan, now: float) -> None:
        """The new ring: send and take what the plan says, then go on."""
        if plan.ring != self.promised or self.stage != "stopped":
            self.dropped["other-plan"] += 1
            return
        if why := plan.fault():
            self.dropped["bad-plan"] += 1
            self._out.append(Complaint(plan.ring, plan.ring.captain, f"sent a bad plan: {why}"))
            return
        self.plan = plan
        self.stage = "filling"
        self.rank = plan.order.index(self.me) if self.me in plan.order else -1
        coming = [t for t in plan.transfers if t.receiver == self.me]
        behind = any(t.cargo is Cargo.PAST for t in coming)
        self._wanted = {(t.cargo, t.index, t.donor) for t in coming if t.cargo is not Cargo.PAST}
        if not behind:
            self._abort_step()
            if (self.step, self.history) != (plan.step, plan.history):
                self._holding.forget()
                self.step, self.history, self._past = NOTHING, (), None
        self._gathered.clear()
        self._accused.clear()
        self.vigil.reformed(now)
        self._hand_over()
        self._replay_early(now)
        self._go_on(now)

    def _abort_step(self) -> None:
        if self._running is not None:
            self._holding.abort()
        self._running, self._running_ring = None, NO_RING

    def _hand_over(self) -> None:
        """Send what the plan asks of this member, once it is at the plan's step."""
        plan = self.plan
        assert plan is not None  # noqa: S101 - called from commit on
        if self.step == plan.step:
            for transfer in plan.transfers:
                if transfer.donor == self.me:
                    self._send(plan, transfer)

    def _send(self, plan: Plan, transfer: Transfer) -> None:
        if transfer.cargo is Cargo.PAST:
            self._send_past(plan, transfer.receiver)
            return
        if transfer.cargo is Cargo.SLICE and transfer.index not in self._holding.held():
            self.dropped["cannot-give"] += 1
            return
        phase = PHASES[transfer.cargo]
        head = FrameHead(plan.ring.mark, phase, self.step, transfer.index, 0)
        payload = self._holding.load(transfer.cargo, transfer.index)
        self._out.append(SendFrame(transfer.receiver, head, payload))

    def _send_past(self, plan: Plan, receiver: MachineKey) -> None:
        if self._past is None or receiver not in self._past.order:
            self.dropped["cannot-give"] += 1
            return
        for head, payload in past_frames(plan.ring.mark, self._past, receiver, self._holding):
            self._out.append(SendFrame(receiver, head, payload))

    # --- the compute thread ----------------------------------------------------------------------

    def begin(self, ring: RingId, now: float) -> None:
        """The compute thread begins the next step."""
        plan = self._training(ring)
        if plan is None or self._running is not None:
            return
        self._running = RingStep(self._route_of(plan, self.rank), self._holding)
        self._running_ring, self._running_order = plan.ring, plan.order
        self.vigil.moved(now)
        self._replay_early(now)

    def opened(self, ring: RingId, bucket: int, now: float) -> None:
        """This member's gradient of a bucket is there. One of an older ring is no news."""
        if self._training(ring) is not None and self._running is not None:
            self._guarded(lambda step: step.open(bucket), now)

    def gather(self, ring: RingId, kind: int, payload: bytes, now: float) -> None:
        """Gather small payloads between two steps; ValueError for a kind's second time at one."""
        plan = self._training(ring)
        if plan is None:
            return
        if kind in self._gathered:
            raise ValueError(f"a gathering of kind {kind} at step {self.step} is the second one")
        self._gathered.add(kind)
        self._gathering = Gathering(kind, self.rank, len(plan.order), payload)
        self._pump_gathering(plan, now)
        self._replay_early(now)

    def discard(self, ring: RingId, why: str) -> None:
        """The state here is not to be trusted: forget it, and ask for a ring that brings it."""
        if self._training(ring) is not None:
            self._abort_step()
            self._holding.forget()
            self.step, self.history, self._past = NOTHING, (), None
            self._out.append(Complaint(ring, self.me, why))

    def _training(self, ring: RingId) -> Plan | None:
        """The present plan, if it is this ring's and nothing has stopped it."""
        plan = self.plan
        return plan if plan and self.stage == "training" and plan.ring == ring else None

    # --- time ------------------------------------------------------------------------------------

    def handle_timer(self, now: float) -> None:
        """Pulse; repeat an ACK that was not answered; complain about silence."""
        plan = self.plan
        if self.stage == "stopped":
            if self.vigil.answer_due(now):
                self._answer(self.promised.captain, now)
                if self.vigil.unanswered(now):
                    why = "no plan came for the ring that was proposed"
                    self._out.append(Complaint(self.promised, MachineKey(""), why))
            return
        if plan is None or self.stage not in ("training", "filling"):
            return
        if self._has_neighbours(plan):
            if self.vigil.pulse_due(now):
                head = FrameHead(plan.ring.mark, Phase.PULSE, max(self.step, 0), 0, 0)
                self._out.append(SendFrame(self._neighbour(plan, 1), head, b""))
            if self.vigil.silent(now):
                silent = self._neighbour(plan, -1)
                self._out.append(Complaint(plan.ring, silent, "is not heard any more"))
                return
        if self._waits() and self.vigil.stalled(now):
            filling = self.stage == "filling"
            about = awaited(plan, self.me, self._wanted) if filling else MachineKey("")
            why = "the ring does not move"
            self._out.append(Complaint(plan.ring, about, why))

    def next_timer(self) -> float:
        """When there is something to do without any input."""
        if self.stage == "stopped":
            return self.vigil.answer_at()
        if self.plan is None or self.stage not in ("training", "filling"):
            return float("inf")
        pulse = self.vigil.pulse_at() if self._has_neighbours(self.plan) else float("inf")
        return min(pulse, self.vigil.stall_at()) if self._waits() else pulse

    def _has_neighbours(self, plan: Plan) -> bool:
        return self.rank >= 0 and len(plan.order) > 1

    def link_lost(self, key: MachineKey, why: str) -> None:
        """The link to or from a member broke: what was on it is gone."""
        plan = self.plan
        if plan is not None and self.stage in ("training", "filling") and key in plan.order:
            self._out.append(Complaint(plan.ring, key, why))

    def _waits(self) -> bool:
        """Whether others have to do something now, and not this member."""
        if self.stage == "filling" or self._gathering is not None:
            return True
        return self._running is not None and self._running.opened

    def _neighbour(self, plan: Plan, places: int) -> MachineKey:
        return plan.order[(self.rank + places) % len(plan.order)]

    # --- frames ----------------------------------------------------------------------------------

    def receive(self, sender: MachineKey, head: FrameHead, payload: Payload, now: float) -> None:
        """A frame whose sender the transport has authenticated."""
        plan = self.plan
        if head.ring != self.promised.mark:
            older = head.ring.generation < self.promised.generation
            self.dropped["older-ring" if older else "unknown-ring"] += 1
        elif self.stage == "stopped":
            self._keep(sender, head, payload)
        elif plan is not None and self.stage in ("training", "filling"):
            self._of_this_ring(plan, sender, head, payload, now)
        else:
            self.dropped["older-ring"] += 1

    def _of_this_ring(
        self, plan: Plan, sender: MachineKey, head: FrameHead, payload: Payload, now: float
    ) -> None:
        if self.rank >= 0 and sender == self._neighbour(plan, -1):
            self.vigil.heard(now)
        if head.phase is Phase.PULSE:
            return
        if head.phase in CARGO:
            self._on_cargo(sender, head, payload, now)
        elif head.phase in (Phase.PAST_DECISION, Phase.PAST_FINISHED):
            self._on_past(plan, sender, head, payload, now)
        elif sender not in plan.order:
            self.dropped["not-a-member"] += 1
        elif not self._may_come(plan, head):
            self.dropped["other-step"] += 1
        elif self._is_early(head):
            self._keep(sender, head, payload)
        elif head.phase is Phase.GATHER:
            self._on_gathering(plan, sender, head, payload, now)
        else:
            arrived = (plan.order.index(sender), head.phase, head.index, head.hop, payload)
            self._guarded(lambda step: step.receive(*arrived), now)

    def _may_come(self, plan: Plan, head: FrameHead) -> bool:
        """Whether a frame of this ring's steps is for now or later. Nobody is more than a step
        ahead, since this member has its part in each."""
        first, last = (self.step, self.step + 1) if self.stage == "training" else (plan.step,) * 2
        done = head.phase is Phase.GATHER and head.step == self.step and self._gathering is None
        return first <= head.step <= last and not (done and head.index in self._gathered)

    def _is_early(self, head: FrameHead) -> bool:
        """Whether a frame of this ring's steps is for later."""
        if self.stage != "training" or head.step > self.step:
            return True
        if head.phase is Phase.GATHER:
            return self._gathering is None or self._gathering.kind != head.index
        return self._running is None

    def _keep(self, sender: MachineKey, head: FrameHead, payload: Payload) -> None:
        if sender not in self._asked:
            self.dropped["not-a-member"] += 1
        elif not self._early.keep(sender, head, payload):
            self.dropped["too-early"] += 1

    def _replay_early(self, now: float) -> None:
        """Take in what waited; what is still early waits on."""
        for sender, head, payload in self._early.take():
            self.receive(sender, head, payload, now)

    def _guarded(self, act: Callable[[RingStep], object], now: float) -> None:
        """Let the running step act; then send, and commit when all is there."""
        plan, step = self.plan, self._running
        assert step is not None and plan is not None  # noqa: S101 - callers look
        try:
            act(step)
        except BadPayloadError as error:
            if error.own:  # if it is the sender's fault after all, it happens again with new state
                self.discard(plan.ring, str(error))
                return
            rank = self.rank - 1 if error.sender is None else error.sender
            self._accuse(plan, plan.order[rank % len(plan.order)], error)
            return
        self.vigil.moved(now)
        for frame in step.drain():
            head = FrameHead(plan.ring.mark, frame.phase, self.step, frame.chunk, frame.hop)
            self._out.append(SendFrame(plan.order[frame.to], head, frame.payload))
        if step.complete and step.opened:
            self._commit_step(step)
            self.vigil.committed(now)

    def _accuse(self, plan: Plan, about: MachineKey, error: BadPayloadError) -> None:
        """Complain about a payload, once of each member in a ring: it does not go on anyway."""
        self.dropped["bad-payload"] += 1
        if about not in self._accused:
            self._accused.add(about)
            self._out.append(Complaint(plan.ring, about, f"sent what cannot be: {error}"))

    def _commit_step(self, step: RingStep) -> None:
        number, ring = self.step, self._running_ring
        self._holding.commit()
        self._past = Past(number, step.route, self._running_order)
        if not self.history or self.history[-1][0] != ring:
            self.history = (*self.history, (ring, number))[-HISTORY_MAX:]
        self.step = number + 1
        self._gathered.clear()
        self._running, self._running_ring = None, NO_RING
        self._out.append(Committed(number))

    def _on_past(
        self, plan: Plan, sender: MachineKey, head: FrameHead, payload: Payload, now: float
    ) -> None:
        """A result of the step that the others have finished without this member knowing."""
        step = self._running
        if Transfer(Cargo.PAST, 0, sender, self.me) not in plan.transfers:
            self.dropped["unasked"] += 1
            return
        if step is None or head.step != self.step or self.stage != "filling":
            self.dropped["other-step"] += 1
            return
        phase = Phase.DECISION if head.phase is Phase.PAST_DECISION else Phase.FINISHED
        try:
            if not step.can_settle(phase, head.index):
                self._give_up(plan, head.index)
                return
            step.settle(phase, head.index, payload)
        except BadPayloadError as error:
            self._accuse(plan, sender, error)
            return
        self.vigil.moved(now)
        if step.complete:
            self._commit_step(step)
            self._hand_over()
            self._replay_early(now)
            self._go_on(now)

    def _give_up(self, plan: Plan, chunk: int) -> None:
        """Nobody is left that could bring this member to the plan's step: it comes as if anew."""
        self._abort_step()
        self._wanted.clear()
        why = f"nobody has the decision of chunk {chunk} any more"
        self._out.append(Complaint(plan.ring, MachineKey(""), why))

    def _on_cargo(self, sender: MachineKey, head: FrameHead, payload: Payload, now: float) -> None:
        cargo, plan = CARGO[head.phase], self.plan
        if (cargo, head.index, sender) not in self._wanted or plan is None:
            self.dropped["unasked"] += 1
            return
        if head.step != plan.step:
            self.dropped["other-step"] += 1
            return
        if self._running is not None:  # state of a step that is still to be completed here
            self._keep(sender, head, payload)
            return
        try:
            self._holding.store(cargo, head.index, payload)
        except BadPayloadError as error:
            self._accuse(plan, sender, error)
            return
        self.vigil.moved(now)
        self._wanted.discard((cargo, head.index, sender))
        self._go_on(now)

    def _go_on(self, now: float) -> None:
        """Once everything is here: train in the new ring, or leave."""
        plan = self.plan
        if plan is None or self.stage != "filling" or self._wanted or self._running is not None:
            return
        if self.step not in (plan.step, NOTHING):  # it has given up
            return
        if self.rank < 0:
            self.stage = "dismissed"
            self._out.append(Dismissed(plan))
            return
        if self.step == NOTHING:
            self.step, self.history = plan.step, plan.history
        self.stage = "training"
        self._holding.adopt(plan.held_by(self.rank))
        self._out.append(Reformed(plan, self.rank))
        self._replay_early(now)

    # --- gatherings ------------------------------------------------------------------------------

    def _on_gathering(
        self, plan: Plan, sender: MachineKey, head: FrameHead, payload: Payload, now: float
    ) -> None:
        assert self._gathering is not None  # noqa: S101 - `_is_early` looks
        if sender != self._neighbour(plan, -1):
            self.dropped["not-the-predecessor"] += 1
            return
        self._gathering.receive(head.hop, bytes(payload))
        self._pump_gathering(plan, now)

    def _pump_gathering(self, plan: Plan, now: float) -> None:
        gathering = self._gathering
        assert gathering is not None  # noqa: S101 - callers look
        self.vigil.moved(now)
        for hop, payload in gathering.drain():
            head = FrameHead(plan.ring.mark, Phase.GATHER, self.step, gathering.kind, hop)
            self._out.append(SendFrame(self._neighbour(plan, 1), head, payload))
        if gathering.complete:
            self._gathering = None
            self._out.append(Gathered(gathering.kind, self.step, gathering.payloads()))
