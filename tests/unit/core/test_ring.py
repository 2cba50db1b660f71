"""Ring order: the same for the same members, in whatever order they are named."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshd.core.ring import ring_order
from meshd.core.types import Generation, JobId, MachineKey

keys = st.sets(st.text("abcdef", min_size=3, max_size=8), min_size=1, max_size=12)


@given(keys, st.randoms(use_true_random=False))
def test_order_depends_on_the_set_alone(names: set[str], random) -> None:
    shuffled = list(names)
    random.shuffle(shuffled)
    members = [MachineKey(name) for name in names]
    again = [MachineKey(name) for name in shuffled]
    job, generation = JobId("0" * 32), Generation(3)
    order = ring_order(job, generation, members)
    assert order == ring_order(job, generation, [*again, *again])
    assert set(order) == set(members) and len(order) == len(members)


def test_jobs_have_different_neighbours() -> None:
    members = [MachineKey(f"m{i}") for i in range(10)]
    orders = {ring_order(JobId(f"{job:032x}"), Generation(1), members) for job in range(20)}
    assert len(orders) > 15
