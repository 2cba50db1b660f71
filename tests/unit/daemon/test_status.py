"""The status object's sentences, from a node under a virtual clock."""

from __future__ import annotations

import dataclasses

import pytest

from meshd.core.job import advance, new_record, reform, stall
from meshd.core.jobspec import canonical_json, parse_spec
from meshd.core.messages import JobProgress, RingMember, RingName
from meshd.core.node import Node
from meshd.core.site import Identity
from meshd.core.types import BlobId, Generation, MachineKey, Step
from meshd.daemon.status import STALLED_S, build_status, float32_ring_bytes

ME = Identity(MachineKey("a" * 40), "desk-1", "127.0.0.1", 7419, 1, "0.1", 1)


def progress(step: int) -> JobProgress:
    return JobProgress(Step(step), 0, 1.0, -1.0, 1.0, 100)


@pytest.fixture
def node() -> Node:
    """A node whose one job trains on this machine, and has told of step 7 at time 100."""
    node = Node(ME, 0.0)
    spec = canonical_json(parse_spec({"name": "job"}))
    record = new_record(spec, BlobId("da" * 32), 10, ME.key, 1.0)
    ring = (RingMember(ME.key, ME.name, ME.host, 5000),)
    record = advance(record, "form", "desk-1 prepares", captain=ME.key, members=ring)
    record = advance(record, "commit", "trains on desk-1", members=ring, steps=100)
    node.site.registry.put(record)
    job = node.site.registry.get(record.job)
    assert job is not None
    job.told(ME.key, progress(7), 100.0)
    return node


def why(node: Node, now: float) -> str:
    return str(build_status(node, now, 0.0, 0, lambda key: "")["jobs"][0]["why"])


def test_a_ring_that_stands_still_says_for_how_long(node: Node) -> None:
    assert why(node, 100.0 + STALLED_S) == "trains on desk-1"
    assert why(node, 142.0) == "trains on desk-1, but no step was committed for 42 s"


def test_the_same_step_told_again_is_no_progress(node: Node) -> None:
    job = next(iter(node.site.registry))
    job.told(ME.key, progress(7), 130.0)
    assert "no step was committed for 40 s" in why(node, 140.0)
    job.told(ME.key, progress(8), 139.0)
    assert why(node, 140.0) == "trains on desk-1"


def test_a_ring_that_waits_says_for_what_and_which_ring_it_is(node: Node) -> None:
    job = next(iter(node.site.registry))
    shown = build_status(node, 101.0, 0.0, 0, lambda key: "")["jobs"][0]
    assert (shown["ring"], shown["stalled"]) == (0, False)
    ring = RingName(Generation(3), ME.key)
    reason = "trains on desk-1; desk-2 was shut down"
    record = reform(job.record, ring, job.record.members, Step(7), reason)
    record = stall(record, "nobody who is there has 4 of the slices; desk-2 was lost")
    node.site.registry.put(record)
    shown = build_status(node, 160.0, 0.0, 0, lambda key: "")["jobs"][0]
    assert (shown["ring"], shown["stalled"], shown["state"]) == (3, True, "training")
    assert shown["why"] == "stalled: nobody who is there has 4 of the slices; desk-2 was lost"
    assert [member["name"] for member in shown["members"]] == ["desk-1"]


def test_savings_are_counted_over_the_steps_of_this_generation(node: Node) -> None:
    """A resumed job showed 118 times less: bytes of this generation against steps of all."""
    job = next(iter(node.site.registry))
    two = (job.record.members[0], dataclasses.replace(job.record.members[0], name="desk-2"))
    resumed = dataclasses.replace(job.record, members=two, parameters=1000, began=Step(600))
    assert float32_ring_bytes(resumed, 700) == 100 * 1000 * 4
    assert float32_ring_bytes(resumed, 600) == 0
