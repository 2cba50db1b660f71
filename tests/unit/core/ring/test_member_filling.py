"""A member that is brought to a new ring's state, or brings others to it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from ring_stage import A, B, C, D, Stage, behind, plan_of, ring

from meshd.core.ring.agreement import NO_RING, Cargo, Transfer
from meshd.core.ring.effects import (
    Answer,
    Committed,
    Complaint,
    Dismissed,
    Reformed,
    SendFrame,
)
from meshd.core.ring.member import NOTHING
from meshd.core.ring.route import Phase


def test_past_results_complete_the_step() -> None:
    stage = behind((Transfer(Cargo.SLICE, 0, B, C), Transfer(Cargo.CARRIED, 0, D, B)))
    assert stage.member.stage == "filling"
    assert stage.said(SendFrame) == []  # its own state is not yet that of the plan
    stage.receive(D, Phase.CARRIED, step=1, generation=2)
    assert ("store", Cargo.CARRIED, 0) not in stage.box.asked
    stage.receive(C, Phase.PAST_FINISHED, 2, step=0, generation=2)
    assert stage.member.dropped == {"unasked": 1}
    stage.receive(A, Phase.PAST_DECISION, 0, step=0, generation=2)
    stage.receive(A, Phase.PAST_FINISHED, 2, step=0, generation=2)
    effects = stage.member.drain()
    assert [type(effect) for effect in effects] == [Committed, SendFrame, Reformed]
    assert ("store", Cargo.CARRIED, 0) in stage.box.asked
    assert stage.member.history == ((ring(1), 0),)
    stage.receive(A, Phase.PAST_FINISHED, 2, step=0, generation=2)
    assert stage.member.dropped["other-step"] == 1


def test_who_cannot_be_completed_comes_anew() -> None:
    stage = Stage()
    stage.form(plan_of())
    stage.member.begin(ring(1), 0.0)
    stage.member.opened(ring(1), 0, 0.0)
    stage.propose(2)
    stage.member.drain()
    past = Transfer(Cargo.PAST, 0, A, B)
    stage.member.commit(plan_of(2, step=1, history=((ring(1), 0),), transfers=(past,)), 0.0)
    stage.receive(A, Phase.PAST_FINISHED, 0, step=0, generation=2)  # held here: no decision
    (complaint,) = stage.said(Complaint)
    assert "nobody has the decision of chunk 0" in complaint.why
    assert stage.box.asked[-1] == ("abort",)
    assert stage.member.stage == "filling"
    stage.propose(3)
    (answer,) = stage.said(Answer)
    assert (answer.ack.step, answer.ack.running) == (0, NO_RING)


def test_a_bad_past_result_is_the_donors() -> None:
    stage = behind()
    stage.receive(A, Phase.PAST_FINISHED, 2, payload=b"bad", step=0, generation=2)
    stage.receive(A, Phase.PAST_FINISHED, 99, step=0, generation=2)
    (complaint,) = stage.said(Complaint)
    assert complaint.about == A


def test_it_hands_on_what_the_receiver_lacks() -> None:
    stage = Stage()
    stage.form(plan_of())
    stage.step()
    stage.propose(2)
    stage.member.drain()
    transfers = (Transfer(Cargo.PAST, 0, B, C), Transfer(Cargo.WEIGHTS, 1, B, D))
    history = ((ring(1), 0),)
    stage.member.commit(plan_of(2, step=1, history=history, transfers=transfers), 0.0)
    frames = {(e.to, e.head.phase, e.head.index): e.payload for e in stage.said(SendFrame)}
    assert frames == {
        (C, Phase.PAST_FINISHED, 0): b"past f",
        (C, Phase.PAST_DECISION, 1): b"past d",
        (C, Phase.PAST_FINISHED, 2): b"past f",  # c owns it and has it: nobody else decides it
        (D, Phase.WEIGHTS, 1): b"WEIGHTS 1",
    }


@pytest.mark.parametrize(
    "transfer", [Transfer(Cargo.PAST, 0, B, C), Transfer(Cargo.SLICE, 2, B, C)]
)
def test_what_it_does_not_have_it_cannot_give(transfer: Transfer) -> None:
    stage = Stage()
    stage.box.has = {0, 1}
    stage.form(plan_of(transfers=(transfer,)))
    assert stage.said(SendFrame) == []
    assert stage.member.dropped == {"cannot-give": 1}


def test_another_state_is_forgotten() -> None:
    stage = Stage()
    stage.form(plan_of())
    stage.step()
    stage.form(plan_of(2, step=1, history=((ring(1, C), 0),)))
    assert ("forget",) in stage.box.asked


def test_a_running_step_is_undone() -> None:
    stage = Stage()
    stage.form(plan_of())
    stage.step(last=False)
    stage.propose(2)
    answer = stage.said(Answer)[-1]
    assert (answer.ack.running, answer.ack.waits) == (ring(1), True)
    stage.member.commit(plan_of(2), 0.0)
    assert ("abort",) in stage.box.asked
    assert stage.member.stage == "training"


def test_a_bad_slice_is_the_donors() -> None:
    stage = Stage(NOTHING)
    stage.form(plan_of(1, step=3, transfers=(Transfer(Cargo.SLICE, 1, A, B),)))
    stage.member.drain()
    stage.receive(A, Phase.SLICE, 1, step=2)
    assert stage.member.dropped == {"other-step": 1}
    stage.receive(A, Phase.SLICE, 1, payload=b"bad", step=3)
    assert [c.about for c in stage.said(Complaint)] == [A]
    assert stage.member.stage == "filling"


def test_a_leaver_hands_over_and_goes() -> None:
    stage = Stage()
    stage.form(plan_of())
    stage.member.leaving = True
    stage.propose(2)
    stage.member.drain()
    transfers = (Transfer(Cargo.SLICE, 0, B, A), Transfer(Cargo.CARRIED, 0, B, C))
    stage.member.commit(plan_of(2, order=(A, C), transfers=transfers), 0.0)
    effects = stage.member.drain()
    assert [type(effect) for effect in effects] == [SendFrame, SendFrame, Dismissed]
    assert stage.member.next_timer() == float("inf")
    stage.receive(A, Phase.REDUCE, generation=2)
    assert stage.member.dropped == {"older-ring": 1}
