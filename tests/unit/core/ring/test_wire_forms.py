"""What captain and members say survives its way over the wire, bytes and all; nonsense does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.errors import RemoteProtocolError
from meshd.core.messages import RingMember, RingShape, RingTransfer
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
from meshd.core.ring.effects import Complaint
from meshd.core.ring.plan import Shape
from meshd.core.ring.wire_forms import (
    ack_message,
    ack_of,
    complaint_message,
    complaint_of,
    name_of,
    plan_message,
    plan_of,
    proposal_message,
    proposal_of,
    shape_message,
    shape_of,
)
from meshd.core.types import Generation, JobId, MachineKey
from meshd.wire.codec import decode, encode
from meshd.wire.limits import MAX_HISTORY
from meshd.wire.schema import Family

JOB, ATTEMPT = JobId("0f" * 16), Generation(3)
KEYS = [MachineKey(letter * 40) for letter in "abcdefgh"]
SLICES = 12

rings = st.just(NO_RING) | st.builds(
    RingId, st.integers(1, 2**32 - 1), st.sampled_from(KEYS).map(MachineKey)
)
steps = st.integers(0, 2**40)
histories = st.lists(st.tuples(rings, steps), max_size=4).map(tuple)
indices = st.lists(st.integers(0, SLICES - 1), unique=True).map(tuple)
somebody = st.sampled_from(KEYS)
crowds = st.lists(somebody, unique=True, min_size=1).map(tuple)
acks = st.builds(
    Ack,
    ring=rings,
    step=st.integers(-1, 2**40),
    history=histories,
    running=rings,
    held=indices,
    going=indices,
    speed=st.floats(0, 1e9),
    leaving=st.booleans(),
)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    order = draw(crowds)
    transfers = st.builds(
        Transfer, st.sampled_from(Cargo), st.integers(0, SLICES - 1), somebody, somebody
    )
    return Plan(
        ring=draw(rings),
        order=order,
        step=draw(steps),
        history=draw(histories),
        owners=tuple(draw(st.integers(0, len(order) - 1)) for _ in range(SLICES)),
        copies=draw(st.integers(1, 8)),
        shared=frozenset(draw(indices)),
        weights=draw(st.just(()) | st.just(tuple(1.5 for _ in order))),
        transfers=tuple(draw(st.lists(transfers, max_size=6))),
        thrown_away=tuple(draw(st.lists(st.tuples(somebody, steps), max_size=2))),
    )


def addresses(plan: Plan) -> dict[MachineKey, RingMember]:
    return {key: RingMember(key, f"desk-{key[0]}", "192.0.2.1", 4800) for key in plan.order}


def carried(message: object) -> object:
    """As it comes out of a worker's and of a machine's link."""
    frame = encode(message)
    assert decode(frame, Family.WORKER) == decode(frame, Family.MACHINE) == message
    return decode(frame)


@given(plans())
def test_a_plan_survives(plan: Plan) -> None:
    message = plan_message(JOB, ATTEMPT, plan, addresses(plan))
    assert [member.key for member in message.members] == list(plan.order)
    assert plan_of(carried(message)) == plan


@given(acks, somebody)
def test_an_ack_survives(ack: Ack, captain: MachineKey) -> None:
    message = carried(ack_message(JOB, ATTEMPT, ack, captain))
    assert ack_of(message) == ack and message.to == captain


@given(rings, crowds, somebody | st.just(MachineKey("")))
def test_proposals_and_complaints_survive(ring, members, about) -> None:
    proposal = Proposal(ring, members)
    assert proposal_of(carried(proposal_message(JOB, ATTEMPT, proposal))) == proposal
    complaint = Complaint(ring, about, "is not heard any more")
    assert complaint_of(carried(complaint_message(JOB, ATTEMPT, complaint))) == complaint


@given(rings, rings)
def test_names_are_ordered_as_rings_are(a: RingId, b: RingId) -> None:
    assert (name_of(a) < name_of(b)) == (a < b)


def test_a_shape_survives_and_a_lopsided_one_does_not() -> None:
    shape = Shape((8, 9, 10), (1, 0, 0), (2, 3, 0), 2, statistics=True, carries=False)
    message = shape_message(shape)
    assert shape_of(message) == shape
    for wrong in (RingShape(), replace(message, buckets=(0,)), replace(message, weights=())):
        with pytest.raises(RemoteProtocolError, match="slices"):
            shape_of(wrong)


def test_of_a_long_history_the_latest_rings_travel() -> None:
    history = tuple((RingId(n + 1, KEYS[0]), n) for n in range(HISTORY_MAX + 44))
    ack = Ack(RingId(400, KEYS[0]), 300, history)
    assert ack_of(carried(ack_message(JOB, ATTEMPT, ack, KEYS[0]))).history == history[44:]
    assert HISTORY_MAX == MAX_HISTORY


PLAN = Plan(RingId(2, KEYS[0]), (KEYS[0], KEYS[1]), 5, (), (0, 1, 0), 2, frozenset({2}))
GOOD = plan_message(JOB, ATTEMPT, PLAN, addresses(PLAN))


@pytest.mark.parametrize(
    "wrong",
    [
        {"members": (), "machines": ()},
        {"machines": (KEYS[1], KEYS[0])},
        {"machines": (KEYS[0], KEYS[1], KEYS[0])},
        {"members": GOOD.members[:1] * 2, "machines": (KEYS[0], KEYS[0])},
        {"owners": (0, 2, 0)},
        {"weights": (1.0,)},
        {"shared": (3,)},
        {"transfers": (RingTransfer(1, 0, 2, 0),)},
        {"transfers": (RingTransfer(1, 0, 0, 2),)},
        {"transfers": (RingTransfer(1, 3, 0, 1),)},
        {"transfers": (RingTransfer(77, 0, 0, 1),)},
    ],
)
def test_a_plan_whose_parts_do_not_fit_is_refused(wrong) -> None:
    assert plan_of(GOOD) == PLAN
    with pytest.raises(RemoteProtocolError) as caught:
        plan_of(replace(GOOD, **wrong))
    assert caught.value.code == "bad-ring"


def test_a_proposal_to_nobody_is_refused() -> None:
    good = proposal_message(JOB, ATTEMPT, Proposal(RingId(1, KEYS[0]), (KEYS[0],)))
    for members in ((), (KEYS[0], KEYS[0])):
        with pytest.raises(RemoteProtocolError):
            proposal_of(replace(good, members=members))
