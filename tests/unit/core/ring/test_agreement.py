"""What rings are named, and what no plan can say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from meshd.core.ring.agreement import NO_RING, Ack, Cargo, Plan, RingId, Transfer
from meshd.core.types import MachineKey

A, B = MachineKey("a"), MachineKey("b")
PLAN = Plan(RingId(1, A), (A, B), 3, ((RingId(1, A), 0),), (0, 1, 0), 2)


def test_the_higher_generation_counts_then_the_captain_then_the_process() -> None:
    rings = [NO_RING, RingId(1, A), RingId(1, A, 7), RingId(1, B), RingId(2, A)]
    assert sorted(reversed(rings)) == rings
    assert len({ring.mark for ring in rings}) == len(rings)


def test_the_last_ring_is_the_lineage() -> None:
    assert Ack(RingId(2, A), 0).lineage == NO_RING
    assert Ack(RingId(2, A), 3, PLAN.history).lineage == RingId(1, A)


def test_a_plan() -> None:
    assert PLAN.fault() == ""
    assert PLAN.holders(1) == (1, 0)
    assert replace(PLAN, copies=1, shared=frozenset({2})).held_by(1) == (1, 2)


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ({"order": ()}, "at least one member"),
        ({"order": (A, A)}, "each of them once"),
        ({"step": -1}, "before the first step"),
        ({"copies": 0}, "keeps no copy"),
        ({"owners": ()}, "nobody's"),
        ({"owners": (0, 2, 0)}, "nobody's"),
        ({"owners": (0, -1, 0)}, "nobody's"),
        ({"transfers": (Transfer(Cargo.SLICE, 0, A, A),)}, "itself"),
        ({"transfers": (Transfer(Cargo.SLICE, 3, A, B),)}, "no slice"),
        ({"transfers": (Transfer(Cargo.WEIGHTS, -1, A, B),)}, "no slice"),
    ],
)
def test_what_no_plan_can_say(what: dict, why: str) -> None:
    assert why in replace(PLAN, **what).fault()
