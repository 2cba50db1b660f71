"""What training of Hadamard binary networks wants, measured: every setting of `settings`, three
seeds, on the data that is named.

    python -m meshd.reproduce.study mnist.npz fashion_mnist.npz --json study.jsonl
    python -m meshd.reproduce.study --json study.jsonl --table

One line of JSON is appended for each run, at once, and a run whose line is there is not repeated:
the study can be stopped and gone on with. The first seed of all settings comes first.
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

from meshd.reproduce.fit import Samples, fit
from meshd.reproduce.samples import load_samples
from meshd.reproduce.seedlike import scaled_logits, seed_relative, set_beta
from meshd.reproduce.settings import SETTINGS, Setting

WIDTH = 256
SEEDS = (0, 1, 2)


def train_setting(
    setting: Setting, samples: Samples, seed: int, width: int = WIDTH
) -> dict[str, Any]:
    """Train one setting once; losses and test accuracies in percent, epoch by epoch."""
    inputs = samples.x_train[0].numel()
    classes = int(samples.y_train.max()) + 1
    net = seed_relative(setting, inputs, classes, width, seed)
    betas = setting.beta
    begun = time.perf_counter()
    epochs = list(
        fit(
            net,
            lambda x: scaled_logits(net, x, setting.temperature),
            samples,
            setting.recipe,
            seed,
            before_epoch=lambda epoch: set_beta(net, betas[min(epoch, len(betas) - 1)]),
        )
    )
    return {
        "accuracy": [round(epoch.accuracy, 2) for epoch in epochs],
        "loss": [round(epoch.loss, 4) for epoch in epochs],
        "seconds": round(time.perf_counter() - begun, 1),
    }


def runs(
    sources: Sequence[str], seeds: Sequence[int], done: set[tuple[str, str, int]]
) -> Iterator[dict[str, Any]]:
    """Every run that is not in `done`, (data, setting, seed), as a line of the result."""
    samples = {Path(source).stem: load_samples(source) for source in sources}
    for seed in seeds:
        for setting in SETTINGS:
            for name in samples:
                if (name, setting.name, seed) in done:
                    continue
                result = train_setting(setting, samples[name], seed)
                yield {
                    "data": name,
                    "setting": setting.name,
                    "seed": seed,
                    **result,
                    "width": WIDTH,
                    "threads": torch.get_num_threads(),
                    "settings": dataclasses.asdict(setting),
                }


def table(lines: Sequence[dict[str, Any]]) -> str:
    """Markdown: mean of the last epoch's accuracy over seeds, and the difference to the base."""
    found: dict[tuple[str, str], list[float]] = {}
    for line in lines:
        found.setdefault((line["data"], line["setting"]), []).append(line["accuracy"][-1])
    names = sorted({data for data, _ in found})
    rows = [["setting", *names], ["---", *("---" for _ in names)]]
    for setting in SETTINGS:
        cells = [_cell(found, name, setting.name) for name in names]
        rows.append([f"{setting.group}: {setting.name}", *cells])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _cell(found: dict[tuple[str, str], list[float]], data: str, setting: str) -> str:
    """Mean, half the range over seeds, difference to the base."""
    values = found.get((data, setting), [])
    if not values:
        return "-"
    mean, spread = statistics.fmean(values), (max(values) - min(values)) / 2
    base = found.get((data, SETTINGS[0].name), [])
    change = (
        "" if setting == SETTINGS[0].name or not base else f", {mean - statistics.fmean(base):+.1f}"
    )
    return f"{mean:.1f} ± {spread:.1f}{change}"


def main() -> None:
    """Run what is missing, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data", nargs="*", help="data files, or names of known data sets")
    parser.add_argument("--json", type=Path, required=True, help="file of results, appended to")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="print what the file says")
    options = parser.parse_args()
    lines = []
    if options.json.exists():
        lines = [json.loads(line) for line in options.json.read_text().splitlines()]
    if options.table:
        print(table(lines))
        return
    torch.set_num_threads(options.threads)
    done = {(line["data"], line["setting"], line["seed"]) for line in lines}
    for line in runs(options.data, options.seeds, done):
        with options.json.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(line["data"], line["setting"], line["seed"], line["accuracy"], line["seconds"])


if __name__ == "__main__":
    main()
