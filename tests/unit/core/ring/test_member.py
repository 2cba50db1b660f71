"""One member by its inputs and effects: what it takes, keeps, drops and says, and when."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from ring_stage import NOBODY, A, B, C, D, Stage, alive, plan_of, ring

from meshd.core.ring.agreement import Cargo, Proposal, RingMark, Transfer
from meshd.core.ring.early import EARLY_FRAMES_MAX
from meshd.core.ring.effects import (
    Answer,
    Committed,
    Complaint,
    FrameHead,
    Gathered,
    Reformed,
    SendFrame,
)
from meshd.core.ring.member import NOTHING
from meshd.core.ring.route import Phase


def test_it_answers_trains_and_commits() -> None:
    stage = Stage()
    assert stage.member.next_timer() == float("inf")
    stage.propose(1)
    (answer,) = stage.said(Answer)
    assert (answer.to, answer.ack.ring, answer.ack.step, answer.ack.held) == (
        A,
        ring(1),
        0,
        (0, 1, 2),
    )
    stage.member.commit(plan_of(), 0.0)
    (reformed,) = stage.said(Reformed)
    assert reformed.rank == 1
    stage.step()
    sent = stage.member.drain()
    frames = [(e.to, e.head.phase.name, e.head.index) for e in sent if isinstance(e, SendFrame)]
    assert frames == [
        (C, "REDUCE", 0),
        (C, "REDUCE", 2),
        (C, "DECISION", 1),
        (C, "FINISHED", 0),
    ]
    assert sent[-1] == Committed(0)
    assert (stage.member.step, stage.member.history) == (1, ((ring(1), 0),))


def test_propose_twice_is_answered_twice_and_after_the_plan_not_at_all() -> None:
    stage = Stage()
    stage.propose(1)
    stage.propose(1)
    assert len(stage.said(Answer)) == 2
    stage.member.commit(plan_of(), 0.0)
    stage.propose(1)
    assert stage.said(Answer) == []
    assert stage.member.stage == "training"


def test_an_older_proposal_hears_of_the_newer_one() -> None:
    stage = Stage()
    stage.propose(5)
    stage.said(Answer)
    stage.member.propose(Proposal(ring(4, C), (B, C)), 0.0)
    (answer,) = stage.said(Answer)
    assert (answer.to, answer.ack.ring) == (C, ring(5))
    assert stage.member.dropped["older-proposal"] == 1


def test_lost_commit_the_ack_is_repeated_then_complained() -> None:
    stage = Stage()
    stage.propose(1)
    stage.said(Answer)
    assert stage.member.next_timer() == 1.0
    stage.member.handle_timer(0.5)
    assert stage.member.drain() == []
    stage.member.handle_timer(1.0)
    assert len(stage.said(Answer)) == 1
    stage.member.handle_timer(2.0)
    effects = stage.member.drain()
    assert [type(effect) for effect in effects] == [Answer, Complaint]


@pytest.mark.parametrize("generation", [1, 3])
def test_a_plan_that_was_not_promised_is_dropped(generation: int) -> None:
    stage = Stage()
    stage.propose(2)
    stage.member.commit(plan_of(generation), 0.0)
    assert stage.member.stage == "stopped"
    assert stage.member.dropped["other-plan"] == 1


def test_a_plan_that_cannot_be_is_complained_about() -> None:
    stage = Stage()
    stage.propose(1)
    stage.member.commit(plan_of(order=(A, B, B)), 0.0)
    (complaint,) = stage.said(Complaint)
    assert "each of them once" in complaint.why
    assert stage.member.stage == "stopped"


def test_a_plan_while_filling_begins_anew() -> None:
    stage = Stage(NOTHING)
    wanted = Transfer(Cargo.SLICE, 1, A, B), Transfer(Cargo.SLICE, 0, C, B)
    history = ((ring(1), 0),)
    stage.form(plan_of(2, step=4, history=history, transfers=wanted))
    assert stage.member.stage == "filling"
    stage.receive(A, Phase.SLICE, 1, step=4, generation=2)
    stage.member.drain()
    stage.propose(3)
    (answer,) = stage.said(Answer)
    assert (answer.ack.step, answer.ack.held, answer.ack.waits) == (NOTHING, (), True)
    stage.member.commit(plan_of(3, step=4, history=history, transfers=wanted), 0.0)
    assert stage.box.asked[-1] == ("forget",)
    stage.receive(C, Phase.SLICE, 0, step=4, generation=2)
    assert stage.member.dropped["older-ring"] == 1
    stage.receive(A, Phase.SLICE, 1, step=4, generation=3)
    stage.receive(C, Phase.SLICE, 0, step=4, generation=3)
    assert len(stage.said(Reformed)) == 1
    assert (stage.member.step, stage.member.history) == (4, history)


def test_frames_of_a_promised_ring_wait_for_its_plan() -> None:
    stage = Stage()
    stage.propose(1)
    stage.receive(A, Phase.REDUCE, 2, 0, b"v")
    assert sum(stage.member.dropped.values()) == 0
    stage.member.commit(plan_of(), 0.0)
    stage.member.begin(ring(1), 0.0)
    stage.member.opened(ring(1), 0, 0.0)
    assert {e.head.index for e in stage.said(SendFrame)} == {0, 2}


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ({"generation": 1}, "older-ring"),
        ({"generation": 3}, "unknown-ring"),
        ({"sender": D}, "not-a-member"),
        ({"step": -1}, "other-step"),
        ({"step": 2}, "other-step"),
        ({"phase": Phase.SLICE}, "unasked"),
        ({"phase": Phase.PAST_DECISION}, "unasked"),
        ({"phase": Phase.GATHER, "sender": C}, "not-the-predecessor"),
    ],
)
def test_what_is_dropped_and_counted(what: dict, reason: str) -> None:
    stage = Stage()
    stage.form(plan_of(2))
    stage.member.gather(ring(2), 0, b"mine", 0.0)
    said = {"sender": A, "phase": Phase.REDUCE, "generation": 2, **what}
    stage.receive(said.pop("sender"), said.pop("phase"), **said)
    assert stage.member.dropped == {reason: 1}


def test_another_captain_of_the_same_generation_is_another_ring() -> None:
    stage = Stage()
    stage.form(plan_of(2))
    head = FrameHead(RingMark(2, ring(2).mark.tag ^ 1), Phase.REDUCE, 0, 2, 0)
    stage.member.receive(A, head, b"v", 0.0)
    assert stage.member.dropped == {"unknown-ring": 1}


def test_what_is_kept_ahead_is_bounded_for_each_sender() -> None:
    stage = Stage(early_bytes=100)
    stage.propose(1)
    for _ in range(3):
        stage.receive(A, Phase.REDUCE, payload=bytes(40))
    assert stage.member.dropped == {"too-early": 1}
    stage.receive(C, Phase.REDUCE, payload=bytes(40))
    stage.receive(D, Phase.REDUCE)
    assert stage.member.dropped == {"too-early": 1, "not-a-member": 1}


def test_so_is_their_number() -> None:
    stage = Stage()
    stage.form(plan_of())
    for _ in range(EARLY_FRAMES_MAX + 1):
        stage.receive(A, Phase.REDUCE, 2, 0, b"", step=1)
    assert stage.member.dropped == {"too-early": 1}


def test_a_bad_payload_is_complained_about_once() -> None:
    stage = Stage()
    stage.form(plan_of())
    stage.member.begin(ring(1), 0.0)
    stage.member.opened(ring(1), 0, 0.0)
    stage.member.drain()
    stage.receive(A, Phase.REDUCE, 2, 0, b"bad")
    for _ in range(5):
        stage.receive(A, Phase.FINISHED, 0, 9, b"f")
    (complaint,) = stage.said(Complaint)
    assert complaint.about == A
    assert stage.member.dropped["bad-payload"] == 6


def test_a_broken_link_to_a_member_is_complained_about() -> None:
    stage = Stage()
    stage.form(plan_of())
    stage.member.drain()
    stage.member.link_lost(D, "x")
    stage.member.link_lost(C, "the link broke")
    assert stage.said(Complaint) == [Complaint(ring(1), C, "the link broke")]
    stage.propose(2)
    stage.member.link_lost(C, "the link broke")
    assert stage.said(Complaint) == []


def test_what_the_thread_that_computes_says_of_an_older_ring_is_no_news() -> None:
    stage = Stage()
    stage.form(plan_of(2))
    stage.member.drain()
    stage.member.begin(ring(1), 0.0)
    stage.member.opened(ring(1), 0, 0.0)
    stage.member.opened(ring(2), 0, 0.0)  # not begun
    stage.member.gather(ring(1), 1, b"", 0.0)
    assert stage.member.drain() == []
    stage.member.begin(ring(2), 0.0)
    stage.member.begin(ring(2), 0.0)
    stage.member.opened(ring(2), 0, 0.0)
    assert stage.box.asked.count(("open", 0)) == 1


# --- gatherings ----------------------------------------------------------------------------------


def test_a_gathering() -> None:
    stage = Stage()
    stage.form(plan_of())
    stage.receive(A, Phase.GATHER, 7, 0, b"of a")  # a was quicker
    stage.member.gather(ring(1), 7, b"of b", 0.0)
    stage.receive(A, Phase.GATHER, 7, 1, b"of c")
    (gathered,) = stage.said(Gathered)
    assert gathered == Gathered(7, 0, (b"of a", b"of b", b"of c"))
    stage.receive(A, Phase.GATHER, 7, 1, b"of c")
    assert stage.member.dropped == {"other-step": 1}
    with pytest.raises(ValueError, match="the second one"):
        stage.member.gather(ring(1), 7, b"", 0.0)
    stage.member.gather(ring(1), 8, b"of b", 0.0)
    stage.step()
    stage.member.gather(ring(1), 7, b"at the next step", 0.0)


# --- time ----------------------------------------------------------------------------------------


def test_pulses_go_to_the_successor_and_silence_is_the_predecessors() -> None:
    stage = Stage()
    stage.form(plan_of())
    stage.member.drain()
    pulses, silent_at = 0, None
    while silent_at is None:
        stage.now = max(stage.member.next_timer(), stage.now + 0.001)
        stage.member.handle_timer(stage.now)
        for effect in stage.member.drain():
            if isinstance(effect, SendFrame):
                assert (effect.to, effect.head.phase) == (C, Phase.PULSE)
                pulses += 1
            else:
                assert effect == Complaint(ring(1), A, "is not heard any more")
                silent_at = stage.now
    assert silent_at == pytest.approx(3.0, abs=0.3)
    assert 14 <= pulses <= 16


def test_who_waits_for_others_complains_of_a_standstill() -> None:
    stage = Stage()
    stage.form(plan_of())
    stage.step(last=False)
    assert alive(stage, 119.0) == []
    assert alive(stage, 2.0) == [Complaint(ring(1), NOBODY, "the ring does not move")]


def test_who_computes_does_not() -> None:
    stage = Stage()
    stage.form(plan_of())
    stage.member.begin(ring(1), 0.0)
    assert alive(stage, 300.0) == []
    stage.propose(2)
    assert stage.said(Answer)[-1].ack.waits is False


@pytest.mark.parametrize(
    ("transfers", "about"),
    [
        ((Transfer(Cargo.SLICE, 1, A, B),), A),
        ((Transfer(Cargo.SLICE, 1, A, B), Transfer(Cargo.PAST, 0, C, A)), NOBODY),
    ],
)
def test_who_is_filled_complains_of_the_donor_unless_it_waits_too(
    transfers: tuple[Transfer, ...], about: str
) -> None:
    stage = Stage(NOTHING)
    stage.form(plan_of(transfers=transfers))
    assert [c.about for c in alive(stage, 121.0)] == [about]


def test_a_ring_of_one_has_no_timers() -> None:
    stage = Stage()
    stage.form(plan_of(order=(B,)))
    assert stage.member.next_timer() == float("inf")
    stage.member.handle_timer(100.0)
    assert stage.said(Complaint) == []
    stage.member.begin(ring(1), 0.0)
    stage.member.opened(ring(1), 0, 0.0)
    assert stage.said(Committed) == [Committed(0)]
