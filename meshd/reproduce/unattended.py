"""Long trainings that run by themselves on a GPU or on CPU cores and write what they found.

Law: a run is a network's text, a recipe and a goal; after each epoch the file says all that is
known so far, and it is never half written.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from meshd.hbnn.networks import network_from_text, seed_dropout
from meshd.reproduce.fit import Recipe, Samples, fit
from meshd.reproduce.samples import load_samples


@dataclass(frozen=True)
class Training:
    """One network to train. network: its [network] table as TOML. goal: percent to reach."""

    name: str
    network: str
    recipe: Recipe
    goal: float


def train(
    training: Training, samples: Samples, seed: int, backward: str = "exact"
) -> Iterator[dict[str, Any]]:
    """Train once; yields after each epoch what is known of the run.

    `best` is the best test accuracy so far, which has seen the test part; `last` the newest.
    `seconds` counts training and the evaluation after each epoch.
    """
    shape, classes = tuple(samples.x_train.shape[1:]), int(samples.y_train.max()) + 1
    net = network_from_text(training.network, shape, classes, seed, backward)
    seed_dropout(net, seed)
    net.to(samples.y_train.device)
    begun = time.perf_counter()
    accuracies: list[float] = []
    for epoch in fit(net, net, samples, training.recipe, seed):
        accuracies.append(round(epoch.accuracy, 2))
        yield {
            "name": training.name,
            "seed": seed,
            "best": max(accuracies),
            "last": accuracies[-1],
            "goal": training.goal,
            "epochs": epoch.number,
            "accuracy": list(accuracies),
            "loss": round(epoch.loss, 5),
            "seconds": round(time.perf_counter() - begun, 1),
            "backward": backward,
            "threads": torch.get_num_threads(),
            "device": str(samples.y_train.device),
            "recipe": dataclasses.asdict(training.recipe),
        }


def main(
    trainings: Sequence[Training],
    data: str,
    description: str | None,
    arguments: Sequence[str] | None = None,
    say: Callable[[str], object] = print,
) -> list[dict[str, Any]]:
    """Command line of a file that lists trainings; returns the last state of each."""
    options = _options(trainings, data, description, arguments)
    torch.set_num_threads(options.threads)
    samples = load_samples(options.data, options.device)
    results: list[dict[str, Any]] = []
    for seed in options.seeds:
        for training in trainings:
            if options.only not in (None, training.name):
                continue
            recipe = dataclasses.replace(training.recipe, epochs=options.epochs)
            chosen = dataclasses.replace(training, recipe=recipe)
            results.append({})
            for state in train(chosen, samples, seed, options.backward):
                results[-1] = state
                say(_line(state))
                if options.json:
                    _write(options.json, {"results": results})
    return results


def _options(
    trainings: Sequence[Training],
    data: str,
    description: str | None,
    arguments: Sequence[str] | None,
) -> argparse.Namespace:
    """Parse; without arguments those of the process."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    epochs = trainings[0].recipe.epochs
    parser = argparse.ArgumentParser(description=(description or "").split("\n\n")[0])
    parser.add_argument("--data", default=data, help="data file, or a known data set's name")
    parser.add_argument("--device", default=device, help=f"here: {device}")
    parser.add_argument("--epochs", type=int, default=epochs, help=f"{epochs} unless given")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of a CPU")
    parser.add_argument("--backward", default="exact", help='or "int8", "planes(2)"')
    parser.add_argument("--only", choices=[training.name for training in trainings])
    parser.add_argument("--json", type=Path, help="file of results, written after each epoch")
    return parser.parse_args(arguments)


def _line(state: dict[str, Any]) -> str:
    return (
        f"{state['name']} seed {state['seed']} epoch {state['epochs']}: {state['last']:.2f} %,"
        f" best {state['best']:.2f} (goal {state['goal']:.2f}), {state['seconds']:.0f} s"
    )


def _write(path: Path, content: dict[str, Any]) -> None:
    """Replace the file whole, so that a reader never sees half of it."""
    written = path.with_name(path.name + ".part")
    written.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(written, path)
