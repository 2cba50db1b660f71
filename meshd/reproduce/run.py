"""Running an experiment: its result, with the machine and the seconds that it took."""

from __future__ import annotations

import dataclasses
import time

import torch

from meshd.bench import machine
from meshd.reproduce.result import Experiment, Options, Result, Say


def perform(experiment: Experiment, options: Options, say: Say = lambda words: None) -> Result:
    """Run it on `options.threads` threads.

    Raises:
        UsageError: it cannot run with these options, or on this data.
    """
    started, before = time.monotonic(), torch.get_num_threads()
    torch.set_num_threads(options.threads)
    try:
        result = experiment.run(options, say)
    finally:
        torch.set_num_threads(before)
    about = machine.describe(machine.available_cores()) | {"threads": options.threads}
    seconds = round(time.monotonic() - started, 1)
    return dataclasses.replace(result, machine=about, seconds=seconds, quick=options.quick)
