"""The exchange on a ring equals one process that simulates the same shares, bit for bit."""

from __future__ import annotations

import copy
import functools
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from meshd.bits import reference
from meshd.core.jobspec import parse_spec
from meshd.core.ring.route import Phase
from meshd.data.dataset import Dataset
from meshd.hbnn.export import weight_hash
from meshd.train.chunk import Chunk
from meshd.train.collective import Frame
from meshd.train.delta import PackedSlice, encode_weights
from meshd.train.errors import RingBrokenError, TrainingError
from meshd.train.scale_code import decode_scales
from meshd.train.trainer import Trainer

sys.path.insert(0, str(Path(__file__).parent))
from oracle import Simulation
from rings import begun, ring_of, run_members, tamper

SEED = 20_261_123
STEPS = 50


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small_data(samples: int = 101, inputs: int = 37, classes: int = 5) -> Dataset:
    """Noisy clusters: odd sizes, so that every kind of padding and a short last batch occur."""
    generator = np.random.default_rng(SEED)
    centres = generator.integers(0, 200, (classes, inputs))
    y = generator.integers(0, classes, samples)
    y[:classes] = np.arange(classes)
    x = np.clip(centres[y] + generator.normal(0, 20, (samples, inputs)), 0, 255).astype(np.uint8)
    return Dataset(x, y, x[:20], y[:20], classes, np.float32(1 / 255))


def job(kind: str = "votes", epochs: int = 8, batch: int = 16, training=None, **mesh: int):
    print(f"seed {SEED}")
    return parse_spec(
        {
            "name": "test",
            "network": {"width": 70, "beta_w": 16, "beta_a": 16},
            "training": {
                "epochs": epochs,
                "batch": batch,
                "learning_rate": 1e-2,
                "seed": SEED,
                "checkpoint_steps": 10,
                **(training or {}),
            },
            "exchange": {"kind": kind, "gamma": 64},
            "mesh": mesh,
        }
    )


def latents_of(trainer: Trainer) -> dict[int, np.ndarray]:
    return {index: state.latents for index, state in trainer.holding.states.items()}


def owners_of(trainers: list[Trainer]) -> tuple[int, ...]:
    """Of each slice the rank of its owner: all members must know the same."""
    owners = {trainer._collective.plan.owners for trainer in trainers}
    assert len(owners) == 1
    return owners.pop()


@functools.cache
def simulated(kind: str, members: int, owners: tuple[int, ...]) -> Simulation:
    """STEPS steps in one process; how many copies of a slice there are must not matter."""
    simulation = Simulation(job(kind), small_data(), members)
    for step in range(STEPS):
        simulation.step(step, owners)
    return simulation


def same_as(simulation: Simulation, trainers: list[Trainer]) -> None:
    """Weights, latents, moments and carried errors, bit for bit."""
    wanted = weight_hash(simulation.net)
    assert [weight_hash(trainer.net) for trainer in trainers] == [wanted] * len(trainers)
    for rank, trainer in enumerate(trainers):
        assert trainer.holding.states.keys() == set(trainer._collective.plan.held_by(rank))
        for index, state in trainer.holding.states.items():
            other = simulation.states[index]
            assert state.latents.tobytes() == other.latents.tobytes()
            for got, moment in zip(state.moments, other.moments, strict=True):
                assert got.tobytes() == moment.tobytes()
        real = trainer.parameters.real_places()
        carried = simulation.carried_of(simulation.order[rank])
        assert trainer.holding.carried_error().tobytes() == carried[real].tobytes()
        assert not trainer.holding.carried[~real].any()


@pytest.mark.parametrize("copies", [1, 2, 3])
@pytest.mark.parametrize("members", [1, 2, 3, 5, 8])
def test_ring_equals_single_process_bit_for_bit(members: int, copies: int) -> None:
    trainers = begun(job(copies=copies, members_max=8), small_data(), members)
    simulation = simulated("votes", members, owners_of(trainers))
    run_members(trainers, STEPS)
    same_as(simulation, trainers)


@pytest.mark.parametrize("kind", ["direct", "onebit"])
@pytest.mark.parametrize(("members", "copies"), [(2, 1), (3, 2), (5, 3)])
def test_the_other_exchanges_equal_single_process(kind: str, members: int, copies: int) -> None:
    trainers = begun(job(kind, copies=copies), small_data(), members)
    simulation = simulated(kind, members, owners_of(trainers))
    run_members(trainers, STEPS)
    same_as(simulation, trainers)


