"""What captain and members say (`agreement`) as the messages that carry it, and back.

A message names the attempt that it belongs to and brings the members' addresses; machines that a
plan speaks of are numbered once, so a transfer costs a few bytes. What comes in is checked as far
as its parts must fit one another: what passes here makes no member index beyond its lists.
"""

from __future__ import annotations

from collections.abc import Mapping

from meshd.core.errors import RemoteProtocolError
from meshd.core.messages import (
    RingAck,
    RingComplaint,
    RingMember,
    RingName,
    RingPast,
    RingPlan,
    RingProposal,
    RingShape,
    RingTransfer,
    ThrownAway,
)
from meshd.core.ring.agreement import HISTORY_MAX, Ack, Cargo, Plan, Proposal, RingId, Transfer
from meshd.core.ring.effects import Complaint
from meshd.core.ring.plan import Shape
from meshd.core.types import Generation, JobId, MachineKey, Rank, Step

History = tuple[tuple[RingId, int], ...]


# --- to messages ---------------------------------------------------------------------------------


def name_of(ring: RingId) -> RingName:
    """A ring's name."""
    return RingName(Generation(ring.generation), ring.captain, ring.salt)


def proposal_message(job: JobId, generation: Generation, proposal: Proposal) -> RingProposal:
    """PROPOSE."""
    return RingProposal(job, generation, name_of(proposal.ring), proposal.members)


def ack_message(job: JobId, generation: Generation, ack: Ack, to: MachineKey) -> RingAck:
    """ACK, for the captain that asked."""
    return RingAck(
        job=job,
        generation=generation,
        ring=name_of(ack.ring),
        step=ack.step,
        history=_told(ack.history),
        running=name_of(ack.running),
        held=ack.held,
        going=ack.going,
        speed=ack.speed,
        leaving=ack.leaving,
        waits=ack.waits,
        past=ack.past,
        to=to,
    )


def plan_message(
    job: JobId, generation: Generation, plan: Plan, addresses: Mapping[MachineKey, RingMember]
) -> RingPlan:
    """COMMIT. `addresses`: of all members at least.

    Raises:
        KeyError: a member's address is not known: a defect of the caller.
    """
    members = tuple(addresses[key] for key in plan.order)
    others = {t.donor for t in plan.transfers} | {t.receiver for t in plan.transfers}
    machines = (*plan.order, *sorted(others - set(plan.order)))
    place = {key: index for index, key in enumerate(machines)}
    return RingPlan(
        job=job,
        generation=generation,
        ring=name_of(plan.ring),
        members=members,
        machines=machines,
        step=Step(plan.step),
        history=_told(plan.history),
        owners=tuple(Rank(rank) for rank in plan.owners),
        copies=plan.copies,
        shared=tuple(sorted(plan.shared)),
        weights=plan.weights,
        transfers=tuple(
            RingTransfer(int(t.cargo), t.index, place[t.donor], place[t.receiver])
            for t in plan.transfers
        ),
        thrown_away=tuple(ThrownAway(key, steps) for key, steps in plan.thrown_away),
    )


def complaint_message(job: JobId, generation: Generation, complaint: Complaint) -> RingComplaint:
    """A complaint, for the captain that there is."""
    name = name_of(complaint.ring)
    return RingComplaint(job, generation, name, complaint.about, complaint.why)


def shape_message(shape: Shape) -> RingShape:
    """The job's slices, as a worker tells them."""
    return RingShape(
        shape.sizes, shape.buckets, shape.weights, shape.copies, shape.statistics, shape.carries
    )


# --- and back ------------------------------------------------------------------------------------


def id_of(name: RingName) -> RingId:
    """The ring of a name."""
    return RingId(name.generation, name.captain, name.salt)


def proposal_of(message: RingProposal) -> Proposal:
    """PROPOSE as it was.

    Raises:
        RemoteProtocolError: code `bad-ring`: a member is named twice, or none.
    """
    if not message.members or len(set(message.members)) != len(message.members):
        raise _bad("a proposal without members, or with one twice")
    return Proposal(id_of(message.ring), message.members)


def ack_of(message: RingAck) -> Ack:
    """ACK as it was."""
    return Ack(
        ring=id_of(message.ring),
        step=message.step,
        history=_history(message.history),
        running=id_of(message.running),
        held=message.held,
        going=message.going,
        speed=message.speed,
        leaving=message.leaving,
        waits=message.waits,
        past=message.past,
    )


def plan_of(message: RingPlan) -> Plan:
    """COMMIT as it was.

    Raises:
        RemoteProtocolError: code `bad-ring`: its parts do not fit one another.
    """
    order = tuple(member.key for member in message.members)
    machines, size = message.machines, len(order)
    if not order or machines[:size] != order or len(set(machines)) != len(machines):
        raise _bad("a plan whose machines are not its members and others")
    if any(rank >= size for rank in message.owners):
        raise _bad("a plan with a slice that no member owns")
    if message.weights and len(message.weights) != size:
        raise _bad("a plan with weights for other members")
    if any(index >= len(message.owners) for index in message.shared):
        raise _bad("a plan that shares a slice that there is not")
    return Plan(
        ring=id_of(message.ring),
        order=order,
        step=message.step,
        history=_history(message.history),
        owners=tuple(int(rank) for rank in message.owners),
        copies=message.copies,
        shared=frozenset(message.shared),
        weights=message.weights,
        transfers=tuple(_transfer(t, machines, message) for t in message.transfers),
        thrown_away=tuple((part.key, part.steps) for part in message.thrown_away),
    )


def complaint_of(message: RingComplaint) -> Complaint:
    """A complaint as it was."""
    return Complaint(id_of(message.ring), message.about, message.why)


def shape_of(message: RingShape) -> Shape:
    """The job's slices.

    Raises:
        RemoteProtocolError: code `bad-ring`: its lists differ in length, or there is no slice.
    """
    count = len(message.sizes)
    if not count or {len(message.buckets), len(message.weights)} != {count}:
        raise _bad(f"a job of {count} slices whose lists differ in length, or are empty")
    return Shape(
        message.sizes,
        message.buckets,
        message.weights,
        message.copies,
        message.statistics,
        message.carries,
    )


def _told(history: History) -> tuple[RingPast, ...]:
    return tuple(RingPast(name_of(ring), Step(step)) for ring, step in history[-HISTORY_MAX:])


def _history(told: tuple[RingPast, ...]) -> History:
    return tuple((id_of(past.ring), int(past.step)) for past in told)


def _transfer(part: RingTransfer, machines: tuple[MachineKey, ...], plan: RingPlan) -> Transfer:
    if max(part.donor, part.receiver) >= len(machines) or part.cargo not in _CARGOES:
        raise _bad("a plan with a transfer of an unknown kind or machine")
    if part.index >= max(1, len(plan.owners)):
        raise _bad("a plan with a transfer of a slice that there is not")
    return Transfer(Cargo(part.cargo), part.index, machines[part.donor], machines[part.receiver])


_CARGOES = frozenset(int(cargo) for cargo in Cargo)


def _bad(what: str) -> RemoteProtocolError:
    return RemoteProtocolError("bad-ring", what)
