"""The captain by its inputs and effects: asking, deciding, stalling, blaming, giving way."""

from __future__ import annotations

import pytest

from meshd.core.ring.agreement import NO_RING, Ack, Plan, RingId
from meshd.core.ring.captain import (
    ANSWER_FIRST_S,
    ASK_AGAIN_S,
    BARRED_S,
    FALL_BACK_S,
    JOIN_BATCH_S,
    UNSUSPECTED_S,
    Ask,
    CaptainEffect,
    Formed,
    RingCaptain,
    Stalled,
    Tell,
)
from meshd.core.ring.plan import Shape
from meshd.core.types import MachineKey

SHAPE = Shape((10, 10, 10), (0, 0, 0), (1, 1, 1), copies=2)
A, B, C, D = (MachineKey(name) for name in "abcd")


class Talk:
    """A captain, what it has said, and members that answer when they are told to."""

    def __init__(self, me: MachineKey = A, least: int = 1, salt: int = 0) -> None:
        self.captain = RingCaptain(me, SHAPE, least, salt)
        self.now = 0.0
        self.step = 0

    def said(self) -> list[CaptainEffect]:
        return self.captain.drain()

    def asked(self) -> list[MachineKey]:
        return [effect.to for effect in self.said() if isinstance(effect, Ask)]

    def ack(self, key: MachineKey, **what: object) -> None:
        said: dict = {"step": self.step, "held": (0, 1, 2), "waits": True}
        if self.step:
            said |= {"history": ((RingId(1, A), 0),), "past": (A, B, C)}
        ack = Ack(**{"ring": self.captain.newest, **said, **what})
        self.captain.on_ack(key, ack, self.now)

    def form(self, *members: MachineKey) -> Plan:
        self.captain.form(members, "the job starts", self.now)
        return self.answered(*members)

    def answered(self, *members: MachineKey) -> Plan:
        self.said()
        for key in members:
            self.ack(key)
        formed = [effect for effect in self.said() if isinstance(effect, Formed)]
        assert len(formed) == 1
        return formed[0].plan

    def later(self, seconds: float) -> None:
        self.now += seconds
        self.captain.handle_timer(self.now)


def test_a_first_ring() -> None:
    talk = Talk()
    talk.captain.form((A, B), "the job starts", 0.0)
    first, second = talk.said()
    assert isinstance(first, Ask) and isinstance(second, Ask)
    assert (first.to, second.to) == (A, B)
    assert first.proposal.members == (A, B)
    talk.ack(B)
    assert talk.said() == []
    assert talk.captain.asks
    talk.ack(A)
    to_b, to_a, formed = talk.said()
    assert isinstance(to_b, Tell) and isinstance(to_a, Tell) and isinstance(formed, Formed)
    assert {to_a.to, to_b.to} == {A, B}
    assert (formed.why, formed.plan.order) == ("the job starts", (A, B))
    assert not talk.captain.asks
    assert talk.captain.next_timer() == float("inf")


def test_it_asks_again_those_that_are_silent() -> None:
    talk = Talk()
    talk.captain.form((A, B, C), "x", 0.0)
    talk.said()
    talk.ack(B)
    assert talk.captain.next_timer() == ASK_AGAIN_S
    talk.later(ASK_AGAIN_S)
    assert talk.asked() == [A, C]


@pytest.mark.parametrize("suspected", [True, False])
def test_it_leaves_out_the_silent_when_their_time_is_over(suspected: bool) -> None:
    """Sooner who was complained about: the others have done nothing but take their time."""
    talk = Talk()
    talk.form(A, B, C)
    about = C if suspected else MachineKey("")
    talk.captain.complains(A, talk.captain.newest, about, "x", talk.now)
    talk.said()
    talk.ack(A)
    talk.ack(B)
    waited = 0.0
    while talk.captain.asks:
        waited += 0.1
        talk.later(0.1)
        assert waited < (1.0 if suspected else UNSUSPECTED_S + 0.1)
    plan = next(e.plan for e in talk.said() if isinstance(e, Formed))
    assert plan.order == (A, B)
    assert waited > (0.5 if suspected else UNSUSPECTED_S - 0.1)


