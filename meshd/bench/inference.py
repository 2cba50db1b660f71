"""Inference of one perceptron: packed weights beside float32, for a batch of one and of many.

Everything that a weight needs once is done before the clock runs, for all sides: oneDNN's own
layout of a matrix, packing and the kernels' panels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from meshd.bench.perceptrons import Network, binary_network, float_network, onednn_product
from meshd.bench.timing import Effort, Times, Turn, interleave
from meshd.hbnn.linear import HadamardLinear

Row = dict[str, Any]


def inference_rows(
    weights: Sequence[nn.Parameter],
    betas: Sequence[int],
    batches: Sequence[int],
    effort: Effort,
    seed: int,
) -> list[Row]:
    """A row for each batch and beta, with how many times as fast as the fastest float32 it is."""
    rows = []
    packed = {beta: packed_network(weights, beta) for beta in betas}
    generator = torch.Generator().manual_seed(seed)
    for batch in batches:
        x = torch.randn(batch, len(weights[0]), generator=generator)
        floats = float_programs(weights, batch)
        turns = {name: Turn(Answer(net, x)) for name, net in floats.items()}
        turns |= {str(beta): Turn(Answer(net, x)) for beta, net in packed.items()}
        with torch.inference_mode():
            times = interleave(turns, effort)
        fastest = min(floats, key=lambda name: times[name].best)
        rows += [
            made(batch, beta, times[str(beta)], times[fastest], times["float32"], fastest)
            for beta in betas
        ]
    return rows


def made(batch: int, beta: int, mine: Times, other: Times, default: Times, fastest: str) -> Row:
    """One row; ratios are of the best turns, `..._median` of the usual ones."""
    return {
        "batch": batch,
        "beta": beta,
        "threads": torch.get_num_threads(),
        "vs_float32": other.best / mine.best,
        "vs_float32_median": other.median / mine.median,
        "vs_float32_default": default.best / mine.best,
        "fastest_float32": fastest,
        "seconds": mine.best,
        "seconds_median": mine.median,
        "seconds_float32": other.best,
    }


class Answer:
    """A network's answer to one input."""

    def __init__(self, network: Network, x: Tensor) -> None:
        self.network = network
        self.x = x

    def __call__(self) -> Tensor:
        """The logits."""
        return self.network(self.x)


def packed_network(weights: Sequence[nn.Parameter], beta: int) -> nn.Sequential:
    """The binary network with loaded bits, as a model file gives it; it shares no memory."""
    copies = [nn.Parameter(weight.detach().clone()) for weight in weights]
    net = binary_network(copies, beta, "exact")
    for layer in net:
        if isinstance(layer, HadamardLinear):
            packed = layer.packed()
            layer.load_packed(packed.words, packed.scales)
    return net.eval()


def float_programs(weights: Sequence[nn.Parameter], batch: int) -> dict[str, Network]:
    """The float32 programs by name: torch as it is, and oneDNN where this torch has it."""
    programs = {"float32": float_network(weights)}
    if torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        laid_out = [
            torch.ops.mkldnn._reorder_linear_weight(weight.detach(), batch) for weight in weights
        ]

        def forward(x: Tensor) -> Tensor:
            for weight in laid_out[:-1]:
                x = torch.relu(onednn_product(x, weight))
            return onednn_product(x, laid_out[-1])

        programs["onednn"] = forward
    return programs
