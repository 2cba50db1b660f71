"""The lifecycle table and the merge of replicas."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.core.errors import LocalProtocolError, RemoteProtocolError
from meshd.core.job import (
    FINAL,
    NEXT_GENERATION,
    NO_RING_NAME,
    RANK,
    STALLED,
    TRANSITIONS,
    advance,
    check_record,
    job_id,
    merge,
    new_record,
    onward,
    order,
    reform,
    stall,
)
from meshd.core.jobspec import canonical_json, parse_toml
from meshd.core.messages import (
    CarriedBlob,
    Checkpoint,
    MemberResult,
    RingMember,
    RingName,
    SliceBlob,
)
from meshd.core.types import BlobId, Generation, JobId, MachineKey, Step

KEYS = [MachineKey(f"{n:02d}" * 20) for n in range(3)]
BLOBS = [BlobId(f"{n:02x}" * 32) for n in range(3)]
HEAD = new_record(canonical_json(parse_toml('name = "j"')), BLOBS[0], 10, KEYS[0], 1.0)

checkpoints = st.builds(
    Checkpoint,
    st.integers(0, 3).map(Step),
    st.sampled_from([(), (SliceBlob(0, BLOBS[0]),), (SliceBlob(0, BLOBS[1]),)]),
    st.dictionaries(st.sampled_from(KEYS), st.sampled_from(BLOBS)).map(
        lambda held: tuple(CarriedBlob(key, held[key]) for key in sorted(held))
    ),
)
members = st.lists(st.sampled_from(KEYS), unique=True).map(
    lambda keys: tuple(RingMember(key, "desk", "h", 1) for key in keys)
)
rings = st.sampled_from([NO_RING_NAME, *(RingName(Generation(n), k) for n in (1, 2) for k in KEYS)])
records = st.builds(
    lambda told, **changes: dataclasses.replace(
        HEAD, **changes, reason=told.format(onward(changes["checkpoint"].step))
    ),
    state=st.sampled_from(list(TRANSITIONS)),
    generation=st.integers(1, 3).map(Generation),
    told=st.sampled_from(
        ["a", "b", "a; `meshd resume j` {}", "b; `meshd resume j` {}", "stalled: a", "zz"]
    ),
    ring=rings,
    step=st.integers(0, 3).map(Step),
    steps=st.integers(0, 1),
    members=members,
    checkpoint=checkpoints,
    captain=st.sampled_from([MachineKey(""), *KEYS]),
    results=st.sampled_from([(), (MemberResult(KEYS[0], "d", 0.5, "ff", 1, BLOBS[0]),)]),
    parameters=st.integers(0, 1),
    began=st.integers(0, 1).map(Step),
)


@given(records, records)
def test_merge_is_commutative(a, b):
    assert merge(a, b) == merge(b, a)


@given(records, records, records)
@settings(max_examples=500)
def test_merge_is_associative(a, b, c):
    assert merge(merge(a, b), c) == merge(a, merge(b, c))


@given(records, records)
def test_merge_is_idempotent_and_never_below_either(a, b):
    both = merge(a, b)
    assert merge(a, a) == a
    assert merge(both, a) == merge(both, b) == both
    assert order(both).key >= max(order(a).key, order(b).key)
    assert both.checkpoint.step == max(a.checkpoint.step, b.checkpoint.step)


@given(st.lists(records, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_replicas_converge_in_any_order_of_arrival(updates, rng):
    """Against a dumb second implementation: fold the updates in two orders."""
    shuffled = updates * 2
    rng.shuffle(shuffled)
    left, right = updates[0], shuffled[0]
    for update in updates:
        left = merge(left, update)
    for update in shuffled:
        right = merge(right, update)
    assert left == right


@given(records, records)
def test_a_cancelled_job_stays_cancelled(a, b):
    cancelled = dataclasses.replace(a, state="cancelled")
    assert merge(cancelled, b).state == "cancelled"


@given(records)
def test_every_row_of_the_table_climbs_so_it_survives_every_merge(record):
    for event in TRANSITIONS[record.state]:
        after = advance(record, event, "because")
        assert order(after).key > order(record).key
        assert merge(record, after) == after
        assert after.generation == record.generation + (event in NEXT_GENERATION)


@given(records, rings, members)
def test_a_new_ring_and_a_stall_climb_within_the_attempt(record, ring, who):
    training = dataclasses.replace(record, state="training")
    if ring <= training.ring:
        with pytest.raises(LocalProtocolError, match="cannot follow"):
            reform(training, ring, who, Step(0), "trains")
        return
    after = reform(training, ring, who, Step(0), "trains")
    assert merge(training, after) == after, "though it may go on from an earlier step"
    stalled = stall(after, "two slices are nobody's")
    assert stalled.reason.startswith(STALLED)
    assert merge(after, stalled) == stalled
    later = RingName(Generation(ring.generation + 1), KEYS[0])
    assert merge(stalled, reform(stalled, later, who, Step(0), "a")).reason == "a"
    stopped = advance(stalled, "stop", "a")
    assert merge(stopped, reform(stalled, later, who, Step(9), "z")) == stopped


def test_only_a_job_that_trains_changes_its_ring_or_stalls():
    ring = RingName(Generation(1), KEYS[0])
    with pytest.raises(LocalProtocolError):
        reform(HEAD, ring, (), Step(0), "trains")
    with pytest.raises(LocalProtocolError, match="cannot stall"):
        stall(HEAD, "x")


def test_what_is_not_in_the_table_is_a_defect_of_ours():
    events = {event for row in TRANSITIONS.values() for event in row}
    for state, event in itertools.product(TRANSITIONS, events):
        record = dataclasses.replace(HEAD, state=state)
        if event in TRANSITIONS[state]:
            assert advance(record, event, "r").state == TRANSITIONS[state][event]
        else:
            with pytest.raises(LocalProtocolError, match=f"is {state}: cannot {event}"):
                advance(record, event, "r")


def test_final_states_are_those_without_a_way_out_and_every_state_is_reached():
    assert {"done", "failed", "cancelled"} == FINAL
    reached = {state for row in TRANSITIONS.values() for state in row.values()}
    assert reached == set(TRANSITIONS) == set(RANK)


def test_resume_goes_back_to_the_checkpoint_in_a_new_generation():
    stopped = dataclasses.replace(
        HEAD, state="stopped", step=Step(812), checkpoint=Checkpoint(Step(600), (), ())
    )
    resumed = advance(stopped, "resume", "again")
    assert (resumed.state, resumed.generation, resumed.step) == ("waiting", 2, 600)
    assert resumed.checkpoint == stopped.checkpoint
    assert resumed.captain == "" and resumed.members == () and resumed.ring == NO_RING_NAME


def test_a_later_checkpoint_survives_a_later_state():
    trained = dataclasses.replace(HEAD, state="training", checkpoint=Checkpoint(Step(3), (), ()))
    stopped = dataclasses.replace(HEAD, state="stopped")
    assert merge(trained, stopped).checkpoint.step == 3
    assert merge(trained, stopped).state == "stopped"


def test_a_stopped_jobs_sentence_follows_a_checkpoint_that_completes_later():
    slices = (SliceBlob(0, BLOBS[0]),)
    old, new = Checkpoint(Step(950), slices, ()), Checkpoint(Step(1000), slices, ())
    stopped = dataclasses.replace(HEAD, state="stopped", checkpoint=old)
    sentence = "desk-2 was lost; `meshd resume j` goes on from step"
    stopped = dataclasses.replace(stopped, reason=f"{sentence} 950")
    late = dataclasses.replace(HEAD, state="training", checkpoint=new, reason="trains")
    assert merge(stopped, late).reason == f"{sentence} 1000"
    assert merge(late, stopped) == merge(merge(stopped, late), stopped) == merge(stopped, late)


def test_the_id_names_the_head_and_nothing_else():
    head = (HEAD.spec, HEAD.data, HEAD.data_bytes, HEAD.submitter, HEAD.submitted_at)
    assert job_id(*head) == HEAD.job
    for changed in (
        (HEAD.spec + " ", *head[1:]),
        (HEAD.spec, BLOBS[1], *head[2:]),
        (*head[:2], 11, *head[3:]),
        (*head[:3], KEYS[1], HEAD.submitted_at),
        (*head[:4], 2.0),
    ):
        assert job_id(*changed) != HEAD.job
    assert check_record(dataclasses.replace(HEAD, state="done")).name == "j"


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"job": JobId("00" * 16)}, "not the digest of its head"),
        ({"spec": "{}"}, "name: needs"),
        ({"data_bytes": 11}, "not the digest of its head"),
        ({"submitted_at": float("nan")}, "not the digest of its head"),
        ({"state": "flying"}, "unknown state"),
        ({"generation": Generation(0)}, "generation 0 is out of bounds"),
        ({"generation": Generation(2**40)}, "is out of bounds"),
        ({"reason": "two\nlines"}, "not one line"),
        ({"reason": "x" * 1001}, "not one line"),
        ({"step": Step(-1)}, "negative steps"),
        ({"members": (RingMember(KEYS[0], "a", "h", 1),) * 2}, "or one twice"),
        ({"state": "training", "captain": KEYS[0]}, "without captain or members"),
        ({"ring": RingName(Generation(1), MachineKey(""))}, "a ring without its captain"),
        (
            {"checkpoint": Checkpoint(Step(1), (SliceBlob(1, BLOBS[0]),), ())},
            "checkpoint lacks a slice",
        ),
        (
            {
                "checkpoint": Checkpoint(
                    Step(1), (), (CarriedBlob(KEYS[1], BLOBS[0]), CarriedBlob(KEYS[0], BLOBS[0]))
                )
            },
            "not in order",
        ),
    ],
)
def test_a_record_that_breaks_a_rule_is_refused(changes, what):
    with pytest.raises(RemoteProtocolError, match=what) as caught:
        check_record(dataclasses.replace(HEAD, **changes))
    assert caught.value.code == "bad-record"


def test_data_without_a_byte_or_with_too_many_is_refused():
    for size in (0, 2**37):
        record = new_record(HEAD.spec, HEAD.data, size, HEAD.submitter, 1.0)
        with pytest.raises(RemoteProtocolError, match=f"data of {size} bytes"):
            check_record(record)


def test_two_heads_with_one_id_do_not_merge():
    other = dataclasses.replace(HEAD, data=BLOBS[1])
    with pytest.raises(RemoteProtocolError, match="two jobs claim"):
        merge(HEAD, other)
