"""A job in one process: it resumes to the same bits, keeps the best, and survives a full disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from meshd.core.jobspec import canonical_json
from meshd.data.dataset import Dataset
from meshd.hbnn.export import load_model, weight_hash
from meshd.train.alone import (
    BEST,
    LAST,
    Alone,
    Interrupted,
    NotSaved,
    Saved,
    StoppedEarly,
    read_job,
)
from meshd.train.board import Board
from meshd.train.errors import TrainingError
from meshd.train.lock import LOCK, held
from meshd.train.saved import content_hash
from meshd.train.trainer import Evaluated

SEED = 41


@pytest.fixture(autouse=True)
def threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def clusters(samples: int = 90, noise: float = 60) -> Dataset:
    generator = np.random.default_rng(SEED)
    centres = generator.integers(0, 200, (4, 20))
    y = np.arange(samples) % 4
    x = np.clip(centres[y] + generator.normal(0, noise, (samples, 20)), 0, 255).astype(np.uint8)
    return Dataset(x, y, x[:30], y[:30], 4, np.float32(1 / 255))


NORMALISED = """
layers = [ { layer = "linear", out = 16 }, { layer = "batchnorm" }, { layer = "ramp" },
           { layer = "dropout", rate = 0.2 }, { layer = "hadamard_linear" } ]
"""


def job(*training: str, exchange: str = "float32", network: str = "width = 24"):
    lines = ['name = "test"', "[network]", network, "[training]", "batch = 20", *training]
    return read_job("\n".join([*lines, "[exchange]", f'kind = "{exchange}"']))


def never() -> bool:
    return False


def after(calls: int) -> Callable[[], bool]:
    """True from the `calls`-th question on."""
    left = iter(range(calls - 1))
    return lambda: next(left, None) is None


def trained(folder: Path, spec, stop: Callable[[], bool] = never, resume: bool = False):
    run = Alone(spec, clusters(), folder, 1)
    run.resume() if resume else run.begin()
    return run, list(run.run(stop))


@pytest.mark.parametrize(
    "spec",
    [
        job("epochs = 3", 'backward = "int8"'),
        job("epochs = 3", 'optimizer = "sgd"', 'schedule = "cosine"', "warmup = 3"),
        job("epochs = 3", exchange="votes"),
        job("epochs = 3", network=NORMALISED),
    ],
    ids=["int8", "sgd", "votes", "normalised"],
)
@pytest.mark.parametrize("calls", [1, 7])
def test_an_interrupted_run_ends_with_the_same_bits(spec, calls: int, tmp_path: Path) -> None:
    whole, _ = trained(tmp_path / "whole", spec)
    assert bool(whole.trainer.statistics.size) == bool(spec.network.layers)
    _, happened = trained(tmp_path / "cut", spec, after(calls))
    assert isinstance(happened[-1], Interrupted)
    assert happened[-1].saved and happened[-1].step < whole.trainer.steps
    resumed, rest = trained(tmp_path / "cut", spec, resume=True)
    assert weight_hash(resumed.trainer.net) == weight_hash(whole.trainer.net)
    evaluations = [e for e in [*happened, *rest] if isinstance(e, Evaluated)]
    assert [e.epoch for e in evaluations] == [1, 2, 3], "each evaluation once"
    one, other = load_file(tmp_path / "whole" / LAST), load_file(tmp_path / "cut" / LAST)
    assert one.keys() == other.keys()
    assert all(one[name].tobytes() == other[name].tobytes() for name in one)


def test_the_exchange_is_float32_unless_the_job_names_one() -> None:
    assert read_job('name = "x"').exchange.kind == "float32"
    assert read_job('name = "x"\n[exchange]\ngamma = 128').exchange.gamma == 128
    assert read_job('name = "x"\n[exchange]\nkind = "votes"').exchange.kind == "votes"
    assert read_job('name = "x"', seed=7).training.seed == 7


def test_patience_keeps_the_best(tmp_path: Path) -> None:
    """A rate so high that the first evaluations are not the worst: it stops, the best is left."""
    spec = job("epochs = 60", "learning_rate = 0.3", "patience = 3", 'optimizer = "sgd"')
    run, happened = trained(tmp_path / "c", spec)
    assert isinstance(happened[-1], StoppedEarly)
    accuracies = [e.accuracy for e in happened if isinstance(e, Evaluated)]
    assert len(accuracies) < 60
    assert max(accuracies[:-3]) >= max(accuracies[-3:])
    outcome = run.finish()
    (tmp_path / "m.safetensors").write_bytes(outcome.content)
    assert outcome.best and outcome.accuracy == max(accuracies)
    net, _ = load_model(tmp_path / "m.safetensors")
    assert weight_hash(net) == outcome.weight_hash == run.progress.best_hash
    again, nothing = trained(tmp_path / "c", spec, resume=True)
    assert [type(e) for e in nothing] == [StoppedEarly]
    assert again.finish() == outcome


def test_without_patience_the_last_network_is_the_model(tmp_path: Path) -> None:
    run, happened = trained(tmp_path / "c", job("epochs = 2", "checkpoint_steps = 3"))
    assert [e.step for e in happened if isinstance(e, Saved)] == [3, 6, 9, 10]
    outcome = run.finish()
    (tmp_path / "m.safetensors").write_bytes(outcome.content)
    assert outcome.weight_hash == weight_hash(run.trainer.net)
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == sorted([BEST, LAST])


def test_an_unfinished_run_is_not_overwritten_and_a_finished_one_is(tmp_path: Path) -> None:
    spec = job("epochs = 2")
    trained(tmp_path, spec, after(3))
    before = (tmp_path / LAST).read_bytes()
    with pytest.raises(TrainingError, match="is not finished: go on with --resume"):
        trained(tmp_path, spec)
    assert (tmp_path / LAST).read_bytes() == before
    trained(tmp_path, spec, resume=True)
    trained(tmp_path, spec)
    (tmp_path / LAST).write_bytes(b"rubbish")
    with pytest.raises(TrainingError, match="is not finished"):
        trained(tmp_path, spec)


def test_a_folder_that_cannot_be_written_costs_checkpoints_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    run, happened = trained(tmp_path / "file" / "c", job("epochs = 2"))
    assert [e.reason for e in happened if isinstance(e, NotSaved)]
    outcome = run.finish()
    (tmp_path / "m.safetensors").write_bytes(outcome.content)
    assert load_model(tmp_path / "m.safetensors") and not outcome.best


def changed(path: Path, change: Callable[[dict, dict], None]) -> None:
    arrays = load_file(path)
    head = path.read_bytes()
    size = int.from_bytes(head[:8], "little")
    about = json.loads(json.loads(head[8 : 8 + size])["__metadata__"]["meshd"])
    change(arrays, about)
    text = json.dumps(about)
    save_file(arrays, path, {"meshd": text, "hash": content_hash(text, arrays)})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a, b: a.pop("latents-0"), "latents-0 is missing"),
        (lambda a, b: a.update(extra=np.zeros(1)), "extra is no part of this network"),
        (lambda a, b: a.update({"latents-0": a["latents-0"][1:]}), "another shape"),
        (lambda a, b: a.update({"latents-0": a["latents-0"].astype("f8")}), "not <f4"),
        (lambda a, b: a["latents-0"].fill(np.nan), "not finite"),
        (lambda a, b: b["progress"].update(step=10_000), "step is not one of this job"),
        (lambda a, b: b["progress"].update(step="1"), "step is not one of this job"),
        (lambda a, b: b["progress"].update(more=1), "was not written by this version"),
        (lambda a, b: b.update(version=1), "was not written by this version"),
        (lambda a, b: b.update(data="0"), "began on other data"),
        (
            lambda a, b: b.update(job=canonical_json(job("epochs = 3"))),
            "another job: training.epochs differs",
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(change, said: str, tmp_path: Path) -> None:
    spec = job("epochs = 2")
    trained(tmp_path, spec, after(3))
    changed(tmp_path / LAST, change)
    with pytest.raises(TrainingError, match=said) as caught:
        trained(tmp_path, spec, resume=True)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_cut_anywhere_is_refused(tmp_path: Path) -> None:
    spec = job("epochs = 2")
    trained(tmp_path, spec, after(3))
    whole = (tmp_path / LAST).read_bytes()
    for length in (0, 4, 8, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / LAST).write_bytes(whole[:length])
        with pytest.raises(TrainingError, match="cannot be used"):
            trained(tmp_path, spec, resume=True)
    (tmp_path / LAST).unlink()
    with pytest.raises(TrainingError, match="no checkpoint is there"):
        trained(tmp_path, spec, resume=True)


def test_a_checkpoint_with_one_bit_flipped_is_refused(tmp_path: Path) -> None:
    """In the header's names and numbers or in the tensors: wherever a bit may flip."""
    spec = job("epochs = 2")
    trained(tmp_path, spec, after(3))
    whole = (tmp_path / LAST).read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    places = np.random.default_rng(SEED).integers(start, len(whole), 12)
    inside = [whole.index(b'"meshd":"') + 40, whole.index(b'"hash":"') + 12]
    for place in [*inside, start, *map(int, places), len(whole) - 1]:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 3
        (tmp_path / LAST).write_bytes(flipped)
        with pytest.raises(TrainingError, match="cannot be used") as caught:
            trained(tmp_path, spec, resume=True)
        assert "\n" not in str(caught.value)
        assert place < start or "it is damaged" in str(caught.value), place
    (tmp_path / LAST).write_bytes(whole)
    trained(tmp_path, spec, resume=True)


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_in_the_checkpoints_place_is_refused(resume: bool, tmp_path: Path) -> None:
    (tmp_path / LAST).mkdir()
    said = "last.safetensors cannot be .*: it is not a file; move it away"
    with pytest.raises(TrainingError, match=said):
        trained(tmp_path, job("epochs = 2"), resume=resume)


