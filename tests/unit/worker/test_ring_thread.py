"""An elastic ring over real links: deaths, wrong memory, leaving, in one process of threads."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from meshd.core.jobspec import JobSpec, parse_spec
from meshd.data.dataset import Dataset
from meshd.data.load import load_npz
from meshd.train.trainer import Differs, Event, Stepped

sys.path.insert(0, str(Path(__file__).parent))
from ring_group import Group, One

SEED = 3


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    print(f"seed {SEED}")
    generator = np.random.default_rng(SEED)
    x = generator.integers(0, 256, (120, 5, 6), np.uint8)
    y = (x.mean(axis=(1, 2)) > 127).astype(np.uint8)
    np.savez(tmp_path / "d.npz", x_train=x[:100], y_train=y[:100], x_test=x[100:], y_test=y[100:])
    return load_npz(tmp_path / "d.npz")


def spec_of(kind: str = "votes", epochs: int = 12, **exchange: int) -> JobSpec:
    training = {"epochs": epochs, "batch": 20, "learning_rate": 1e-2, "seed": SEED}
    return parse_spec(
        {
            "name": "test",
            "network": {"width": 70},
            "training": training,
            "exchange": {"kind": kind, **exchange},
        }
    )


def at_step(one: One, step: int, act: object) -> None:
    """Let something happen once, in a member's compute thread, after a step."""
    done: list[int] = []

    def look(event: Event) -> None:
        if isinstance(event, Stepped) and event.step >= step and not done:
            done.append(step)
            act()  # type: ignore[operator]

    one.on_event = look


@pytest.mark.parametrize("kind", ["votes", "direct", "onebit", "float32"])
def test_members_agree_to_the_last_bit(tmp_path: Path, data: Dataset, kind: str) -> None:
    group = Group(tmp_path, spec_of(kind), data, 3)
    group.run()
    assert len({one.hash for one in group.members}) == 1 and group.members[0].hash
    assert not group.complaints and len(group.formed) == 1


@pytest.mark.parametrize("kind", ["votes", "direct", "float32"])
def test_a_member_that_dies_is_left_out(tmp_path: Path, data: Dataset, kind: str) -> None:
    group = Group(tmp_path, spec_of(kind), data, 4)
    victim = group.members[2]

    def die() -> None:
        victim.die()
        raise SystemExit

    at_step(victim, 20, die)
    group.run()
    rest = [one for one in group.members if one is not victim]
    assert len({one.hash for one in rest}) == 1 and rest[0].hash
    order = group.formed[-1].plan.order
    assert set(order) == {one.key for one in rest} and group.formed[-1].plan.step >= 20
    steps = [event.step for event in rest[0].events if isinstance(event, Stepped)]
    assert steps == list(range(1, 61)), "each step is committed once"


def test_wrong_state_is_named_and_mended(tmp_path: Path, data: Dataset) -> None:
    """Of a slice that the victim backs up: its owner is believed."""
    group = Group(tmp_path, spec_of(epochs=50), data, 3)
    victim = group.members[1]
    struck: list[int] = []

    def flip() -> None:
        holding, plan, rank = victim.trainer.holding, victim.ring.plan, victim.ring.rank
        struck.append(next(i for i, owner in enumerate(plan.owners) if owner == (rank - 1) % 3))
        holding.states[struck[0]].moments[0][0] += 1e-3

    at_step(victim, 100, flip)  # after the step, before the watch: no weight shows it yet
    group.run()
    said = [event for event in group.members[0].events if isinstance(event, Differs)]
    what = f"holds another state of slice {struck[0]} than the others"
    assert said == [Differs(100, ((victim.key, what),))]
    assert len({one.hash for one in group.members}) == 1 and group.members[0].hash
    assert len(group.formed) == 2


def test_wrong_weights_are_noticed_with_the_next_difference(tmp_path: Path, data: Dataset) -> None:
    group = Group(tmp_path, spec_of(), data, 4)
    victim = group.members[1]

    def flip() -> None:
        holding = victim.trainer.holding
        part = next(p for p in holding.slices if p.binary and p.index not in holding.states)
        words, scales = holding.parameters.packed_of(part)
        holding.parameters.set_packed(part, words ^ np.uint64(1), scales)

    at_step(victim, 30, flip)
    group.run()
    assert {(said.about, said.why[:23]) for said in group.complaints} == {
        (victim.key, "the weights are damaged")
    }
    assert len({one.hash for one in group.members}) == 1 and group.members[0].hash
    assert len(group.formed) == 2