def test_at_first_it_waits_longer() -> None:
    talk = Talk()
    talk.captain.form((A, B), "x", 0.0)
    talk.later(ANSWER_FIRST_S - 0.01)
    assert talk.captain.asks


def test_the_lost_are_not_waited_for() -> None:
    talk = Talk()
    talk.form(A, B, C)
    talk.captain.lost(C, "c is lost", 1.0)
    assert talk.asked() == [A, B]
    talk.ack(A)
    talk.captain.lost(B, "b is lost", 1.1)
    plan = next(e.plan for e in talk.said() if isinstance(e, Formed))
    assert plan.order == (A,)
    talk.captain.lost(D, "not a member", 1.2)
    assert talk.said() == []


def test_who_lost_commit_hears_it_again() -> None:
    talk = Talk()
    plan = talk.form(A, B)
    talk.ack(B)
    assert talk.said() == [Tell(B, plan)]


def test_a_leaver_starts_a_ring_and_newcomers_are_taken_together() -> None:
    talk = Talk()
    talk.form(A, B)
    talk.captain.leaves(C, "no member", 0.0)
    assert talk.said() == []
    talk.captain.joins(D, 0.0)
    talk.captain.joins(A, 0.0)
    talk.captain.joins(C, 0.5)
    talk.captain.joins(D, 0.9)
    assert talk.captain.next_timer() == JOIN_BATCH_S
    talk.later(JOIN_BATCH_S)
    assert talk.asked() == [A, B, C, D]
    talk.captain.leaves(B, "b leaves", 1.1)  # heard again with the next beat
    assert talk.said() == []
    plan = talk.answered(A, B, C, D)
    talk.captain.leaves(B, "b leaves", 1.2)
    assert set(talk.asked()) == set(plan.order)


def test_a_newcomer_that_is_lost_before_is_not_asked() -> None:
    talk = Talk()
    talk.form(A, B)
    talk.captain.joins(D, 0.0)
    talk.captain.lost(D, "gone", 0.1)
    talk.later(5.0)
    assert talk.said() == []


def test_fewer_than_the_least() -> None:
    talk = Talk(least=2)
    talk.form(A, B)
    talk.captain.lost(B, "gone", 0.0)
    talk.said()
    talk.ack(A)
    (stalled,) = talk.said()
    assert isinstance(stalled, Stalled)
    assert "1 of at least 2" in stalled.why


# --- stalls --------------------------------------------------------------------------------------


def stalled() -> Talk:
    """A ring of a and b whose slices a alone lacks, at step 5; b is lost."""
    talk = Talk()
    talk.form(A, B)
    talk.step = 5
    talk.captain.lost(B, "b is lost", 0.0)
    talk.said()
    talk.ack(A, held=(0,))
    return talk


def test_it_stalls_once_and_goes_on_when_the_holder_is_back() -> None:
    talk = stalled()
    (said,) = talk.said()
    assert said == Stalled("nobody who is there has 2 of the slices", 5, (1, 2))
    for _ in range(10):
        talk.later(ASK_AGAIN_S)
    assert talk.said() == []
    talk.captain.joins(B, talk.now)
    talk.later(ASK_AGAIN_S)
    assert set(talk.asked()) == {A, B}
    talk.ack(A, held=(0,))
    talk.ack(B, held=(1, 2))
    plan = next(e.plan for e in talk.said() if isinstance(e, Formed))
    assert (plan.step, set(plan.order)) == (5, {A, B})


def test_a_first_state_is_no_way_out_while_members_are_away() -> None:
    talk = stalled()
    talk.captain.joins(C, talk.now)
    talk.later(ASK_AGAIN_S)
    talk.said()
    talk.ack(A, held=(0,))
    talk.ack(C, step=0, history=(), past=())
    assert talk.captain.asks
    talk.later(FALL_BACK_S - 1)
    assert talk.captain.asks
    talk.later(1.0)
    plan = next(e.plan for e in talk.said() if isinstance(e, Formed))
    assert plan.step == 0
    assert plan.thrown_away == ((A, 5),)


