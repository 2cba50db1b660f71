"""Who gets which machines, and the sentence for who does not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshd.core.scheduler import Machine, Request, ring_order, schedule
from meshd.core.types import JobId, MachineKey


def machine(number, available=True, why="is free"):
    return Machine(MachineKey(f"{number:02d}" * 20), f"desk-{number}", available, why)


def request(number, least, most=8, at=None):
    return Request(JobId(f"{number:032x}"), float(number if at is None else at), least, most)


def test_a_job_takes_what_is_free_up_to_its_most():
    machines = [machine(n) for n in range(5)]
    (decision,) = schedule([request(1, 2, 3)], machines)
    assert len(decision.machines) == 3
    assert decision.machines == ring_order(request(1, 2).job, [m.key for m in machines])[:3]
    assert decision.reason.startswith("starts on desk-")


def test_who_waits_is_told_for_what():
    machines = [machine(1), machine(2), machine(3, False, "trains fashion")]
    (decision,) = schedule([request(1, 3)], machines)
    assert decision.machines == ()
    assert decision.reason == (
        "waits for 3 machines; 2 are available: desk-1, desk-2; desk-3 trains fashion"
    )


def test_one_machine_is_singular_and_none_is_said():
    (one,) = schedule([request(1, 2)], [machine(1)])
    assert one.reason == "waits for 2 machines; 1 is available: desk-1"
    (none,) = schedule([request(1, 1)], [machine(1, False, "has no torch installed")])
    assert none.reason == "waits for 1 machine; none is available; desk-1 has no torch installed"


def test_a_sentence_names_only_so_many_machines():
    (decision,) = schedule([request(1, 30, 30)], [machine(n) for n in range(20)])
    assert decision.reason.endswith(" and 14 more")


def test_earlier_jobs_come_first_and_one_job_has_a_machine():
    machines = [machine(n) for n in range(3)]
    early, late = schedule([request(2, 1, at=5.0), request(1, 2, 2, at=4.0)], machines)
    assert (early.job, len(early.machines)) == (request(1, 1).job, 2)
    assert len(late.machines) == 1
    assert not set(early.machines) & set(late.machines)


def test_a_job_that_cannot_start_reserves_nothing():
    big, small = schedule([request(1, 3), request(2, 1)], [machine(1), machine(2)])
    assert big.machines == () and len(small.machines) == 2


requests = st.lists(
    st.builds(
        lambda n, least, extra, at: request(n, least, least + extra, at),
        st.integers(0, 9),
        st.integers(1, 5),
        st.integers(0, 5),
        st.integers(0, 3),
    ),
    unique_by=lambda r: r.job,
    max_size=6,
)
machines = st.lists(st.booleans(), max_size=8).map(
    lambda free: [machine(n, ok) for n, ok in enumerate(free)]
)


@given(requests, machines, st.randoms(use_true_random=False))
def test_decisions_are_the_same_everywhere_and_never_share_a_machine(wanted, offered, rng):
    decisions = schedule(wanted, offered)
    rng.shuffle(wanted)
    rng.shuffle(offered)
    assert schedule(wanted, offered) == decisions
    used = [key for decision in decisions for key in decision.machines]
    assert len(used) == len(set(used))
    assert set(used) <= {m.key for m in offered if m.available}
    for decision in decisions:
        asked = next(r for r in wanted if r.job == decision.job)
        assert not decision.machines or asked.least <= len(decision.machines) <= asked.most
        assert decision.reason


@given(requests, machines)
def test_nobody_waits_for_machines_that_lie_idle(wanted, offered):
    decisions = schedule(wanted, offered)
    used = {key for decision in decisions for key in decision.machines}
    idle = sum(m.available and m.key not in used for m in offered)
    for decision in decisions:
        asked = next(r for r in wanted if r.job == decision.job)
        assert decision.machines or asked.least > idle
