"""Rounds of local steps: balance, one reference, undone rounds, samples used once, broken peers."""

from __future__ import annotations

import copy
import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.core.errors import UsageError
from meshd.core.ring.replica import BadPayloadError
from meshd.core.ring.route import Phase
from meshd.hbnn.export import weight_hash
from meshd.train.local_steps import LocalSteps
from meshd.train.trainer import CheckpointDue, Evaluated, Stepped, Trainer

sys.path.insert(0, str(Path(__file__).parent))
from bare_ring import BareRing, job, leave_behind, small_data
from rings import ring_of, run_members

KINDS = st.sampled_from(["votes", "direct", "onebit"])
MEMBERS = st.sampled_from([1, 2, 3, 5])
SEED = st.integers(0, 2**32 - 1)


def latents(holding: LocalSteps) -> np.ndarray:
    """The reference as a flat vector, float64, padding 0."""
    found = np.zeros(holding.parameters.slice_map.padded)
    for part in holding.slices:
        found[part.offset : part.offset + part.size] = holding.states[part.index].latents
    return found


@settings(max_examples=20, deadline=None)
@given(KINDS, MEMBERS, SEED)
def test_the_references_change_and_the_errors_are_all_changes(
    kind: str, members: int, seed: int
) -> None:
    ring = BareRing(job(kind, 4), members)
    for number in range(3):
        ring.begin(seed + number)
        wanted, before = sum(ring.wanted()), latents(ring.holdings[0])
        ring.open()
        ring.deliver()
        for holding in ring.holdings:
            holding.commit()
        moved = latents(ring.holdings[0]) - before
        carried = sum(holding.carried.astype(np.float64) for holding in ring.holdings)
        # The reference is rounded once, at its own size; each hop and error at the changes'.
        assert np.abs(wanted - moved - carried).max() < 2e-7 * (
            1 + members**2 * np.abs(wanted).max()
        )
        assert np.abs(moved).max() > 1e-4


@pytest.mark.parametrize("kind", ["votes", "direct", "onebit"])
@pytest.mark.parametrize("members", [1, 2, 3, 5])
def test_members_agree_after_every_round(kind: str, members: int) -> None:
    spec = job(kind, 3, epochs=2)
    trainers = ring_of(spec, small_data(), members)
    for trainer in trainers:
        trainer.begin()
    first = weight_hash(trainers[0].net)
    run_members(trainers, 4)
    assert {weight_hash(trainer.net) for trainer in trainers} != {first}
    assert len({weight_hash(trainer.net) for trainer in trainers}) == 1
    assert len({latents(trainer.holding).tobytes() for trainer in trainers}) == 1


@settings(max_examples=15, deadline=None)
@given(KINDS, st.sampled_from([2, 3, 5]), SEED, st.integers(0, 300))
def test_an_undone_round_never_was(kind: str, members: int, seed: int, frames: int) -> None:
    ring, other = (BareRing(job(kind, 4), members) for _ in range(2))
    for one in (ring, other):
        one.step(seed)
    before = ring.state()
    ring.begin(seed + 1)
    ring.open()
    ring.deliver(frames)
    for holding in ring.holdings:
        holding.abort()
    assert ring.state() == before
    for one in (ring, other):
        one.step(seed + 2)
    assert ring.state() == other.state() != before


@pytest.mark.parametrize("kind", ["votes", "onebit"])
def test_who_was_left_behind_catches_up(kind: str) -> None:
    """Its moments too: they are those of its own round."""
    ring, other = (BareRing(job(kind, 4), 3) for _ in range(2))
    for one in (ring, other):
        one.step(1)
    other.step(2)
    ring.begin(2)
    ring.open()
    leave_behind(ring, 0)
    assert ring.state() == other.state()


@settings(max_examples=10, deadline=None)
@given(KINDS, SEED, st.sampled_from(list(Phase)[:2]), st.sampled_from([-1, 1, 64]))
def test_payloads_of_another_length_are_refused(
    kind: str, seed: int, phase: Phase, more: int
) -> None:
    ring = BareRing(job(kind, 4), 3)
    ring.begin(seed)
    ring.open()
    while ring.frames[0][1].phase is not phase:
        ring.deliver(1)
    sender, frame = ring.frames[0]
    payload = bytes(frame.payload)[:more] if more < 0 else bytes(frame.payload) + bytes(more)
    with pytest.raises(BadPayloadError):
        ring.steps[frame.to].receive(sender, frame.phase, frame.chunk, frame.hop, payload)
        ring.deliver()  # direct: parts are read when all are there


