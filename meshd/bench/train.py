"""`meshd bench train`: a whole training step, and inference, beside torch's on the same network.

A step is forward, loss, backward, optimizer (torch's fused Adam) and the release of the gradients.
All programs take turns on the same weights with the same optimizer (`perceptrons`), and under the
same allocator: `allocator` keeps what is freed, for all of them alike.

The report is what `--json` prints: "machine", "settings", "results" (a row each beta and precision
of the backward pass), "references" (the programs that the ratios are with) and "inference".
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from meshd.bench import machine
from meshd.bench.allocator import keep_freed_memory
from meshd.bench.inference import inference_rows
from meshd.bench.perceptrons import (
    Network,
    autocast_network,
    binary_network,
    emulated_network,
    float_network,
    onednn_network,
    start_weights,
)
from meshd.bench.timing import Effort, Times, Turn, interleave

Say = Callable[[str], object]
Row = dict[str, Any]

# Small enough that hundreds of steps on random labels leave the weights what they were.
LEARNING_RATE = 1e-6


@dataclass(frozen=True)
class TrainPlan:
    """What is measured: `layers` of `width` x `width`, at each of `betas`, the first the headline.

    compiled: the emulation by torch.compile too, which takes a minute to build.
    batches: of inference.
    """

    width: int
    layers: int
    batch: int
    betas: tuple[int, ...]
    backward: tuple[str, ...]
    batches: tuple[int, ...]
    compiled: bool
    step: Effort
    inference: Effort
    seed: int = 1


SETTINGS = ("exact", "int8", "planes(2)")
FULL = TrainPlan(
    width=4096,
    layers=4,
    batch=512,
    betas=(256, 64),
    backward=SETTINGS,
    batches=(1, 256),
    compiled=True,
    step=Effort(100.0, least_turns=5, most_turns=12),
    inference=Effort(8.0, least_turns=5),
)
# The same code in a second: its figures say nothing about large networks.
QUICK = TrainPlan(
    width=256,
    layers=4,
    batch=64,
    betas=(64,),
    backward=SETTINGS,
    batches=(1, 64),
    compiled=False,
    step=Effort(0.5, most_turns=10),
    inference=Effort(0.3),
)

FASTEST = ("float32", "onednn")  # of these the faster one counts
EMULATIONS = ("emulation", "emulation compiled")


def measure(plan: TrainPlan, threads: int = 2, say: Say = lambda words: None) -> Row:
    """Measure a plan; `say` is told what comes next.

    Raises:
        ValueError: there are fewer cores than threads.
    """
    started = time.monotonic()
    with machine.pinned(threads) as cores:
        kept = keep_freed_memory()
        weights = start_weights(plan.width, plan.layers, plan.seed)
        say("training steps")
        rows, references, unavailable = step_rows(plan, weights, threads)
        say("inference")
        inference = inference_rows(weights, plan.betas, plan.batches, plan.inference, plan.seed)
        about = machine.describe(cores)
    about |= {"seconds": round(time.monotonic() - started, 1), "unavailable": unavailable}
    settings = asdict(plan) | {
        "optimizer": f"Adam, fused, learning rate {LEARNING_RATE:g}",
        "keeps_freed_memory": kept,
    }
    return {
        "machine": about,
        "settings": settings,
        "results": rows,
        "references": references,
        "inference": inference,
    }


def step_rows(
    plan: TrainPlan, weights: list[torch.nn.Parameter], threads: int
) -> tuple[list[Row], list[Row], dict[str, str]]:
    """Time all programs in turns: rows of ours, rows of the references, and what is not here."""
    steps = Steps(plan, weights)
    networks: dict[tuple[str, int | None], Network] = {
        ("float32", None): float_network(weights),
        ("onednn", None): onednn_network(weights),
        ("bf16", None): autocast_network(weights),
    }
    for beta in plan.betas:
        networks["emulation", beta] = emulated_network(weights, beta)
    if plan.compiled:
        beta = plan.betas[0]
        networks["emulation compiled", beta] = torch.compile(emulated_network(weights, beta))
    for beta in plan.betas:
        for setting in plan.backward:
            networks[setting, beta] = binary_network(weights, beta, setting)
    unavailable = {}
    for name, network in list(networks.items()):
        try:
            steps.of(network)()
        except (RuntimeError, AttributeError) as error:  # an operator or a compiler is not here
            if name[0] in plan.backward or name[0] == "float32":
                raise
            unavailable[name[0]] = (str(error).strip().splitlines() or ["no reason given"])[0]
            del networks[name]
    times = interleave({name: Turn(steps.of(net)) for name, net in networks.items()}, plan.step)
    references = [
        {"program": name, "beta": beta, "threads": threads} | seconds(times[name, beta])
        for name, beta in networks
        if name not in plan.backward
    ]
    return (
        [result(setting, beta, threads, times) for beta in plan.betas for setting in plan.backward],
        references,
        unavailable,
    )


class Steps:
    """Training steps of networks that share their weights and one optimizer."""

    def __init__(self, plan: TrainPlan, weights: list[torch.nn.Parameter]) -> None:
        generator = torch.Generator().manual_seed(plan.seed)
        self.x = torch.randn(plan.batch, plan.width, generator=generator)
        self.labels = torch.randint(plan.width, (plan.batch,), generator=generator)
        self.optimizer = torch.optim.Adam(weights, LEARNING_RATE, fused=True)

    def of(self, network: Network) -> Callable[[], None]:
        """The step of one network."""

        def step() -> None:
            self.loss(network).backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.optimizer.zero_grad()

        return step

    def loss(self, network: Network) -> Tensor:
        """Softmax cross-entropy."""
        return functional.cross_entropy(network(self.x).float(), self.labels)


def result(
    setting: str, beta: int, threads: int, times: dict[tuple[str, int | None], Times]
) -> Row:
    """Our row: how many times as fast as the fastest float32, default, bf16 and the emulation.

    Ratios are of the best turns, `..._median` of the usual ones; None where a program is not here.
    """
    mine = times[setting, beta]
    row: Row = {"backward": setting, "beta": beta, "threads": threads, **seconds(mine)}
    programs: dict[str, list[tuple[str, int | None]]] = {
        "float32": [(name, None) for name in FASTEST],
        "float32_default": [("float32", None)],
        "bf16": [("bf16", None)],
        "emulation": [("emulation", beta)],
        "emulation_compiled": [("emulation compiled", beta)],
    }
    for name, keys in programs.items():
        there = [times[key] for key in keys if key in times]
        other = min(there, key=lambda found: found.best) if there else None
        row[f"vs_{name}"] = other.best / mine.best if other else None
        row[f"vs_{name}_median"] = other.median / mine.median if other else None
    return row


def seconds(times: Times) -> Row:
    """The best turn, the usual one, and how many there were."""
    return {
        "seconds": times.best,
        "seconds_median": times.median,
        "turns": len(times.seconds),
    }
