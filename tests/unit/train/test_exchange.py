"""The exchange on a ring equals one process that simulates the same shares, bit for bit."""

from __future__ import annotations

import copy
import functools
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from meshd.core.jobspec import parse_spec
from meshd.core.schedule import Phase
from meshd.data.dataset import Dataset
from meshd.hbnn.export import weight_hash
from meshd.train.errors import RingBrokenError, TrainingError
from meshd.train.trainer import Trainer

sys.path.insert(0, str(Path(__file__).parent))
from oracle import Simulation
from rings import ring_of, run_members

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
    return {index: state.latents for index, state in trainer.exchange.states.items()}


@functools.cache
def simulated(members: int) -> Simulation:
    """STEPS steps in one process; how many copies of a slice there are must not matter."""
    simulation = Simulation(job(), small_data(), members)
    for step in range(STEPS):
        simulation.step(step)
    return simulation


@pytest.mark.parametrize("copies", [1, 2, 3])
@pytest.mark.parametrize("members", [1, 2, 3, 5, 8])
def test_ring_equals_single_process_bit_for_bit(members: int, copies: int) -> None:
    data, spec = small_data(), job(copies=copies, members_max=8)
    simulation = simulated(members)
    trainers = ring_of(spec, data, members)
    for trainer in trainers:
        trainer.begin()
    run_members(trainers, STEPS)
    wanted = weight_hash(simulation.net)
    assert [weight_hash(trainer.net) for trainer in trainers] == [wanted] * members
    for trainer in trainers:
        for index, latents in latents_of(trainer).items():
            assert latents.tobytes() == simulation.states[index].latents.tobytes()
    for rank, trainer in enumerate(trainers):
        real = trainer.parameters.real_places()
        assert trainer.exchange.carried_error().tobytes() == (
            simulation.carried[rank][real].tobytes()
        )


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
    simulation = Simulation(spec, data, members)
    for step in range(12):
        simulation.step(step)
    trainers = ring_of(spec, data, members)
    for trainer in trainers:
        trainer.begin()
    run_members(trainers, 12)
    wanted = weight_hash(simulation.net)
    assert [weight_hash(trainer.net) for trainer in trainers] == [wanted] * members
    for trainer in trainers:
        for index, state in trainer.exchange.states.items():
            arrays = zip(state.moments, simulation.states[index].moments, strict=True)
            assert all(got.tobytes() == other.tobytes() for got, other in arrays)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_float32_members_agree_with_every_optimizer(optimizer: str) -> None:
    spec = job("float32", training={"optimizer": optimizer, "clip": 0.1, "backward": "int8"})
    trainers = ring_of(spec, small_data(), 3)
    for trainer in trainers:
        trainer.begin()
    run_members(trainers, 8)
    assert len({weight_hash(trainer.net) for trainer in trainers}) == 1


def test_oracle_notices_a_changed_bit() -> None:
    """The comparison above can fail: one flipped vote gives another network."""
    data, spec = small_data(), job()
    simulation = Simulation(spec, data, 3)
    before = weight_hash(simulation.net)
    simulation.carried[1][:64] += np.float32(0.5)
    simulation.step(0)
    other = Simulation(spec, data, 3)
    other.step(0)
    assert before != weight_hash(other.net) != weight_hash(simulation.net)


@pytest.mark.parametrize("members", [1, 2, 3, 5])
def test_float32_members_agree_and_follow_the_whole_batch(members: int) -> None:
    data, spec = small_data(), job("float32")
    trainers = ring_of(spec, data, members)
    for trainer in trainers:
        trainer.begin()
    run_members(trainers, STEPS)
    assert len({weight_hash(trainer.net) for trainer in trainers}) == 1
    alone = ring_of(spec, data, 1)
    alone[0].begin()
    run_members(alone, 3)
    few = ring_of(spec, data, members)
    for trainer in few:
        trainer.begin()
    run_members(few, 3)
    for index, latents in latents_of(few[0]).items():
        np.testing.assert_allclose(latents, latents_of(alone[0])[index], rtol=0, atol=2e-2)