def test_when_all_are_there_it_is() -> None:
    talk = Talk()
    talk.form(A, B)
    talk.step = 5
    talk.captain.complains(A, talk.captain.newest, B, "x", 0.0)
    talk.said()
    talk.ack(A, held=(0,))
    talk.ack(B, step=0, history=(), past=())  # started again, with the first state
    plan = next(e.plan for e in talk.said() if isinstance(e, Formed))
    assert plan.step == 0


# --- complaints ----------------------------------------------------------------------------------


def test_complaints_of_old_rings_and_of_strangers_are_nothing() -> None:
    talk = Talk()
    first = talk.form(A, B)
    talk.captain.complains(B, first.ring, A, "x", 0.0)
    assert set(talk.asked()) == {A, B}
    talk.captain.complains(A, first.ring, B, "x", 0.0)  # being dealt with
    assert talk.said() == []
    second = talk.answered(A, B)
    talk.captain.complains(A, first.ring, B, "x", 0.0)
    talk.captain.complains(C, second.ring, B, "x", 0.0)
    assert talk.said() == []
    assert not talk.captain.asks


def test_a_complaint_of_a_ring_that_it_does_not_know_yet() -> None:
    talk = Talk()
    talk.form(A, B)
    talk.captain.complains(B, RingId(7, B), MachineKey(""), "x", 0.0)
    assert set(talk.asked()) == {A, B}
    assert talk.captain.newest == RingId(8, A)


def complained(talk: Talk, sender: MachineKey, about: MachineKey, **waits: bool) -> tuple:
    """A ring that ends with this complaint, and the order of the next one."""
    members = talk.captain.members
    talk.captain.complains(sender, talk.captain.newest, about, "x", talk.now)
    talk.said()
    for key in members:
        talk.ack(key, waits=waits.get(key, True))
    return next(e.plan.order for e in talk.said() if isinstance(e, Formed))


def test_who_is_blamed_three_times_in_vain_goes_for_a_while() -> None:
    talk = Talk()
    talk.form(A, B, C)
    assert complained(talk, A, B) == (A, B, C)
    assert complained(talk, C, B) == (A, B, C)
    assert complained(talk, A, B) == (A, C)
    assert talk.captain.plan is not None
    assert talk.captain.plan.barred == ((B, BARRED_S),)
    talk.captain.joins(B, talk.now)
    talk.later(BARRED_S - 1)
    talk.captain.joins(B, talk.now)
    talk.later(JOIN_BATCH_S)
    assert talk.said() == []
    talk.captain.joins(B, talk.now)
    talk.later(JOIN_BATCH_S)
    assert set(talk.asked()) == {A, B, C}


def test_the_second_time_it_is_twice_as_long_for_the_next_captain_too() -> None:
    talk = Talk()
    talk.form(A, B, C)
    for _ in range(3):
        complained(talk, A, B)
    talk.now += BARRED_S
    talk.captain.joins(B, talk.now)
    talk.later(JOIN_BATCH_S)
    plan = talk.answered(A, B, C)
    assert set(plan.order) == {A, B, C}
    other = Talk(me=C)
    other.captain.take_over(plan, NO_RING)
    for _ in range(3):
        complained(other, A, B)
    assert other.captain.plan is not None
    assert other.captain.plan.barred == ((B, 2 * BARRED_S),)
    third = Talk(me=A)
    third.captain.take_over(other.captain.plan, NO_RING)
    third.captain.joins(B, 0.0)
    third.later(2 * BARRED_S - 1)
    assert third.said() == []
    third.captain.joins(B, 2 * BARRED_S)
    third.later(2 + JOIN_BATCH_S)
    assert set(third.asked()) == {A, B, C}


def test_a_step_in_between_forgives() -> None:
    talk = Talk()
    talk.form(A, B, C)
    for step in range(1, 8):
        talk.step = step
        assert complained(talk, A, B) == (A, B, C)


