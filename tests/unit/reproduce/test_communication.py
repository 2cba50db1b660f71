"""What rings send: counted bytes against the schedules' own arithmetic."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from meshd.core.slices import TensorShape, cut_slices
from meshd.data.load import load_dataset
from meshd.hbnn.networks import parameter_table
from meshd.reproduce.communication import KINDS, QUICK, job, trained_ring
from meshd.train.collective import local_ring
from meshd.train.errors import TrainingError
from meshd.train.trainer import Trainer


def test_a_float32_ring_sends_two_shares_of_every_parameter(quick, digits: Path) -> None:
    """2 (N - 1) / N x 4 bytes of the padded vector, up to uneven regions and the tally's bytes."""
    spec = job("float32", QUICK)
    trainer = Trainer(spec, load_dataset(digits), local_ring(1)[0])
    table = parameter_table(trainer.net)
    shapes = [TensorShape(e.name, e.rows, e.columns, e.beta) for e in table]
    padded = cut_slices(shapes, spec.exchange.gamma).padded
    for ring in quick("communication").figures["rings"]:
        if ring["kind"] == "float32":
            share = 2 * (ring["members"] - 1) / ring["members"]
            assert ring["bytes_a_step"] == pytest.approx(share * 4 * padded, rel=0.1)


def test_votes_send_many_times_less(quick) -> None:
    rings = {(r["members"], r["kind"]): r for r in quick("communication").figures["rings"]}
    assert set(rings) == {(n, kind) for n in QUICK.members for kind in KINDS}
    for n in QUICK.members:
        votes, floats = rings[n, "votes"], rings[n, "float32"]
        assert votes["steps"] == floats["steps"] > 0
        assert floats["bytes_a_step"] > 15 * votes["bytes_a_step"]


def test_the_network_is_all_binary(digits: Path) -> None:
    trainer = Trainer(job("votes", QUICK), load_dataset(digits), local_ring(1)[0])
    assert {entry.kind for entry in parameter_table(trainer.net)} == {"binary"}


def test_a_member_that_fails_ends_the_ring(digits: Path) -> None:
    """With its own error, not its neighbours'."""
    broken = dataclasses.replace(load_dataset(digits), scale=np.float32("nan"))
    with pytest.raises(TrainingError, match="diverged"):
        trained_ring(job("votes", QUICK), broken, 2)