@pytest.mark.parametrize("members", [1, 2, 3])
@pytest.mark.parametrize(
    "training",
    [
        {"optimizer": "sgd", "schedule": "cosine", "warmup": 4},
        {"optimizer": "sgd", "schedule": "step", "step_epochs": 1, "clip": 0.1},
        {"optimizer": "adam", "schedule": "cosine", "final_rate": 0.0, "clip": 0.05},
    ],
    ids=lambda training: f"{training['optimizer']}-{training['schedule']}",
)
def test_every_optimizer_is_the_single_processs_bit_for_bit(training: dict, members: int) -> None:
    data, spec = small_data(), job(training=training, epochs=2)
    trainers = begun(spec, data, members)
    simulation = Simulation(spec, data, members)
    for step in range(12):
        simulation.step(step, owners_of(trainers))
    run_members(trainers, 12)
    same_as(simulation, trainers)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_float32_members_agree_with_every_optimizer(optimizer: str) -> None:
    spec = job("float32", training={"optimizer": optimizer, "clip": 0.1, "backward": "int8"})
    trainers = begun(spec, small_data(), 3)
    run_members(trainers, 8)
    assert len({weight_hash(trainer.net) for trainer in trainers}) == 1


def test_oracle_notices_a_changed_bit() -> None:
    """The comparison above can fail: one flipped vote gives another network."""
    data, spec = small_data(), job()
    simulation = Simulation(spec, data, 3)
    owners = [0] * len(simulation.states)
    before = weight_hash(simulation.net)
    simulation.carried_of("000001")[:64] += np.float32(0.5)
    simulation.step(0, owners)
    other = Simulation(spec, data, 3)
    other.step(0, owners)
    assert before != weight_hash(other.net) != weight_hash(simulation.net)


@pytest.mark.parametrize("members", [1, 2, 3, 5])
def test_float32_members_agree_and_follow_the_whole_batch(members: int) -> None:
    data, spec = small_data(), job("float32")
    trainers = begun(spec, data, members)
    run_members(trainers, STEPS)
    assert len({weight_hash(trainer.net) for trainer in trainers}) == 1
    alone = ring_of(spec, data, 1)
    alone[0].begin()
    run_members(alone, 3)
    few = begun(spec, data, members)
    run_members(few, 3)
    for index, latents in latents_of(few[0]).items():
        np.testing.assert_allclose(latents, latents_of(alone[0])[index], rtol=0, atol=2e-2)


@pytest.mark.parametrize("kind", ["votes", "direct"])
def test_carried_error_is_what_was_not_said(kind: str) -> None:
    """sent + carried = input, member by member, up to one rounding of each element and step; and
    what all sent together is what the latents were moved by."""
    trainers = begun(job(kind), small_data(), 3)
    size = trainers[0].parameters.slice_map.padded
    inputs, said = np.zeros((3, size)), np.zeros((3, size))
    decided = np.zeros(size)
    for rank, trainer in enumerate(trainers):
        watch(trainer, inputs[rank], said[rank], decided)
    run_members(trainers, STEPS)
    for rank, trainer in enumerate(trainers):
        real = trainer.parameters.real_places()
        balance = said[rank] + trainer.holding.carried - inputs[rank]
        assert np.abs(balance[real]).max() < 1e-4
        assert np.abs(said[rank][real]).max() > 1e-2
    left = sum(trainer.holding.carried for trainer in trainers)
    assert np.abs((decided + left - inputs.sum(axis=0))[real]).max() < 1e-4


def watch(trainer: Trainer, inputs: np.ndarray, said: np.ndarray, decided: np.ndarray) -> None:
    """Add up a member's weighted gradients, what it said, and what its chunks were moved by."""
    holding, parameters = trainer.holding, trainer.parameters
    before = np.zeros_like(inputs)
    commit, decide = holding.commit, holding.decide

    def committing() -> None:
        gradient = np.zeros(len(inputs), np.float32)
        parameters.copy_gradient(0, len(gradient), holding.weight, gradient)
        inputs[:] += gradient
        commit()
        said[:] += gradient + before - holding.carried
        before[:] = holding.carried

    def deciding(chunk: int, payload: bytes) -> bytes:
        own = Chunk(holding.parts(chunk), 64)
        planes, codes = own.unpack(payload, holding.members)
        total = decode_scales(codes) * np.float32(holding.members)
        for part in own.slices:
            votes = own.votes_on(part, planes, total, holding.members)
            numbers = votes.planes, votes.members, votes.scale, votes.gamma
            decided[part.offset : part.offset + part.size] += reference.apply_votes(
                *numbers, part.size
            )
        return decide(chunk, payload)

    holding.commit, holding.decide = committing, deciding


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("kind", ["votes", "direct", "onebit", "float32"])
def test_resumed_run_equals_uninterrupted_one(kind: str, optimizer: str) -> None:
    """States and carried errors are all there is: going on from step 20 changes nothing."""
    data, spec = small_data(), job(kind, training={"optimizer": optimizer})
    whole = begun(spec, data, 3)
    run_members(whole, 20)
    states = {}
    for trainer in whole:
        states.update(trainer.holding.states)
    copied = copy.deepcopy(states)
    carried = [trainer.holding.carried_error().copy() for trainer in whole]
    assert sorted(copied) == list(range(len(whole[0].parameters.slice_map.slices)))
    run_members(whole, 20, first=20)
    resumed = ring_of(spec, data, 3)
    for trainer, error in zip(resumed, carried, strict=True):
        # each member reads files of its own
        trainer.resume(copy.deepcopy(copied), error if error.size else None, step=20)
    run_members(resumed, 20, first=20)
    assert {weight_hash(t.net) for t in whole} == {weight_hash(t.net) for t in resumed}


