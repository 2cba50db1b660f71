"""The kernel's Adam is the numpy one, bit for bit: results do not depend on which of them ran."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshd.bits import layout, ops, reference
from meshd.core.slices import SliceMap, TensorShape, cut_slices, own_regions
from meshd.train.chunk import Chunk
from meshd.train.optimizer import (
    AdamSchedule,
    SliceState,
    SliceVotes,
    adam_update,
    adam_votes,
    adam_votes_dense,
)


@pytest.fixture(params=ops.list_isas(), autouse=True)
def isa(request: pytest.FixtureRequest) -> Iterator[None]:
    before = ops.isa()
    ops.use_isa(request.param)
    yield
    ops.use_isa(before)


each_example = settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
seeds = st.integers(0, 2**32 - 1)


def drawn_votes(rng: np.random.Generator, n: int, members: int, gamma: int) -> SliceVotes:
    planes = np.zeros((layout.plane_count(members), layout.words(n)), np.uint64)
    for voter in reference.pack_bits(rng.integers(0, 2, (members, n), np.uint8)):
        reference.planes_add(planes, voter)
    scale = np.abs(rng.standard_normal(layout.segments(n, gamma), np.float32)) * np.float32(1e-3)
    return SliceVotes(planes, members, scale, gamma)


def gradient_of(votes: SliceVotes, n: int) -> np.ndarray:
    return reference.apply_votes(votes.planes, votes.members, votes.scale, votes.gamma, n)


def same_state(a: SliceState, b: SliceState) -> None:
    for name in ("latents", "first", "second"):
        assert getattr(a, name).tobytes() == getattr(b, name).tobytes(), name


@each_example
@given(
    seed=seeds,
    rows=st.integers(1, 5),
    columns=st.integers(1, 150),
    beta=st.sampled_from([1, 16, 50, 64, 200]),
    members=st.integers(1, 20),
    cut=st.sampled_from([0.05, 0.2, 1.0]),
)
def test_a_binary_slice_moves_as_in_numpy(
    seed: int, rows: int, columns: int, beta: int, members: int, cut: float
) -> None:
    rng = np.random.default_rng(seed)
    n = rows * columns
    state = SliceState.begin(rng.standard_normal(n, np.float32) * np.float32(0.1))
    wanted = copy.deepcopy(state)
    schedule = AdamSchedule(3e-3, "linear", 5)
    for step in range(5):
        votes = drawn_votes(rng, n, members, 64)
        words, scales = adam_votes(state, votes, schedule.at(step), columns, cut, beta)
        adam_update(wanted, gradient_of(votes, n), schedule.at(step), cut)
        same_state(state, wanted)
        packed = reference.pack_signed(wanted.latents.reshape(rows, columns), beta)
        assert words.tobytes() == packed[0].tobytes()
        assert scales.tobytes() == packed[1].tobytes()


@each_example
@given(seed=seeds, n=st.integers(1, 700), members=st.integers(1, 20))
def test_a_dense_slice_moves_as_in_numpy(seed: int, n: int, members: int) -> None:
    rng = np.random.default_rng(seed)
    state = SliceState.begin(rng.standard_normal(n, np.float32))
    wanted = copy.deepcopy(state)
    schedule = AdamSchedule(1e-2, "constant", 4)
    for step in range(4):
        votes = drawn_votes(rng, n, members, 128)
        adam_votes_dense(state, votes, schedule.at(step))
        adam_update(wanted, gradient_of(votes, n), schedule.at(step), None)
        same_state(state, wanted)


def chunks_of(slice_map: SliceMap, members: int) -> list[Chunk]:
    return [Chunk(region, slice_map) for region in own_regions(slice_map, members)]


def test_a_slices_votes_are_its_part_of_the_chunks() -> None:
    """Cut out of the chunk's planes and scales, or aggregated whole and cut then: the same."""
    rng = np.random.default_rng(5)
    tensors = [TensorShape("a", 1, 777, 0), TensorShape("b", 31, 70, 32)]
    slice_map = cut_slices(tensors, 64)
    for chunk in chunks_of(slice_map, 3):
        whole = drawn_votes(rng, chunk.length, 3, 64)
        aggregate = gradient_of(whole, chunk.length)
        for part in chunk.slices:
            votes = chunk.votes_on(part, whole.planes, whole.scale, 3)
            start = part.offset - chunk.region.start
            wanted = aggregate[start : start + part.size]
            assert gradient_of(votes, part.size).tobytes() == wanted.tobytes()
