"""Runs to read: what happens when a member dies, leaves, joins, is left behind, is parted.

MESHD_REWRITE=1 python -m pytest tests/sim/test_ring_stories.py      write them anew; commit only a
                                                                    difference that you understand
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import ring_faults as faults
from ring_links import Weather
from ring_replay import check, check_nothing_lost
from ring_schedules import keys
from ring_story import Story
from ring_toy import ToyJob
from ring_world import World

from meshd.core.ring.effects import FrameHead

JOB = ToyJob(buckets=(0, 0, 0, 0), shared=frozenset({3}), copies=2, steps=4, batch=6)


class Once:
    """Do something when the n-th message of a kind arrives; it may be lost."""

    def __init__(self, what: str, number: int, act: Callable[[str, str], str | None]) -> None:
        self.what, self.left, self.act = what, number, act

    def __call__(self, what: str, a: str, b: str, head: FrameHead | None) -> str | None:
        if what == self.what:
            self.left -= 1
            return self.act(a, b) if self.left == 0 else None
        return None


def kill(world: World) -> None:
    """A member dies in the middle of step 1."""
    world.links.hook = Once("REDUCE", 9, lambda a, b: faults.kill(world, "m1"))


def captain(world: World) -> None:
    """The captain dies in the middle of step 1."""
    world.links.hook = Once("REDUCE", 9, lambda a, b: faults.kill(world, "m0"))


def leave(world: World) -> None:
    """A member's owner is back in the middle of step 1."""
    world.links.hook = Once("REDUCE", 9, lambda a, b: faults.leave(world, "m1"))


def join(world: World) -> None:
    """A machine joins, while the members train."""
    world.after(0.3, lambda: faults.join(world))


def behind(world: World) -> None:
    """The last result of step 0 is lost with its link: one member is left behind by the step."""

    def break_link(a: str, b: str) -> str:
        faults.break_link(world, a, b)
        return "lose"

    world.links.hook = Once("FINISHED", 3, break_link)


def partition(world: World) -> None:
    """One member is cut off while step 1 runs, and comes back when the others have gone on."""
    world.links.hook = Once("REDUCE", 9, lambda a, b: faults.cut(world, {"m2"}, 2.5))


STORIES = {
    "kill": (kill, 0.02),
    "captain": (captain, 0.02),
    "leave": (leave, 0.02),
    "join": (join, 0.5),
    "behind": (behind, 0.02),
    "partition": (partition, 1.2),
}


@pytest.mark.parametrize("which", STORIES)
def test_story(which: str) -> None:
    prepare, compute_s = STORIES[which]
    job = replace(JOB, steps=6) if which == "partition" else JOB
    world = World(1, job, keys(3), Weather(), compute_s)
    prepare(world)
    story = Story(world)
    assert world.run(60.0)
    finished = next(node for node in world.living() if node.finished)
    check(world, finished)
    check_nothing_lost(world, finished)
    text = "\n".join([str(prepare.__doc__), "", *story.lines, ""])
    path = Path(__file__).parent / "golden" / f"{which}.txt"
    if os.environ.get("MESHD_REWRITE"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    expected = path.read_text()
    difference = difflib.unified_diff(expected.splitlines(), text.splitlines(), lineterm="", n=1)
    assert text == expected, "\n".join(difference)
