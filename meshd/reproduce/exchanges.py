"""What exchanges cost in accuracy and in bits: each trained with three seeds, rings of threads.

    python -m meshd.reproduce.exchanges fashion_mnist.npz --json exchanges.jsonl
    python -m meshd.reproduce.exchanges --json exchanges.jsonl --table

The project's own trainer and payloads, so what is measured is what a mesh does; only the sockets
are missing. Networks 512 wide, as adr/0016 has them: the seed's seven layers, beta 4, no cut, and
one with batch normalisation before each binarization, beta 16, cut at 1. Rates falling on a line,
batches of 120, 5 epochs, one thread a member. `float32` is the same training without bits.

One line of JSON is appended for each run, at once, and a run whose line is there is not repeated.
The first seed of all exchanges comes first.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from meshd.core.jobspec import JobSpec, parse_spec
from meshd.core.shares import steps_per_epoch
from meshd.data.dataset import Dataset
from meshd.data.load import load_dataset
from meshd.reproduce.communication import trained_ring

SEEDS = (0, 1, 2)
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "Adam 2e-3": {"optimizer": "adam", "learning_rate": 2e-3},
    "Adam 1e-3": {"optimizer": "adam", "learning_rate": 1e-3},
    "SGD 0.1": {"optimizer": "sgd", "learning_rate": 0.1},
}
BASE = "float32"
EXCHANGES: dict[str, dict[str, Any]] = {
    "float32": {"kind": "float32"},
    "votes": {"kind": "votes"},
    "direct": {"kind": "direct"},
    "onebit": {"kind": "onebit"},
    "votes, H = 16": {"kind": "votes", "local_steps": 16},
    "onebit, H = 16": {"kind": "onebit", "local_steps": 16},
}
"""Name -> the job file's [exchange]."""

KEY = ("exchange", "members", "seed", "optimizer", "network")
Key = tuple[str, int, int, str, str]
"""Exchange, members, seed, optimizer, network."""


def normalised(width: int) -> dict[str, Any]:
    """A dense layer, three binary ones behind batch normalisation, and a dense one."""
    hidden = [{"layer": "ramp"}, {"layer": "batchnorm"}]
    binary = [{"layer": "hadamard_linear", "out": width}, *hidden]
    first = [{"layer": "flatten"}, {"layer": "linear", "out": width}, *hidden]
    layers = [*first, *binary * 3, {"layer": "linear", "bias": True}]
    return {"layers": layers, "beta_w": 16, "beta_a": 16, "cut": 1.0, "cut_a": 1.0}


def seeds_own(width: int) -> dict[str, Any]:
    """The seed's network."""
    return {"width": width, "beta_w": 4, "beta_a": 4, "cut": 0.0, "cut_a": 0.0}


NETWORKS = {"normalised": normalised, "seed": seeds_own}


def job(exchange: str, optimizer: str, network: str, seed: int, width: int, epochs: int) -> JobSpec:
    """The job that is trained."""
    training = {"epochs": epochs, "batch": 120, "seed": seed, **OPTIMIZERS[optimizer]}
    return parse_spec(
        {
            "name": "exchanges",
            "network": NETWORKS[network](width),
            "training": training,
            "exchange": EXCHANGES[exchange],
        }
    )


def runs(
    data: Dataset, wanted: Sequence[Key], width: int, epochs: int, done: set[Key]
) -> Iterator[dict[str, Any]]:
    """Every wanted run that is not in `done`, as a line of the result."""
    for exchange, members, seed, optimizer, network in wanted:
        if (exchange, members, seed, optimizer, network) in done:
            continue
        spec = job(exchange, optimizer, network, seed, width, epochs)
        begun = time.perf_counter()
        ring = trained_ring(spec, data, members)
        yield {
            "exchange": exchange,
            "members": members,
            "seed": seed,
            "optimizer": optimizer,
            "network": network,
            "accuracy": round(100 * ring["accuracy"], 2),
            "bits": round(_bits_a_batch(spec, data, ring), 4),
            "parameters": ring["parameters"],
            "steps": ring["steps"],
            "seconds": round(time.perf_counter() - begun, 1),
            "job": dataclasses.asdict(spec),
        }


def _bits_a_batch(spec: JobSpec, data: Dataset, ring: dict[str, Any]) -> float:
    """Bits a parameter and batch; with local steps a step of the ring is several batches."""
    batches = spec.training.epochs * steps_per_epoch(len(data.y_train), spec.training.batch)
    return float(ring["bits_a_parameter_and_step"] * ring["steps"] / batches)


def table(lines: Sequence[dict[str, Any]]) -> str:
    """Markdown: accuracies, their mean, its difference to `float32`, and bits, for each ring."""
    rows = ["| network, optimizer, members | exchange | accuracy, % | mean | to float32 | bits |"]
    rows.append("|" + "---|" * 6)
    rings: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for line in sorted(lines, key=lambda line: int(line["seed"])):
        ring = f"{line['network']}, {line['optimizer']}, {line['members']}"
        rings.setdefault(ring, {}).setdefault(line["exchange"], []).append(line)
    for ring, found in sorted(rings.items()):
        rows += [_row(ring, exchange, found) for exchange in EXCHANGES if exchange in found]
    return "\n".join(rows)


def _row(ring: str, exchange: str, found: dict[str, list[dict[str, Any]]]) -> str:
    """The difference is that of the seeds that both have."""
    own = {line["seed"]: line["accuracy"] for line in found[exchange]}
    base = {line["seed"]: line["accuracy"] for line in found.get(BASE, [])}
    both = [own[seed] - base[seed] for seed in own if seed in base]
    change = f"{statistics.fmean(both):+.2f}" if both else "-"
    bits = statistics.fmean(line["bits"] for line in found[exchange])
    accuracies = " ".join(f"{value:.2f}" for value in own.values())
    mean = statistics.fmean(own.values())
    return f"| {ring} | {exchange} | {accuracies} | {mean:.2f} | {change} | {bits:.2f} |"


def main() -> None:
    """Run what is missing, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data", nargs="?", default="fashion_mnist", help="file or known data set")
    parser.add_argument("--json", type=Path, required=True, help="file of results, appended to")
    parser.add_argument("--only", nargs="+", choices=EXCHANGES, default=list(EXCHANGES))
    parser.add_argument("--members", type=int, nargs="+", default=[4])
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="Adam 2e-3")
    parser.add_argument("--network", choices=NETWORKS, default="normalised")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--table", action="store_true", help="print what the file says")
    options = parser.parse_args()
    lines = []
    if options.json.exists():
        lines = [json.loads(line) for line in options.json.read_text().splitlines()]
    if options.table:
        print(table(lines))
        return
    torch.set_num_threads(1)
    done = {tuple(line[key] for key in KEY) for line in lines}
    wanted = [
        (exchange, members, seed, options.optimizer, options.network)
        for members in options.members
        for seed in options.seeds
        for exchange in options.only
    ]
    data = load_dataset(options.data)
    for line in runs(data, wanted, options.width, options.epochs, done):
        with options.json.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(
            *(line[key] for key in ("exchange", "members", "seed", "accuracy", "bits", "seconds"))
        )


if __name__ == "__main__":
    main()