@pytest.mark.parametrize("kind", ["votes", "float32"])
def test_divergence_is_said_not_hidden(kind: str) -> None:
    trainer = ring_of(job(kind), small_data(), 1)[0]
    trainer.begin()
    for tensor in trainer.net.parameters():
        tensor.grad = torch.full_like(tensor, torch.inf)
    with pytest.raises(TrainingError, match="diverged at step 0"):
        trainer._collective.begin()
        for bucket in range(max(trainer.holding.buckets) + 1):
            trainer._collective.opened(bucket)


def test_latents_beyond_float16_are_divergence() -> None:
    trainer = ring_of(job(), small_data(), 1)[0]
    trainer.begin()
    part = next(part for part in trainer.parameters.slice_map.slices if part.binary)
    with pytest.raises(TrainingError, match="diverged: weights of"):
        trainer.parameters.set_from_latents(part, np.full(part.size, 1e6, np.float32))


def impossible_votes(payload: bytes, trainer: Trainer, chunk: int) -> bytes:
    """Every count is 7 of 4 members."""
    codes = Chunk(trainer.holding.parts(chunk), 64).segments
    return b"\xff" * (len(payload) - codes) + payload[-codes:]


def cut_short(payload: bytes, trainer: Trainer, chunk: int) -> bytes:
    return payload[:-1]


def set_padding(payload: bytes, trainer: Trainer, chunk: int) -> bytes:
    """Weights whose padding bits are set; rows have 70 of 128 bits."""
    holding = trainer.holding
    parts = holding.parts(chunk)
    ones = []
    for part in parts:
        packed = holding.packed_slice(part, holding.parameters.packed_of(part))
        words = np.full_like(packed.words, 2**64 - 1)
        ones.append(PackedSlice(words, packed.codes, packed.columns))
    return payload[: Chunk(parts, 64).segments] + encode_weights(ones, None).payload


def other_weights(payload: bytes, trainer: Trainer, chunk: int) -> bytes:
    """A difference against weights that the receiver does not have."""
    holding = trainer.holding
    parts = holding.parts(chunk)
    new, last = [], []
    for part in parts:
        packed = holding.packed_slice(part, holding.parameters.packed_of(part))
        new.append(packed)
        last.append(PackedSlice(packed.words, packed.codes ^ np.uint16(1), packed.columns))
    return payload[: Chunk(parts, 64).segments] + encode_weights(new, last).payload


def gap(payload: bytes, trainer: Trainer, chunk: int) -> bytes:
    return b""


@pytest.mark.parametrize(
    ("phase", "harm", "said"),
    [
        (Phase.REDUCE, cut_short, "are no votes of [123] on this chunk"),
        (Phase.REDUCE, gap, "0 bytes are no votes of"),
        (Phase.DECISION, impossible_votes, "impossible votes"),
        (Phase.DECISION, cut_short, "are no votes of 4 on this chunk"),
        (Phase.FINISHED, set_padding, "bits behind the end of a row"),
        (Phase.FINISHED, other_weights, "damaged, or a difference against other ones"),
        (Phase.FINISHED, cut_short, "do not decompress|are no votes"),
        (Phase.FINISHED, gap, "0 bytes are no"),
    ],
)
def test_a_peer_that_sends_rubbish_breaks_the_ring_by_name(phase, harm, said: str) -> None:
    """Impossible counts or weights blame who sent them, not who noticed."""
    trainers = begun(job(copies=2), small_data(), 4)
    victim = trainers[1]

    def change(frame: Frame) -> bytes:
        _, _, came, chunk, _, payload = frame
        binary = victim.holding.parts(chunk)[0].binary
        weights = harm in (set_padding, other_weights)
        return harm(payload, victim, chunk) if came is phase and binary >= weights else payload

    tamper(victim, change)
    with pytest.raises(RingBrokenError, match=f"a member sent what cannot be: .*{said}"):
        run_members(trainers, 1)


def test_numbers_that_are_not_finite_are_refused_in_a_float32_ring() -> None:
    trainers = begun(job("float32"), small_data(), 3)
    tamper(trainers[1], lambda frame: frame[-1][:-4] + np.float32(np.inf).tobytes())
    with pytest.raises(RingBrokenError, match="cannot be: state with numbers that are not finite"):
        run_members(trainers, 1)