def test_one_run_holds_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    with held(folder):
        said = f"another meshd train is at work in {folder}: .*--checkpoints"
        with pytest.raises(TrainingError, match=said), held(folder):
            raise AssertionError("two runs hold it")
        with held(tmp_path / "d"):
            pass
    assert not list(tmp_path.iterdir()), "what nobody wrote into goes again"
    folder.mkdir()
    (folder / LOCK).touch()  # left by a run that was killed
    with held(folder):
        (folder / LAST).touch()
    assert [path.name for path in folder.iterdir()] == [LAST]
    with held(folder / LAST / "below"):
        pass  # no folder can be there: nothing to corrupt


def test_latents_that_are_not_finite_cost_no_traceback(tmp_path: Path) -> None:
    """The step after says that training diverged; the histograms before it must get there."""
    run = Alone(job("epochs = 1"), clusters(), tmp_path / "c", 1)
    run.begin()
    board = Board(tmp_path / "board", run, pytest.fail)
    first, second, *_ = run.trainer.holding.states.values()
    first.latents[0] = np.inf
    second.latents[:] = np.nan
    board.evaluated(Evaluated(step=1, epoch=1, accuracy=0.5))
    board.close()
    (file,) = (tmp_path / "board").iterdir()
    assert b"test/accuracy" in file.read_bytes()