def test_carried_error_is_what_was_not_said() -> None:
    """sent + carried = input, member by member, up to one rounding of each element and step."""
    data, spec = small_data(), job()
    trainers = ring_of(spec, data, 3)
    inputs = [np.zeros(t.parameters.slice_map.padded) for t in trainers]
    said = [np.zeros(t.parameters.slice_map.padded) for t in trainers]
    for rank, trainer in enumerate(trainers):
        trainer.begin()
        original = trainer.exchange.step

        def step(number, weight, rank=rank, trainer=trainer, original=original):
            exchange = trainer.exchange
            wanted = trainer.parameters.flat_gradient * np.float32(weight) + exchange.carried
            inputs[rank] += trainer.parameters.flat_gradient * np.float32(weight)
            original(number, weight)
            said[rank] += wanted - exchange.carried

        trainer.exchange.step = step
    run_members(trainers, STEPS)
    for rank, trainer in enumerate(trainers):
        real = trainer.parameters.real_places()
        balance = said[rank] + trainer.exchange.carried - inputs[rank]
        assert np.abs(balance[real]).max() < 1e-4
        assert np.abs(said[rank][real]).max() > 1e-2


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("kind", ["votes", "float32"])
def test_resumed_run_equals_uninterrupted_one(kind: str, optimizer: str) -> None:
    """States and carried errors are all there is: going on from step 20 changes nothing."""
    data, spec = small_data(), job(kind, training={"optimizer": optimizer})
    whole = ring_of(spec, data, 3)
    for trainer in whole:
        trainer.begin()
    run_members(whole, 20)
    states = {}
    for trainer in whole:
        states.update({i: trainer.exchange.states[i] for i in trainer.exchange.kept_slices()})
    copied = copy.deepcopy(states)
    carried = [trainer.exchange.carried_error().copy() for trainer in whole]
    assert sorted(copied) == list(range(len(whole[0].parameters.slice_map.slices)))
    run_members(whole, 20, first=20)
    resumed = ring_of(spec, data, 3)
    for trainer, error in zip(resumed, carried, strict=True):
        trainer.resume(copy.deepcopy(copied), error)  # each member reads files of its own
    run_members(resumed, 20, first=20)
    assert {weight_hash(t.net) for t in whole} == {weight_hash(t.net) for t in resumed}


@pytest.mark.parametrize("kind", ["votes", "float32"])
def test_divergence_is_said_not_hidden(kind: str) -> None:
    trainer = ring_of(job(kind), small_data(), 1)[0]
    trainer.begin()
    trainer.parameters.flat_gradient[3] = np.nan
    for tensor in trainer.net.parameters():
        tensor.grad = torch.full_like(tensor, torch.inf)
    with pytest.raises(TrainingError, match="diverged at step 0"):
        trainer.exchange.step(0, 1.0)


def test_latents_beyond_float16_are_divergence() -> None:
    trainer = ring_of(job(), small_data(), 1)[0]
    trainer.begin()
    part = next(part for part in trainer.parameters.slice_map.slices if part.binary)
    with pytest.raises(TrainingError, match="diverged: weights of"):
        trainer.parameters.set_from_latents(part, np.full(part.size, 1e6, np.float32))


def impossible_votes(frame: bytearray) -> None:
    frame[:-8] = b"\xff" * (len(frame) - 8)


def infinite_scale(frame: bytearray) -> None:
    frame[-2:] = b"\x80\x7f"


def negative_scale(frame: bytearray) -> None:
    frame[-1] |= 0x80


def all_ones(frame: bytearray) -> None:
    """Padding bits of the weights set; rows have 70 of 128 bits."""
    frame[:-8] = b"\xff" * (len(frame) - 8)


@pytest.mark.parametrize(
    ("phase", "harm"),
    [
        (Phase.GATHER_VOTES, impossible_votes),
        (Phase.GATHER_VOTES, infinite_scale),
        (Phase.GATHER_VOTES, negative_scale),
        (Phase.GATHER_FINISHED, all_ones),
    ],
)
def test_a_peer_that_sends_rubbish_breaks_the_ring_by_name(phase, harm) -> None:
    """Impossible counts, scales or weights blame who sent them, not who noticed."""
    trainers = ring_of(job(copies=2), small_data(), 3)
    for trainer in trainers:
        trainer.begin()
    victim = trainers[1].exchange._collective
    original = victim.swap

    def swap(step, hop, payload, expected):
        frame = bytearray(original(step, hop, payload, expected))
        if hop.phase is phase:
            harm(frame)
        return memoryview(bytes(frame))

    victim.swap = swap
    with pytest.raises(RingBrokenError, match="the predecessor sent"):
        run_members(trainers, 1)
