"""The ring's state machines under seeded schedules of faults; a failure names its seed.

python -m pytest tests/sim -k "seed-17"      one schedule again
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from ring_links import Weather
from ring_replay import check
from ring_schedules import FAULTS, LIMIT_S, keys, run_schedule, some_job
from ring_world import World

SCHEDULES, BLOCK = 2600, 200
"""With at most 4 faults each; some 20 ms."""

ROUGH, MOST = 400, 12
"""Schedules with up to so many faults."""

REGRESSIONS = [775, 887, 907, 1249, 1687, 2146, 2284, 2836, 2873, 2942, 3111, 3753, 3839]
"""Seeds that failed once."""


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(3))
def test_undisturbed(size: int, seed: int) -> None:
    job = some_job(random.Random(seed))
    world = World(seed, job, keys(size), Weather())
    assert world.run(LIMIT_S)
    check(world, next(node for node in world.nodes.values() if node.finished))
    assert not world.complaints
    assert len(world.plans) == 1


@pytest.mark.parametrize("seed", REGRESSIONS, ids=lambda seed: f"seed-{seed}")
def test_what_once_failed(seed: int) -> None:
    run_schedule(seed)


@pytest.mark.parametrize("block", range(0, SCHEDULES + ROUGH, BLOCK))
def test_schedules(block: int) -> None:
    fired: Counter[str] = Counter()
    ended = 0
    for seed in range(block, min(block + BLOCK, SCHEDULES + ROUGH)):
        try:
            world = run_schedule(seed, 4 if seed < SCHEDULES else MOST)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        fired += world.fired
        ended += world.ended()
    assert set(FAULTS) - {"two"} <= set(fired), "some fault never fired"
    assert ended > 0.8 * BLOCK


def test_a_seed_is_the_same_schedule_everywhere() -> None:
    code = "import ring_schedules as s; w = s.run_schedule(7); print(len(w.commits), w.now)"
    said = set()
    for salt in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": salt}
        environment["PYTHONPATH"] = os.pathsep.join(sys.path)
        argv = [sys.executable, "-c", code]
        said.add(subprocess.run(argv, env=environment, capture_output=True, check=True).stdout)
    assert len(said) == 1
