"""What layers keep of their activations is what the formula says."""

from __future__ import annotations

import pytest


def test_bits_are_as_derived(quick) -> None:
    blocks = {block["name"]: block for block in quick("activations").figures["blocks"]}
    for name, beta, more in (
        ("linear, beta 64, no cut", 64, 0),
        ("linear, beta 64, cut 1", 64, 1),
        ("linear, beta 16, cut 1", 16, 1),
        ("conv 3x3, beta 64, no cut", 64, 0),
        ("conv 3x3, beta 64, cut 1", 64, 1),
        ("ramp, linear, beta 64, cut 1", 64, 2),
    ):
        assert 8 * blocks[name]["float32"] == pytest.approx(32), name
        assert 8 * blocks[name]["ours"] == pytest.approx(1 + 32 / beta + more), name


def test_binary_layers_keep_20_times_less(quick) -> None:
    for block in quick("activations").figures["blocks"]:
        if "no cut" in block["name"]:
            assert block["float32"] > 20 * block["ours"]
