"""Order and first latents: permutations, and golden values that no library version may change."""

from __future__ import annotations

import hashlib

import numpy as np

from meshd.train.order import epoch_order, initial_latents


def test_order_is_a_permutation_that_differs_by_epoch_and_seed() -> None:
    orders = [epoch_order(seed, epoch, 500) for seed in (0, 1) for epoch in (0, 1)]
    for order in orders:
        assert sorted(order) == list(range(500))
    assert len({order.tobytes() for order in orders}) == 4


def test_order_is_the_same_for_ever() -> None:
    assert epoch_order(7, 3, 10).tolist() == GOLDEN_ORDER


def test_latents_are_the_same_for_ever() -> None:
    latents = initial_latents(7, "3.weight", 1000, 0.05)
    assert hashlib.blake2b(latents.tobytes(), digest_size=8).hexdigest() == GOLDEN_LATENTS


def test_latents_have_the_deviation_asked_for() -> None:
    latents = initial_latents(1, "a", 100_000, 0.05)
    assert abs(latents.mean()) < 1e-3
    assert abs(latents.std() - 0.05) < 5e-4
    assert latents.dtype == np.float32


GOLDEN_ORDER = [7, 6, 1, 3, 0, 4, 5, 2, 9, 8]
GOLDEN_LATENTS = "81c03545a9b6f1b7"
