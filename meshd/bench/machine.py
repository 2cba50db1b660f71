"""The machine that is measured: what it is, and a process that stays on its cores."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from meshd import __version__
from meshd.bits import ops

CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


def available_cores() -> list[int]:
    """The cores that this process may run on, in ascending order."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


@contextlib.contextmanager
def pinned(threads: int) -> Iterator[list[int]]:
    """Keep the process on its last `threads` cores, and torch at as many threads; undo both after.

    The last ones, because interrupts and other people's programs tend to be on the first. One core
    a thread leaves nothing for a scheduler to decide between two repeats.

    Raises:
        ValueError: there are fewer cores than threads.
    """
    cores = available_cores()
    if not 1 <= threads <= len(cores):
        raise ValueError(f"threads: must be 1 to {len(cores)}, the cores to run on, got {threads}")
    chosen, threads_before = cores[-threads:], torch.get_num_threads()
    try:
        pin(chosen)
        torch.set_num_threads(threads)
        yield chosen
    finally:
        pin(cores)
        torch.set_num_threads(threads_before)


def pin(cores: list[int]) -> None:
    """Run this thread, and those that it starts from now on, on these cores only."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def describe(cores: list[int]) -> dict[str, Any]:
    """What a reader needs to compare two runs."""
    return {
        "processor": processor_name(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": os.cpu_count(),
        "pinned_to": cores,
        "threads": len(cores),
        "caches": cache_sizes(),
        "isa": ops.isa(),
        "isas": ops.list_isas(),
        "meshd": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The name that the processor gives itself, else the architecture's."""
    with contextlib.suppress(OSError):
        for line in cpuinfo.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def cache_sizes(folder: Path = CACHES) -> dict[str, str]:
    """Sizes by name, as in `{"L1 data": "32K", "L3 unified": "32768K"}`; empty where unknown."""
    sizes = {}
    for index in sorted(folder.glob("index*")):
        with contextlib.suppress(OSError):
            level, kind, size = (
                (index / name).read_text().strip() for name in ("level", "type", "size")
            )
            sizes[f"L{level} {kind.lower()}"] = size
    return sizes
