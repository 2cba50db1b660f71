"""One member on a stage: a holding that only writes down, frames by hand, what it has said."""

from __future__ import annotations

from typing import TypeVar

from meshd.core.ring.agreement import Cargo, Plan, Proposal, RingId, Transfer
from meshd.core.ring.effects import (
    Complaint,
    FrameHead,
)
from meshd.core.ring.member import NOTHING, RingMember
from meshd.core.ring.replica import BadPayloadError, Payload
from meshd.core.ring.route import Phase, Route
from meshd.core.types import MachineKey

A, B, C, D = (MachineKey(name) for name in "abcd")
NOBODY = MachineKey("")
Effect = TypeVar("Effect")


class Box:
    """A holding that only writes down what is asked of it; the payload b"bad" is none."""

    def __init__(self, held: tuple[int, ...] = (0, 1, 2)) -> None:
        self.has, self.asked = set(held), []

    def note(self, *what: object) -> None:
        self.asked.append(what)

    def open(self, bucket: int) -> None:
        self.note("open", bucket)

    def own(self, chunk: int) -> bytes:
        return b"v"

    def add(self, chunk: int, payload: Payload, voters: int) -> bytes:
        return self.sound(payload) + b"v"

    def merge(self, chunk: int, total: Payload, voters: int, part: Payload) -> bytes:
        return bytes(total) + self.sound(part)

    def decide(self, chunk: int, payload: Payload) -> bytes:
        return b"d"

    def take_decision(self, chunk: int, payload: Payload) -> None:
        self.sound(payload)

    def finished(self, chunk: int) -> bytes:
        return b"f"

    def take_finished(self, chunk: int, payload: Payload) -> None:
        self.sound(payload)

    def commit(self) -> None:
        self.note("commit")

    def abort(self) -> None:
        self.note("abort")

    def held(self) -> tuple[int, ...]:
        return tuple(sorted(self.has))

    def going(self) -> tuple[int, ...]:
        return ()

    def forget(self) -> None:
        self.has.clear()
        self.note("forget")

    def adopt(self, held: tuple[int, ...]) -> None:
        self.note("adopt", held)

    def past(self, chunk: int, decided: bool) -> bytes:
        return b"past d" if decided else b"past f"

    def load(self, cargo: Cargo, index: int) -> bytes:
        return f"{cargo.name} {index}".encode()

    def store(self, cargo: Cargo, index: int, payload: Payload) -> None:
        self.sound(payload)
        if cargo is Cargo.SLICE:
            self.has.add(index)
        self.note("store", cargo, index)

    def sound(self, payload: Payload) -> bytes:
        if bytes(payload) == b"bad":
            raise BadPayloadError("bad")
        return bytes(payload)


def ring(generation: int, captain: MachineKey = A) -> RingId:
    return RingId(generation, captain)


def plan_of(
    generation: int = 1,
    order: tuple[MachineKey, ...] = (A, B, C),
    step: int = 0,
    history: tuple[tuple[RingId, int], ...] = (),
    transfers: tuple[Transfer, ...] = (),
) -> Plan:
    owners = tuple(index % len(order) for index in range(3))
    return Plan(ring(generation), order, step, history, owners, 2, transfers=transfers)


class Stage:
    """A member `b` of the ring a, b, c, and what it has said."""

    def __init__(self, step: int = 0, early_bytes: int = 1 << 20) -> None:
        self.box = Box() if step != NOTHING else Box(())
        self.member = RingMember(B, self.box, route_of, step, early_bytes)
        self.now = 0.0

    def said(self, kind: type[Effect]) -> list[Effect]:
        return [effect for effect in self.member.drain() if isinstance(effect, kind)]

    def propose(self, generation: int, members: tuple[MachineKey, ...] = (A, B, C)) -> None:
        self.member.propose(Proposal(ring(generation), members), self.now)

    def form(self, plan: Plan) -> None:
        self.propose(plan.ring.generation, (*plan.order, D))
        self.member.commit(plan, self.now)

    def receive(
        self,
        sender: MachineKey,
        phase: Phase,
        index: int = 0,
        hop: int = 0,
        payload: Payload = b"x",
        step: int = 0,
        generation: int = 1,
    ) -> None:
        head = FrameHead(ring(generation).mark, phase, step, index, hop)
        self.member.receive(sender, head, payload, self.now)

    def step(self, number: int = 0, generation: int = 1, last: bool = True) -> None:
        """All frames of a step of the ring a, b, c that come to b, maybe but for the last."""
        self.member.begin(ring(generation), self.now)
        self.member.opened(ring(generation), 0, self.now)
        frames = [
            (Phase.REDUCE, 2, 0, b"v"),
            (Phase.REDUCE, 1, 1, b"vv"),
            (Phase.DECISION, 0, 0, b"d"),
            (Phase.FINISHED, 2, 1, b"f"),
        ]
        for phase, chunk, hop, payload in frames[: None if last else -1]:
            self.receive(A, phase, chunk, hop, payload, number, generation)


def route_of(plan: Plan, rank: int) -> Route:
    return Route(rank, len(plan.order), 1, min(2, len(plan.order)) - 1)


def behind(transfers: tuple[Transfer, ...] = (), held: tuple[int, ...] = (0, 1, 2)) -> Stage:
    """The ring committed step 0, but for the last chunk here."""
    stage = Stage()
    stage.form(plan_of())
    stage.step(last=False)
    stage.propose(2, (A, B, C, D))
    past = Transfer(Cargo.PAST, 0, A, B)
    stage.member.drain()
    plan = plan_of(2, step=1, history=((ring(1), 0),), transfers=(past, *transfers))
    stage.member.commit(plan, 0.0)
    return stage


def alive(stage: Stage, seconds: float, generation: int = 1) -> list[Complaint]:
    """Pulses come, and nothing else."""
    said, until = [], stage.now + seconds
    while stage.now < until:
        stage.now += 0.1
        stage.receive(A, Phase.PULSE, generation=generation)
        stage.member.handle_timer(stage.now)
        said += stage.said(Complaint)
    return said
