"""A worker on the mesh's virtual clock: the real `RingMember` on a job of small whole numbers.

It does what meshd/worker does, without processes, sockets and torch: computes for a while, hands
frames to the others' workers, writes checkpoints whose blobs are what they say, and finishes after
a gathering at which all members' weights must be equal.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "sim"))
from ring_toy import ToyHolding, ToyJob, seen

from meshd.core import effects, events
from meshd.core.messages import (
    JobProgress,
    RingLeave,
    RingPlan,
    RingProposal,
    SliceBlob,
    WorkerDismissed,
    WorkerProgress,
    WorkerReady,
)
from meshd.core.ring.effects import (
    Answer,
    Committed,
    Complaint,
    Dismissed,
    Gathered,
    Reformed,
    SendFrame,
)
from meshd.core.ring.member import NOTHING, RingMember
from meshd.core.ring.wire_forms import (
    ack_message,
    complaint_message,
    plan_of,
    proposal_of,
    shape_message,
)
from meshd.core.types import BlobId, MachineKey, Step

STEPS = 100
CHECKPOINT_STEPS = 20
STEP_S = 0.1
JOB = ToyJob((0, 0, 0, 1, 1), frozenset({2}), 2, STEPS, 8)
KIND_END = 1


def blob_of(*parts: object) -> BlobId:
    """A stand-in for a content hash: equal parts, equal blob."""
    return BlobId(hashlib.blake2b(repr(parts).encode(), digest_size=32).hexdigest())


class RingWorker:
    """One worker process of one machine of a `Mesh`."""

    def __init__(self, mesh: Any, machine: Any, start: effects.StartWorker) -> None:
        self.mesh, self.machine, self.start = mesh, machine, start
        self.holding = ToyHolding(JOB)
        first = NOTHING if start.joins else int(start.step)
        if start.joins:
            self.holding.forget()
        for piece in start.slices:
            numbers = mesh.contents[piece.blob]
            self.holding.latents[piece.slice] = list(numbers)
            shared = piece.slice in JOB.shared
            self.holding.weights[piece.slice] = tuple(numbers) if shared else seen(numbers)
        if start.carried:
            self.holding.carried = {i: list(e) for i, e in mesh.contents[start.carried].items()}
        self.member = RingMember(machine.key, self.holding, JOB.route, first)
        self.ring: tuple[MachineKey, ...] = ()
        """The members of the ring that it trains in."""
        self.rings = 0
        """How many rings it trained in."""
        self.finished = False
        self._begun: object = None
        self._timer = float("inf")
        self._arrival: dict[MachineKey, float] = {}

    @property
    def step(self) -> int:
        return self.member.step

    @property
    def alive(self) -> bool:
        return self.machine.worker is self

    def ready(self) -> WorkerReady:
        return WorkerReady(9000, STEPS, 1000, shape_message(JOB.shape()))

    # --- inputs ----------------------------------------------------------------------------------

    def hear(self, message: RingProposal | RingPlan | RingLeave) -> None:
        """What the daemon says, a moment later."""

        def act() -> None:
            if isinstance(message, RingProposal):
                self.member.propose(proposal_of(message), self.mesh.now)
            elif isinstance(message, RingPlan):
                self.member.commit(plan_of(message), self.mesh.now)
            else:
                self.member.leaving = True

        self._later(0.001, act)

    def link_lost(self, key: MachineKey) -> None:
        """The bulk link to another worker broke."""
        if self.alive:
            self.member.link_lost(key, "broke the link")
            self._settle()

    def _later(self, seconds: float, act: Any) -> None:
        def run() -> None:
            if self.alive:
                act()
                self._settle()

        self.mesh.at(self.mesh.now + seconds, run)

    # --- effects ---------------------------------------------------------------------------------

    def _settle(self) -> None:
        while self.alive and (wanted := self.member.drain()):
            for effect in wanted:
                if self.alive:
                    self._perform(effect)
        if not self.alive:
            return
        due = max(self.member.next_timer(), self.mesh.now + 0.001)
        if due < self._timer or self._timer <= self.mesh.now:
            self._timer = due
            if due < float("inf"):
                self.mesh.at(due, functools.partial(self._on_timer, due))

    def _on_timer(self, due: float) -> None:
        if self.alive and self._timer == due:
            self.member.handle_timer(self.mesh.now)
            self._settle()

    def _perform(self, effect: object) -> None:
        start, says = self.start, functools.partial(self.mesh.worker_says, self.machine)
        if isinstance(effect, SendFrame):
            self._send(effect)
        elif isinstance(effect, Answer):
            says(ack_message(start.job, start.generation, effect.ack, effect.to))
        elif isinstance(effect, Complaint):
            says(complaint_message(start.job, start.generation, effect))
        elif isinstance(effect, Committed):
            self._report()
            if self.alive and self.member.stage == "training":
                self._next()
        elif isinstance(effect, Gathered):
            assert len(set(effect.payloads)) == 1, "weights differ at the end"
            self._finish()
        elif isinstance(effect, Reformed):
            self.ring, self.rings = effect.plan.order, self.rings + 1
            self._next()
        elif isinstance(effect, Dismissed):
            self._later(0.005, functools.partial(says, WorkerDismissed()))

    def _send(self, effect: SendFrame) -> None:
        """In order on each link; to a worker that is gone it is lost."""
        pair = (self.machine.key, effect.to)
        target = self.mesh.by_key(effect.to)
        worker = target.worker
        now = self.mesh.now
        when = max(now + self.mesh.random.uniform(0.0001, 0.002), self._arrival.get(effect.to, 0.0))
        self._arrival[effect.to] = when

        def arrive() -> None:
            same = worker is not None and target.worker is worker and pair not in self.mesh.cut
            if same and worker.start.generation == self.start.generation:
                worker.member.receive(self.machine.key, effect.head, effect.payload, self.mesh.now)
                worker._settle()

        self.mesh.at(when, arrive)

    # --- computing -------------------------------------------------------------------------------

    def _next(self) -> None:
        member = self.member
        assert member.plan is not None
        ring = member.plan.ring
        if member.step >= STEPS:
            member.gather(ring, KIND_END, self.holding.digest(), self.mesh.now)
            return
        if self._begun == (ring, member.step):
            return  # a step that was completed while it filled, and the new ring, ask for the same
        self._begun = (ring, member.step)
        self.holding.prepare(member.plan, member.rank, member.step)
        member.begin(ring, self.mesh.now)
        number = member.step

        def opened() -> None:
            if member.step == number:
                for bucket in range(max(JOB.buckets) + 1):
                    member.opened(ring, bucket, self.mesh.now)

        self._later(STEP_S, opened)

    def _progress(self) -> JobProgress:
        step = self.member.step
        return JobProgress(Step(step), 0, 1.0, 0.5, step * STEP_S, step)

    def _report(self) -> None:
        step = self.member.step
        if step % 5 == 0:
            self.mesh.worker_says(self.machine, WorkerProgress(self._progress()))
        if step % CHECKPOINT_STEPS == 0 and self.alive:
            self.mesh.worker_says(self.machine, self._checkpoint())

    def _checkpoint(self) -> events.CheckpointSaved:
        """Each slice is held by its owner and the owner's successor."""
        pieces = []
        for index, numbers in sorted(self.holding.latents.items()):
            if self.machine.name in self.mesh.slice_error:
                numbers = [number + 1 for number in numbers]
            blob = blob_of("slice", index, self.member.step, numbers)
            self.mesh.contents[blob] = tuple(numbers)
            pieces.append(SliceBlob(index, blob))
        errors = {index: tuple(e) for index, e in self.holding.carried.items()}
        carried = blob_of("carried", self.machine.name, self.member.step, errors)
        self.mesh.contents[carried] = errors
        self.machine.blobs.update({carried, *(piece.blob for piece in pieces)})
        count = len(JOB.buckets)
        return events.CheckpointSaved(Step(self.member.step), tuple(pieces), carried, count)

    def _finish(self) -> None:
        model = blob_of("model", self.machine.name)
        self.machine.blobs.add(model)
        digest = self.holding.digest().hex()
        self.finished = True
        weight_hash = self.mesh.weights.get(self.machine.name, digest * 4)
        saved = events.ModelSaved(self._progress(), weight_hash, model)
        self.mesh.worker_says(self.machine, saved)