def test_who_blames_one_after_the_other_is_it_itself() -> None:
    talk = Talk()
    talk.form(A, B, C, D)
    for _ in range(3):
        order = complained(talk, C, B)
    assert order == (A, C, D)
    for _ in range(3):
        order = complained(talk, C, A)
    assert order == (A, D)
    talk.captain.joins(B, talk.now)
    talk.later(JOIN_BATCH_S)
    assert B in talk.asked()


def test_in_a_standstill_it_is_who_has_not_done_its_part() -> None:
    talk = Talk()
    talk.form(A, B, C)
    nobody = MachineKey("")
    assert complained(talk, A, nobody, b=False) == (A, B, C)
    assert complained(talk, C, nobody, b=False) == (A, B, C)
    assert complained(talk, A, nobody, b=False) == (A, C)


def test_when_most_are_at_work_it_is_who_complains() -> None:
    talk = Talk()
    talk.form(A, B, C)
    nobody = MachineKey("")
    for _ in range(2):
        complained(talk, C, nobody, a=False, b=False)
    assert complained(talk, C, nobody, a=False, b=False) == (A, B)


# --- two captains --------------------------------------------------------------------------------


def higher(talk: Talk, by: MachineKey) -> None:
    """A member names a higher ring of another captain."""
    ring = RingId(talk.captain.newest.generation + 1, by)
    talk.captain.on_ack(C, Ack(ring, 0), talk.now)


def test_a_higher_ring_is_outbid_at_once_the_first_time() -> None:
    talk = Talk()
    talk.captain.form((A, C), "x", 0.0)
    talk.said()
    higher(talk, D)
    assert talk.asked() == [A, C]
    assert talk.captain.newest == RingId(3, A)


@pytest.mark.parametrize(("me", "other", "waits"), [(A, B, [1, 1, 1]), (B, A, [4, 8, 16])])
def test_then_the_first_by_name_is_the_quicker(
    me: MachineKey, other: MachineKey, waits: list[int]
) -> None:
    talk = Talk(me)
    talk.captain.form((me, C), "x", 0.0)
    higher(talk, other)
    for times in waits:
        talk.said()
        higher(talk, other)
        higher(talk, other)
        talk.ack(me)
        talk.ack(C)
        assert talk.said() == []  # who answered has promised another one meanwhile
        due = talk.captain.next_timer()
        assert due - talk.now == pytest.approx(times * ASK_AGAIN_S)
        talk.later(due - talk.now - 0.01)
        assert talk.said() == []
        talk.later(0.02)
        assert talk.asked() == [me, C]


def test_a_ring_of_another_captain_ends_what_is_asked() -> None:
    talk = Talk()
    talk.captain.form((A, C), "x", 0.0)
    other = Plan(RingId(5, B), (A, B, C), 0, (), (0, 1, 2), 2)
    talk.captain.take_over(other, NO_RING)
    assert not talk.captain.asks
    assert talk.captain.members == (A, B, C)
    talk.captain.form((A, C), "x", 0.0)
    assert talk.captain.newest == RingId(6, A)
    talk.captain.take_over(other, NO_RING)
    assert talk.captain.asks


def test_an_older_ring_of_another_captain_does_not() -> None:
    talk = Talk()
    talk.captain.saw(RingId(9, B))
    talk.captain.form((A, C), "x", 0.0)
    talk.captain.take_over(Plan(RingId(5, B), (A, B), 0, (), (0, 1, 1), 2), NO_RING)
    assert talk.captain.asks
    assert talk.captain.members == (A, C)


def test_a_captain_that_was_started_again_names_its_rings_otherwise() -> None:
    names = set()
    for salt in (1, 2):
        talk = Talk(salt=salt)
        talk.captain.form((A, B), "x", 0.0)
        names.add(talk.captain.newest)
    assert len(names) == 2
    assert len({name.mark for name in names}) == 2


def test_answers_of_strangers_are_nothing() -> None:
    talk = Talk()
    talk.captain.form((A, B), "x", 0.0)
    talk.said()
    talk.ack(D)
    talk.ack(A)
    assert talk.said() == []
