"""`meshd bench train`: all programs compute the same network; the report says what was run."""

from __future__ import annotations

import json
import math
import os
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from meshd.bench import train
from meshd.bench.inference import float_programs, packed_network
from meshd.bench.perceptrons import (
    Network,
    binary_network,
    emulated_network,
    float_network,
    onednn_network,
    start_weights,
)
from meshd.bench.timing import Effort
from meshd.hbnn.linear import HadamardLinear

# Odd: a product of signs is never 0, where the codes of the next layer would hang on rounding.
WIDTH, BETA = 99, 33
TINY = train.TrainPlan(
    width=WIDTH,
    layers=3,
    batch=16,
    betas=(BETA, WIDTH),
    backward=train.SETTINGS,
    batches=(1, 5),
    compiled=False,
    step=Effort(0.05, least_turns=2, most_turns=2),
    inference=Effort(0.02, least_turns=2, most_turns=2),
)


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return train.measure(TINY, threads=1)


def gradients(network: Network, weights: list[torch.nn.Parameter]) -> tuple[Tensor, list[Tensor]]:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(16, WIDTH, generator=generator)
    labels = torch.randint(WIDTH, (16,), generator=generator)
    loss = functional.cross_entropy(network(x), labels)
    return loss.detach(), list(torch.autograd.grad(loss, weights))


@pytest.mark.parametrize("beta", [BETA, WIDTH])
def test_the_emulation_is_the_binary_network(beta: int) -> None:
    weights = start_weights(WIDTH, 2, seed=7)
    with torch.no_grad():
        weights[1][0, :9] = 1.5  # beyond the cut
    mine, of_mine = gradients(binary_network(weights, beta, "exact"), weights)
    other, of_other = gradients(emulated_network(weights, beta), weights)
    torch.testing.assert_close(mine, other)
    for grad, expected in zip(of_mine, of_other, strict=True):
        torch.testing.assert_close(grad, expected)
    assert bool((of_mine[1][0, :9] == 0).all())


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")
def test_onednn_computes_the_float_network() -> None:
    weights = start_weights(WIDTH, 3, seed=8)
    mine, of_mine = gradients(onednn_network(weights), weights)
    other, of_other = gradients(float_network(weights), weights)
    torch.testing.assert_close(mine, other)
    for grad, expected in zip(of_mine, of_other, strict=True):
        torch.testing.assert_close(grad, expected)


def test_inference_is_of_the_same_networks() -> None:
    weights = start_weights(WIDTH, 3, seed=9)
    x = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(1))
    for network in float_programs(weights, len(x)).values():
        torch.testing.assert_close(network(x), float_network(weights)(x))
    net = packed_network(weights[:2], BETA)
    for layer in net:
        if isinstance(layer, HadamardLinear):
            assert layer.is_packed
    dequantized = [layer.weight for layer in net if isinstance(layer, HadamardLinear)]
    torch.testing.assert_close(net(x), emulated_network(dequantized, BETA)(x))


def test_the_report_is_json_with_a_row_for_each_setting(report: dict[str, Any]) -> None:
    assert json.loads(json.dumps(report, allow_nan=False))
    assert [(row["backward"], row["beta"]) for row in report["results"]] == [
        (setting, beta) for beta in TINY.betas for setting in TINY.backward
    ]
    for row in report["results"]:
        assert row["threads"] == 1
        for key in ("seconds", "vs_float32", "vs_float32_default", "vs_bf16", "vs_emulation"):
            assert math.isfinite(row[key]) and row[key] > 0, key
        assert row["vs_emulation_compiled"] is None
    assert [(row["batch"], row["beta"]) for row in report["inference"]] == [
        (batch, beta) for batch in TINY.batches for beta in TINY.betas
    ]
    assert report["settings"]["seed"] == TINY.seed


def test_ratios_agree_with_the_seconds(report: dict[str, Any]) -> None:
    best = {(row["program"], row["beta"]): row["seconds"] for row in report["references"]}
    for row in report["results"]:
        floats = [best[name, None] for name in train.FASTEST if (name, None) in best]
        assert row["vs_float32"] == pytest.approx(min(floats) / row["seconds"])
        emulation = best["emulation", row["beta"]]
        assert row["vs_emulation"] == pytest.approx(emulation / row["seconds"])


def test_what_is_not_here_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(weights: object) -> Network:
        def forward(x: Tensor) -> Tensor:
            raise RuntimeError("no such operator\nand a long list")

        return forward

    monkeypatch.setattr(train, "onednn_network", missing)
    weights = start_weights(WIDTH, 2, seed=1)
    rows, references, unavailable = train.step_rows(TINY, weights, 1)
    assert unavailable == {"onednn": "no such operator"}
    assert "onednn" not in {row["program"] for row in references}
    assert all(row["vs_float32"] == row["vs_float32_default"] for row in rows)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity here")
def test_more_threads_than_cores_are_refused() -> None:
    with pytest.raises(ValueError, match="threads"):
        train.measure(TINY, threads=len(os.sched_getaffinity(0)) + 1)
