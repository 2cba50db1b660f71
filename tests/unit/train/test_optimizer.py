"""Votes and floats move latents alike, bit for bit; and as PyTorch's optimizers would."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshd.bits import layout, ops, reference
from meshd.core.jobspec import TrainingSpec
from meshd.core.slices import TensorShape, cut_slices
from meshd.train.chunk import Chunk
from meshd.train.optimizer import Matrix, Optimizer, SliceState, SliceVotes
from meshd.train.schedule import LearningRate


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


def optimizer(name: str, steps: int, **settings: object) -> Optimizer:
    training = TrainingSpec(optimizer=name, **settings)
    return Optimizer(training, LearningRate(training, steps, steps))


def same_state(a: SliceState, b: SliceState) -> None:
    for one, other in zip((a.latents, *a.moments), (b.latents, *b.moments), strict=True):
        assert one.tobytes() == other.tobytes()


@each_example
@given(
    name=st.sampled_from(["adam", "sgd"]),
    seed=seeds,
    rows=st.integers(1, 5),
    columns=st.integers(1, 150),
    beta=st.sampled_from([1, 16, 50, 64, 200]),
    members=st.integers(1, 20),
    cut=st.sampled_from([None, 0.05, 0.2, 1.0]),
    clip=st.sampled_from([0.0, 0.1, 0.25]),
)
def test_a_binary_slice_moves_by_votes_as_by_floats(
    name: str,
    seed: int,
    rows: int,
    columns: int,
    beta: int,
    members: int,
    cut: float | None,
    clip: float,
) -> None:
    rng = np.random.default_rng(seed)
    n = rows * columns
    moves = optimizer(name, 5, learning_rate=3e-2, clip=clip)
    latents = rng.standard_normal(n, np.float32) * np.float32(0.1)
    state = SliceState.begin(latents, moves.moments)
    wanted = copy.deepcopy(state)
    matrix = Matrix(columns, beta, cut, clip)
    for step in range(5):
        votes, rule = drawn_votes(rng, n, members, 64), moves.at(step)
        words, scales = rule.move_by_votes(state, votes, matrix)
        by_floats = rule.move(wanted, gradient_of(votes, n), matrix)
        same_state(state, wanted)
        packed = reference.pack_signed(wanted.latents.reshape(rows, columns), beta)
        for got in ((words, scales), by_floats):
            assert got[0].tobytes() == packed[0].tobytes()
            assert got[1].tobytes() == packed[1].tobytes()
        assert not clip or np.abs(state.latents).max() <= np.float32(clip)


@each_example
@given(
    name=st.sampled_from(["adam", "sgd"]),
    seed=seeds,
    n=st.integers(1, 700),
    members=st.integers(1, 20),
)
def test_a_dense_slice_moves_by_votes_as_by_floats(
    name: str, seed: int, n: int, members: int
) -> None:
    rng = np.random.default_rng(seed)
    moves = optimizer(name, 4, learning_rate=1e-2, schedule="constant", clip=0.1)
    state = SliceState.begin(rng.standard_normal(n, np.float32), moves.moments)
    wanted = copy.deepcopy(state)
    for step in range(4):
        votes, rule = drawn_votes(rng, n, members, 128), moves.at(step)
        rule.move_dense_by_votes(state, votes)
        rule.move_dense(wanted, gradient_of(votes, n))
        same_state(state, wanted)
    assert np.abs(state.latents).max() > 0.1 or n < 20, "dense parameters are not clipped"


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_as_pytorchs_optimizers_move(name: str) -> None:
    """Ours round each operation on its own, PyTorch's may not: equal to some float32 places."""
    rng = np.random.default_rng(3)
    start = rng.standard_normal(500, np.float32)
    theirs = torch.nn.Parameter(torch.from_numpy(start.copy()))
    if name == "adam":
        reference_optimizer: torch.optim.Optimizer = torch.optim.Adam([theirs], lr=1e-2)
    else:
        reference_optimizer = torch.optim.SGD([theirs], lr=1e-2, momentum=0.8)
    moves = optimizer(name, 30, learning_rate=1e-2, momentum=0.8, schedule="constant")
    state = SliceState.begin(start.copy(), moves.moments)
    for step in range(30):
        gradient = rng.standard_normal(500, np.float32)
        theirs.grad = torch.from_numpy(gradient.copy())
        reference_optimizer.step()
        moves.at(step).move_dense(state, gradient)
    np.testing.assert_allclose(state.latents, theirs.detach().numpy(), rtol=2e-5, atol=2e-6)
    assert np.abs(state.latents - start).max() > 0.05


def test_beyond_the_cut_a_latent_moves_by_momentum_alone() -> None:
    moves = optimizer("sgd", 2, learning_rate=0.1, schedule="constant")
    state = SliceState.begin(np.float32([0.5, 2.0]), moves.moments)
    moves.at(0).move(state, np.ones(2, np.float32), Matrix(2, 2, 1.0))
    assert state.latents.tolist() == [np.float32(0.4), 2.0]


def test_a_slices_votes_are_its_part_of_the_chunks() -> None:
    """Cut out of the chunk's planes and scales, or aggregated whole and cut then: the same.

    A chunk's slices lie in the flat vector as they come, in one run or many."""
    rng = np.random.default_rng(5)
    tensors = [TensorShape("a", 1, 777, 0), TensorShape("b", 31, 70, 32)]
    slices = cut_slices(tensors, 64).slices
    assert len(slices) > 7
    for picked in (slices[:3], slices[3:], slices[2::3], (slices[0],)):
        chunk = Chunk(picked, 64)
        whole = drawn_votes(rng, chunk.length, 3, 64)
        aggregate = gradient_of(whole, chunk.length)
        start = 0
        for part in chunk.slices:
            votes = chunk.votes_on(part, whole.planes, whole.scale, 3)
            wanted = aggregate[start : start + part.size]
            assert gradient_of(votes, part.size).tobytes() == wanted.tobytes()
            assert chunk.slice_of(part, aggregate).tobytes() == wanted.tobytes()
            start += part.padded