def test_impossible_counts_are_refused() -> None:
    """Two planes hold up to 3 votes, of 2 members."""
    ring = BareRing(job("votes", 4), 2)
    ring.begin(1)
    ring.open()
    while ring.frames[0][1].phase is not Phase.DECISION:
        ring.deliver(1)
    sender, frame = ring.frames[0]
    holding = ring.holdings[frame.to]
    segments = holding._chunks[frame.chunk].segments
    payload = b"\xff" * (len(frame.payload) - segments) + bytes(frame.payload)[-segments:]
    with pytest.raises(BadPayloadError, match="impossible votes"):
        ring.steps[frame.to].receive(sender, frame.phase, frame.chunk, frame.hop, payload)


def test_every_sample_is_used_once_an_epoch_and_events_fall_on_rounds(monkeypatch) -> None:
    """101 samples, batches of 16: 7 an epoch, rounds of 3, 3 and 1, the last one of 5 samples."""
    used: list[tuple[int, int]] = []
    compute = Trainer._compute

    def noted(trainer, picked, epoch):
        used.extend((epoch, int(sample)) for sample in picked)
        return compute(trainer, picked, epoch)

    monkeypatch.setattr(Trainer, "_compute", noted)
    trainers = ring_of(job("votes", 3, epochs=2, checkpoint_steps=6), small_data(), 3)
    for trainer in trainers:
        trainer.begin()
    events = run_members(trainers, 100)[0]
    assert sorted(used) == [(epoch, sample) for epoch in (0, 1) for sample in range(101)]
    assert [e.step for e in events if isinstance(e, Stepped)] == [1, 2, 3, 4, 5, 6]
    assert [e.step for e in events if isinstance(e, Evaluated)] == [3, 6]
    assert [e.step for e in events if isinstance(e, CheckpointDue)] == [2, 4]


def test_float32_takes_no_local_steps() -> None:
    with pytest.raises(UsageError, match="local_steps 4 is for exchanges in bits"):
        job("float32", 4)


# Design, section 5: bits a parameter and batch of the member that sends most, all slices binary.
FIGURES = {("votes", 1): 3.0, ("direct", 1): 1.7, ("onebit", 1): 1.4, ("votes", 16): 0.4}


@pytest.mark.parametrize(("kind", "steps"), FIGURES)
def test_bits_a_parameter(kind: str, steps: int) -> None:
    """Eight members; in the first steps of a job, these, the most weights flip."""
    table = job(kind, steps, width=512, batch=8, learning_rate=1e-3)
    network = dataclasses.replace(table.network, beta_w=64, beta_a=64, first="binary")
    data = small_data(samples=128, inputs=784)
    trainers = ring_of(dataclasses.replace(table, network=network), data, 8)
    for trainer in trainers:
        trainer.begin()
    batches = 12 if steps == 1 else steps
    run_members(trainers, batches // steps)
    parameters = trainers[0].parameters.slice_map.parameters
    sent = max(trainer._collective.bytes_sent for trainer in trainers)
    assert 8 * sent / parameters / batches <= FIGURES[kind, steps]


@pytest.mark.parametrize("kind", ["votes", "onebit"])
def test_a_resumed_run_is_the_uninterrupted_one(kind: str) -> None:
    """Reference, moments and carried errors are all there is at the end of a round."""
    spec = job(kind, 3, epochs=3)
    whole = ring_of(spec, small_data(), 3)
    for trainer in whole:
        trainer.begin()
    run_members(whole, 4)
    kept = [copy.deepcopy(trainer.holding.states) for trainer in whole]
    carried = [trainer.holding.carried_error().copy() for trainer in whole]
    run_members(whole, 3, first=4)
    resumed = ring_of(spec, small_data(), 3)
    for trainer, states, error in zip(resumed, kept, carried, strict=True):
        trainer.resume(states, error, step=4)
    run_members(resumed, 3, first=4)
    assert {weight_hash(t.net) for t in resumed} == {weight_hash(t.net) for t in whole}
