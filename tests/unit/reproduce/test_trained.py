"""The four networks: one protocol, and what differs is what the experiment says differs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from meshd.data.errors import DataError
from meshd.hbnn.binarize import hadamard
from meshd.reproduce.accuracy import run
from meshd.reproduce.result import Options
from meshd.reproduce.trained import BETA, KINDS, QUICK, hidden_latents, train, weights_seen


def test_the_protocol_is_the_same_for_all() -> None:
    assert len({setting.recipe for setting in KINDS.values()}) == 1
    allowed = {"name", "kind", "beta", "cut", "cut_a", "temperature"}
    for setting in KINDS.values():
        table, base = dataclasses.asdict(setting), dataclasses.asdict(KINDS["float"])
        assert {key for key in table if table[key] != base[key]} <= allowed


def test_curves_have_every_epoch_of_every_seed(quick) -> None:
    result = quick("accuracy")
    curves = result.figures["curves"]
    assert list(curves) == list(KINDS) and list(result.seeds) == list(QUICK.seeds)
    for runs in curves.values():
        assert [len(run["accuracy"]) for run in runs] == [QUICK.epochs] * len(QUICK.seeds)
        assert all(0 <= value <= 100 for run in runs for value in run["accuracy"])
    assert result.settings["kinds"]["hbnn"]["beta"] == (BETA,)
    assert result.settings["kinds"]["bnn"]["recipe"]["epochs"] == QUICK.epochs


def test_even_a_quick_run_learns(quick) -> None:
    """Chance is 10 %."""
    runs = quick("accuracy").figures["curves"]["float"]
    assert all(run["accuracy"][-1] > 50 for run in runs)


def test_a_run_is_made_once(quick, digits: Path) -> None:
    quick("accuracy")
    options = Options(quick=True, data=str(digits))
    assert train("hbnn", 0, options, print) is train("hbnn", 0, options, print)


def test_what_a_network_sees() -> None:
    latents = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(weights_seen("float", latents), latents)
    assert torch.equal(weights_seen("hbnn", latents), hadamard(latents, BETA, "signed"))
    for kind in ("bnn", "bnn_scaled"):
        assert torch.equal(weights_seen(kind, latents), latents.sign())


@pytest.mark.parametrize("kind", KINDS)
def test_the_hidden_layer_is_the_square_one(kind: str, quick, digits: Path) -> None:
    quick("accuracy")
    trained = train(kind, 0, Options(quick=True, data=str(digits)), print)
    assert hidden_latents(trained.net).shape == (QUICK.width, QUICK.width)


def test_data_that_is_not_there_is_one_line() -> None:
    with pytest.raises(DataError, match="no such file"):
        run(Options(quick=True, data="/nonexistent/images.npz"), print)
