"""A small convolutional network with normalisation, dropout and a residual, on small rings."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from meshd.core.jobspec import parse_toml
from meshd.core.ring.route import Phase
from meshd.data.dataset import Dataset
from meshd.hbnn.export import load_model, save_model, weight_hash
from meshd.hbnn.networks import as_rows, logits, predict
from meshd.train.checkpoint import read_slice, read_statistics, write_slice
from meshd.train.collective import Frame, local_ring
from meshd.train.errors import RingBrokenError, TrainingError
from meshd.train.gatherings import Kind
from meshd.train.statistics import RunningStatistics
from meshd.train.trainer import CheckpointDue, Evaluated, Trainer

sys.path.insert(0, str(Path(__file__).parent))
from oracle import Simulation
from rings import begun, ring_of, run_members, tamper

SEED = 20_261_123
PER_EPOCH = 5  # 61 samples, 15 a step: the last step has one sample, so most members have none

JOB = """
name = "test"
[network]
beta_w = 8
beta_a = 8
cut = 0.5
layers = [
    { layer = "conv", out = 8, padding = 1 },
    { layer = "batchnorm", momentum = 0.3 },
    { layer = "ramp" },
    { layer = "maxpool" },
    { layer = "residual", body = [
        { layer = "hadamard_conv", out = 8, padding = 1, cut = 0, gain = true },
        { layer = "batchnorm" } ] },
    { layer = "hardtanh" },
    { layer = "hadamard_conv", out = 16, beta_a = 1, cut_a = 2 },
    { layer = "batchnorm" },
    { layer = "ramp" },
    { layer = "dropout", rate = 0.2 },
    { layer = "flatten" },
    { layer = "linear", bias = true },
]
[training]
epochs = 4
batch = 15
learning_rate = 1e-2
seed = 20_261_123
checkpoint_steps = 7
[exchange]
kind = "votes"
gamma = 64
"""


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def images(samples: int = 61, side: int = 8, classes: int = 5) -> Dataset:
    print(f"seed {SEED}")
    generator = np.random.default_rng(SEED)
    centres = generator.integers(0, 200, (classes, side * side))
    y = np.arange(samples) % classes
    x = centres[y] + generator.normal(0, 20, (samples, side * side))
    x = np.clip(x, 0, 255).astype(np.uint8)
    return Dataset(x, y, x[:20], y[:20], classes, np.float32(1 / 255), (side, side))


def job(kind: str = "votes", **training: int):
    text = JOB.replace('"votes"', f'"{kind}"')
    for key, value in training.items():
        text = text.replace(f"{key} = ", f"{key} = {value} # ")
    return parse_toml(text)


@pytest.mark.parametrize("members", [1, 2, 3])
def test_ring_equals_single_process_bit_for_bit(members: int) -> None:
    """Two epochs and a checkpoint: weights, latents, carried errors and running statistics."""
    data, spec = images(), job()
    trainers = begun(spec, data, members)
    simulation = Simulation(spec, data, members)
    for step in range(2 * PER_EPOCH):
        simulation.step(step, trainers[0]._collective.plan.owners)
        if step + 1 in (PER_EPOCH, 7, 2 * PER_EPOCH):
            simulation.average_statistics()
    run_members(trainers, 2 * PER_EPOCH, until=Evaluated)
    wanted = weight_hash(simulation.net)
    assert [weight_hash(trainer.net) for trainer in trainers] == [wanted] * members
    for rank, trainer in enumerate(trainers):
        for index, state in trainer.holding.states.items():
            assert state.latents.tobytes() == simulation.states[index].latents.tobytes()
        real = trainer.parameters.real_places()
        carried = trainer.holding.carried_error()
        wanted = simulation.carried_of(simulation.order[rank])
        assert carried.tobytes() == wanted[real].tobytes()


@pytest.mark.parametrize("kind", ["votes", "float32"])
def test_all_members_end_with_one_network_that_a_file_gives_back(kind: str, tmp_path: Path) -> None:
    data, spec = images(), job(kind, epochs=2)
    trainers = begun(spec, data, 3)
    events = run_members(trainers, 10**9)
    assert len({weight_hash(trainer.net) for trainer in trainers}) == 1
    accuracies = [[e.accuracy for e in own if isinstance(e, Evaluated)] for own in events]
    assert accuracies[0] == accuracies[1] == accuracies[2] and len(accuracies[0]) == 2
    first = trainers[0]
    save_model(tmp_path / "m", first.net, first.description)
    loaded, description = load_model(tmp_path / "m")
    assert description == first.description
    x = first._rows(data.x_test, np.arange(20))
    assert torch.equal(logits(loaded.eval(), x), logits(first.net.eval(), x))
    right = (predict(loaded, x).numpy() == data.y_test).mean()
    assert right == accuracies[0][-1]


def test_it_learns() -> None:
    (trainer,) = begun(job("float32", epochs=12), images(), 1)
    (events,) = run_members([trainer], 10**9)
    assert [e.accuracy for e in events if isinstance(e, Evaluated)][-1] > 0.8


@pytest.mark.parametrize("kind", ["votes", "float32"])
def test_resumed_run_equals_uninterrupted_one(kind: str, tmp_path: Path) -> None:
    """From the files of a checkpoint; running statistics lie behind slice 0, all holders' alike."""
    data, spec = images(), job(kind, epochs=2)
    whole = begun(spec, data, 2)
    slices = whole[0].parameters.slice_map.slices
    written: dict[int, set[bytes]] = {part.index: set() for part in slices}
    run_members(whole, 7, until=CheckpointDue)
    carried = [trainer.holding.carried_error().copy() for trainer in whole]
    for trainer in whole:
        for index in trainer.holding.held():
            statistics = trainer.statistics.vector() if index == 0 else None
            path = tmp_path / f"slice-{index}"
            write_slice(path, trainer.holding.states[index], statistics)
            written[index].add(path.read_bytes())
    assert {len(contents) for contents in written.values()} == {1}
    run_members(whole, 3, first=7)
    resumed = ring_of(spec, data, 2)
    for trainer, error in zip(resumed, carried, strict=True):
        moments, count = trainer.optimizer.moments, trainer.statistics.size
        assert count == 2 * (8 + 8 + 16)
        states = {
            part.index: read_slice(
                tmp_path / f"slice-{part.index}",
                part.size,
                moments,
                count if part.index == 0 else 0,
            )
            for part in slices
        }
        path = tmp_path / "slice-0"
        statistics = read_statistics(path, slices[0].size, moments, count)
        trainer.resume(states, error if error.size else None, statistics, step=7)
    run_members(resumed, 3, first=7)
    for a, b in zip(whole, resumed, strict=True):
        assert a.statistics.vector().tobytes() == b.statistics.vector().tobytes()
        assert weight_hash(a.net) == weight_hash(b.net)


