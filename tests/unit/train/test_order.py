"""The order of samples: permutations, and a golden one that no library version may change."""

from __future__ import annotations

from meshd.train.order import epoch_order


def test_order_is_a_permutation_that_differs_by_epoch_and_seed() -> None:
    orders = [epoch_order(seed, epoch, 500) for seed in (0, 1) for epoch in (0, 1)]
    for order in orders:
        assert sorted(order) == list(range(500))
    assert len({order.tobytes() for order in orders}) == 4


def test_order_is_the_same_for_ever() -> None:
    assert epoch_order(7, 3, 10).tolist() == GOLDEN_ORDER


GOLDEN_ORDER = [2, 5, 9, 7, 3, 0, 6, 8, 4, 1]
