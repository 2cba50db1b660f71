"""One bit a hop: balance, a second implementation, aborted steps, broken peers."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.bits import ops
from meshd.core.ring.replica import BadPayloadError
from meshd.core.ring.route import Phase
from meshd.train.scale_code import decode_scales, encode_scales

sys.path.insert(0, str(Path(__file__).parent))
from bare_ring import BareRing, job, leave_behind

MEMBERS = st.sampled_from([1, 2, 3, 5])
SEED = st.integers(0, 2**32 - 1)


def decided(ring: BareRing) -> np.ndarray:
    """What the running step's decisions say of each element, bit by bit; padding is 0."""
    gamma = ring.holdings[0].parameters.slice_map.gamma
    said = np.zeros(ring.holdings[0].parameters.slice_map.padded)
    for holding in ring.holdings:
        for chunk, payload in holding.staged.decisions.items():
            own, at = holding._chunks[chunk], 0
            bits = np.unpackbits(
                np.frombuffer(payload, np.uint8, own.length // 8), bitorder="little"
            )
            scales = decode_scales(np.frombuffer(payload, np.uint8, offset=own.length // 8))
            values = np.repeat(scales, gamma) * (2.0 * bits - 1.0)
            for start, stop in own.runs:
                said[start:stop] = values[at : at + stop - start]
                at += stop - start
    said[~holding.parameters.real_places()] = 0.0
    return said


@settings(max_examples=15, deadline=None)
@given(MEMBERS, SEED, st.sampled_from([1e-5, 1e-2, 1.0]))
def test_said_and_carried_are_what_was_wanted(members: int, seed: int, size: float) -> None:
    ring = BareRing(job("onebit"), members)
    for number in range(3):
        ring.begin(seed + number, size)
        wanted = ring.wanted()
        ring.open()
        ring.deliver()
        said = decided(ring)
        for holding in ring.holdings:
            holding.commit()
        carried = sum(holding.carried.astype(np.float64) for holding in ring.holdings)
        largest = max(np.abs(own).max() for own in wanted)
        assert np.abs(sum(wanted) - said - carried).max() <= 4 * members**2 * 2.0**-24 * largest
        assert np.abs(said).max() > 0


@settings(max_examples=10, deadline=None)
@given(MEMBERS, SEED)
def test_hops_are_those_of_the_text(members: int, seed: int) -> None:
    """t = s + v, A = mean |t| in a byte, s = A sign(t), e = t - s, slice by slice."""
    ring = BareRing(job("onebit"), members)
    ring.step(seed)
    ring.begin(seed + 1)
    wanted = [own.astype(np.float32) for own in ring.wanted()]
    expected = [np.zeros_like(own) for own in wanted]
    said = np.zeros_like(wanted[0])
    for part in ring.holdings[0].slices:
        place = slice(part.offset, part.offset + part.size)
        total = np.zeros(part.size, np.float32)
        for hop in range(1, members + 1):
            rank = (ring.plan.owners[part.index] + hop) % members
            total = total + wanted[rank][place]
            means = ops.segment_means(total[None, :], 64)[0]
            scale = np.repeat(decode_scales(encode_scales(means)), 64)[: part.size]
            new = np.where(total >= 0, scale, -scale)
            expected[rank][place] = total - new
            total = new
        said[place] = total
    ring.open()
    ring.deliver()
    np.testing.assert_array_equal(decided(ring), said)
    for holding in ring.holdings:
        holding.commit()
    for holding, error in zip(ring.holdings, expected, strict=True):
        np.testing.assert_array_equal(holding.carried, error)


@pytest.mark.parametrize("copies", [1, 2, 3])
@pytest.mark.parametrize("members", [1, 2, 3, 5])
def test_members_hold_the_same_weights(members: int, copies: int) -> None:
    ring = BareRing(job("onebit", copies=copies), members)
    first = ring.weights(ring.holdings[0])
    for seed in range(4):
        ring.step(seed)
    assert ring.weights(ring.holdings[0]) != first
    for holding in ring.holdings:
        assert ring.weights(holding) == ring.weights(ring.holdings[0])


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([2, 3, 5]), SEED, st.integers(0, 400))
def test_an_aborted_step_never_was(members: int, seed: int, frames: int) -> None:
    ring, other = (BareRing(job("onebit"), members) for _ in range(2))
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


@pytest.mark.parametrize("members", [2, 3, 5])
def test_who_was_left_behind_catches_up(members: int) -> None:
    ring, other = (BareRing(job("onebit"), members) for _ in range(2))
    for one in (ring, other):
        one.step(1)
    other.step(2)
    ring.begin(2)
    ring.open()
    leave_behind(ring, 0)
    assert ring.state() == other.state()


@settings(max_examples=20, deadline=None)
@given(SEED, st.sampled_from(list(Phase)[:3]), st.sampled_from([-1, 1, 64]))
def test_payloads_of_another_length_are_refused(seed: int, phase: Phase, more: int) -> None:
    ring = BareRing(job("onebit"), 3)
    ring.step(seed)
    before = ring.state()
    ring.begin(seed + 1)
    ring.open()
    while ring.frames[0][1].phase is not phase:
        ring.deliver(1)
    sender, frame = ring.frames[0]
    payload = bytes(frame.payload)[:more] if more < 0 else bytes(frame.payload) + bytes(more)
    with pytest.raises(BadPayloadError):
        ring.steps[frame.to].receive(sender, frame.phase, frame.chunk, frame.hop, payload)
    for holding in ring.holdings:
        holding.abort()
    assert ring.state() == before


def test_padding_is_never_carried() -> None:
    ring = BareRing(job("onebit", width=21), 3)
    for seed in range(3):
        ring.step(seed)
    for holding in ring.holdings:
        real = holding.parameters.real_places()
        assert (~real).any()
        assert not holding.carried[~real].any()
