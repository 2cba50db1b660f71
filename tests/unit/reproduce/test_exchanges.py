"""The study of exchanges: each one trains, no run is made twice, the table counts right."""

from __future__ import annotations

import numpy as np

from meshd.data.dataset import Dataset
from meshd.reproduce.exchanges import EXCHANGES, KEY, runs, table


def some_images() -> Dataset:
    x = np.random.default_rng(1).integers(0, 255, (150, 64), np.uint8)
    y = np.arange(150) % 3
    return Dataset(x, y, x[:20], y[:20], 3, np.float32(1 / 255))


def test_every_exchange_trains_and_is_not_repeated() -> None:
    wanted = [(exchange, 2, 0, "Adam 2e-3", "normalised") for exchange in EXCHANGES]
    lines = list(runs(some_images(), wanted, 64, 1, set()))
    assert [line["exchange"] for line in lines] == list(EXCHANGES)
    bits = {line["exchange"]: line["bits"] for line in lines}
    assert bits["float32"] > bits["votes"] > bits["votes, H = 16"] > 0
    done = {tuple(line[key] for key in KEY) for line in lines}
    assert done == set(wanted)
    assert not list(runs(some_images(), wanted, 64, 1, done))


def line(exchange: str, seed: int, accuracy: float) -> dict:
    ring = {"members": 4, "optimizer": "Adam 2e-3", "network": "normalised", "bits": 2.0}
    return {"exchange": exchange, "seed": seed, "accuracy": accuracy, **ring}


def test_the_table_compares_seeds_that_both_have() -> None:
    text = table([line("votes", 1, 80.0), line("votes", 0, 81.0), line("float32", 0, 81.5)])
    *_, floats, votes = text.splitlines()
    assert votes == "| normalised, Adam 2e-3, 4 | votes | 81.00 80.00 | 80.50 | -0.50 | 2.00 |"
    assert "81.50 | +0.00" in floats