def test_gradients_are_read_in_the_order_of_rows() -> None:
    """A filter's gradient stands where its bits do: kernel row, kernel column, channel."""
    (trainer,) = begun(job(), images(), 1)
    tensors = dict(trainer.net.named_parameters())
    rng = np.random.default_rng(1)
    wanted = {}
    for name, tensor in tensors.items():
        values = torch.from_numpy(rng.standard_normal(tuple(tensor.shape)).astype(np.float32))
        tensor.grad = values  # contiguous as (out, channels, row, column)
        if values.dim() == 4:
            values = values.permute(0, 2, 3, 1)
        wanted[name] = values.reshape(-1).numpy()
    size = trainer.parameters.slice_map.padded
    flat = np.full(size, np.nan, np.float32)
    trainer.parameters.copy_gradient(0, size, 0.25, flat)
    for part in trainer.parameters.slice_map.slices:
        found = flat[part.offset : part.offset + part.size]
        expected = wanted[part.tensor.name][part.start : part.stop] * np.float32(0.25)
        assert found.tobytes() == expected.tobytes()
    assert not flat[~trainer.parameters.real_places()].any(), "padding is no gradient"


def test_dense_filters_are_written_through_to_the_network() -> None:
    (trainer,) = begun(job(), images(), 1)
    part = trainer.parameters.slice_map.slices[0]
    assert part.tensor.name == "0.weight" and part.size == 8 * 9
    values = np.arange(part.size, dtype=np.float32)
    trainer.parameters.set_from_latents(part, values)
    assert as_rows(trainer.net[0].weight.detach()).reshape(-1).tolist() == values.tolist()


def test_each_layer_has_its_own_cut() -> None:
    (trainer,) = begun(job(), images(), 1)
    parts = [p for p in trainer.parameters.slice_map.slices if p.binary]
    cuts = {part.tensor.name: trainer.parameters.cut_of(part) for part in parts}
    assert cuts == {"4.body.0.weight": None, "6.weight": 0.5}


def test_a_network_that_does_not_fit_the_data_is_one_line() -> None:
    flat = Dataset(*(np.zeros((4, 6), np.uint8), np.arange(4) % 2) * 2, 2, np.float32(1))
    with pytest.raises(TrainingError) as caught:
        Trainer(job(), flat, local_ring(1)[0])
    assert "layer 0 takes (channels, height, width), not (6,)" in str(caught.value)
    assert "\n" not in str(caught.value) and caught.value.fatal


@pytest.mark.parametrize(
    ("place", "value"), [(0, np.nan), (0, np.inf), (8, -1.0)], ids=["nan", "inf", "variance"]
)
def test_impossible_statistics_end_the_ring_by_name(place: int, value: float) -> None:
    trainers = begun(job(), images(), 2)

    def change(frame: Frame) -> bytes:
        _, _, phase, kind, _, payload = frame
        if (phase, kind) != (Phase.GATHER, Kind.STATISTICS):
            return payload
        return payload[: 4 * place] + np.float32(value).tobytes() + payload[4 * place + 4 :]

    tamper(trainers[1], change)
    with pytest.raises(RingBrokenError, match="sent impossible running statistics"):
        run_members(trainers, PER_EPOCH + 1)
    own = trainers[0].statistics.vector()
    own[place] = value
    with pytest.raises(TrainingError, match="running statistics are impossible"):
        trainers[0].resume({}, None, own)
    trainers[0].statistics.load(own)
    with pytest.raises(TrainingError, match="diverged at step 3"):
        trainers[0].statistics.average(local_ring(1)[0], 3)


def test_evaluation_keeps_activations_small() -> None:
    data, spec = images(), job()
    wide = parse_toml(
        'name = "x"\n[network]\nlayers = [{ layer = "conv", out = 60000, kernel = 1 },'
        ' { layer = "globalavgpool" }, { layer = "linear" }]'
    )
    assert Trainer(wide, data, local_ring(1)[0])._at_once == (32 << 20) // (4 * 64 * 60000)
    assert Trainer(spec, data, local_ring(1)[0])._at_once == 1000


def test_a_network_without_statistics_has_none() -> None:
    statistics = RunningStatistics(torch.nn.Linear(2, 2))
    assert statistics.size == 0 and statistics.vector().shape == (0,)
    statistics.average(local_ring(2)[0], 0)  # says nothing, so waits for nobody
