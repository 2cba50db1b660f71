"""From ACKs to a ring: each rule of `make_plan`'s module, by example and for any answers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.ring.agreement import NO_RING, Ack, Cargo, Plan, RingId, Transfer
from meshd.core.ring.plan import Shape, Stall, common_steps, make_plan
from meshd.core.types import MachineKey

SHAPE = Shape(sizes=(10, 10, 10), buckets=(0, 0, 1), weights=(1, 1, 1), copies=2)
EVERY = (0, 1, 2)


def ring(generation: int, captain: str = "a") -> RingId:
    return RingId(generation, MachineKey(captain))


def keys(names: str) -> tuple[MachineKey, ...]:
    return tuple(MachineKey(name) for name in names)


def ack(
    step: int,
    held: tuple[int, ...] = EVERY,
    past: str = "abc",
    running: RingId = NO_RING,
    leaving: bool = False,
    speed: float = 0.0,
    going: tuple[int, ...] = (),
    history: tuple[tuple[RingId, int], ...] | None = None,
) -> Ack:
    if history is None:
        history = ((ring(1), 0),) if step > 0 else ()
    order = keys(past) if history else ()
    return Ack(ring(9), step, history, running, held, going, speed, leaving, past=order)


def plan_of(acks: dict[str, Ack], shape: Shape = SHAPE, floor: int = 0) -> Plan:
    plan = make_plan(ring(9), answers(acks), keys("abc"), shape, floor)
    assert isinstance(plan, Plan), plan
    assert not plan.fault()
    return plan


def answers(acks: dict[str, Ack]) -> dict[MachineKey, Ack]:
    return {MachineKey(name): one for name, one in acks.items()}


def sent(plan: Plan, cargo: Cargo) -> list[tuple[str, str, int]]:
    return [(t.donor, t.receiver, t.index) for t in plan.transfers if t.cargo is cargo]


def test_at_the_start_everybody_has_all_and_nothing_is_sent() -> None:
    plan = plan_of({"a": ack(0), "b": ack(0), "c": ack(0)})
    assert (plan.order, plan.step, plan.history) == (keys("abc"), 0, ())
    assert plan.transfers == ()
    assert plan.thrown_away == ()


def test_rule_1_the_highest_step_counts() -> None:
    plan = plan_of({"a": ack(4), "b": ack(7), "c": ack(4)})
    assert plan.step == 7
    assert plan.history == ((ring(1), 0),)


def test_rule_1_of_two_histories_the_later_one_that_is_whole() -> None:
    short = ((ring(1), 0), (ring(2), 5))
    long = ((ring(1), 0), (ring(2, "b"), 5))
    acks = {"a": ack(6, history=short), "b": ack(9, history=long)}
    assert plan_of(acks).step == 9
    assert plan_of(acks).thrown_away == ((MachineKey("a"), 1),)
    acks["b"] = ack(9, held=(0, 1), history=long)
    plan = plan_of(acks)
    assert plan.step == 6
    assert plan.thrown_away == ((MachineKey("b"), 4),)
    assert plan.history == short


def test_rule_1_of_two_of_one_step_the_one_of_more_machines() -> None:
    one, other = ((ring(5), 0),), ((ring(6, "b"), 0),)
    acks = {n: ack(3, history=one) for n in "abc"} | {"d": ack(3, history=other)}
    assert plan_of(acks).history == one


@pytest.mark.parametrize("floor", [1, 4])
def test_rule_1_nothing_below_the_floor(floor: int) -> None:
    acks = {"a": ack(4, held=(0,)), "b": ack(0)}
    stall = make_plan(ring(9), answers(acks), keys("abc"), SHAPE, floor)
    assert stall == Stall(4, (1, 2))
    assert make_plan(ring(9), answers({"b": ack(0)}), (), SHAPE, floor) == Stall(floor, EVERY)
    assert plan_of(acks).step == 0


def test_rule_2_who_was_left_behind_hears_it_round_the_old_ring() -> None:
    behind = ack(6, running=ring(1))
    plan = plan_of({"a": behind, "b": ack(7), "c": behind})
    assert plan.step == 7
    assert sent(plan, Cargo.PAST) == [("c", "a", 0), ("b", "c", 0)]
    assert sent(plan, Cargo.SLICE) == []
    assert plan.thrown_away == ()


def test_rule_2_a_member_of_another_ring_or_of_an_earlier_step_is_not_behind() -> None:
    acks = {
        "a": ack(7, past="abcd"),
        "b": ack(6, running=ring(2)),
        "c": ack(5, running=ring(1)),
        "d": ack(6),
    }
    assert sent(plan_of(acks), Cargo.PAST) == []


def test_rule_2_a_newcomer_to_the_state_cannot_tell_of_the_step() -> None:
    """d was filled at step 7: it has no results of step 6."""
    behind = ack(6, running=ring(1))
    plan = plan_of({"a": ack(7), "b": behind, "d": ack(7, past="")})
    assert sent(plan, Cargo.PAST) == [("a", "b", 0)]
    plan = plan_of({"b": behind, "d": ack(7, past="")})
    assert sent(plan, Cargo.PAST) == []
    assert ("d", "b", 0) in sent(plan, Cargo.SLICE)


def test_rule_2_slices_that_the_step_does_not_move_are_gone_with_it() -> None:
    behind = ack(6, held=(0, 2), running=ring(1), going=(2,))
    stall = make_plan(ring(9), answers({"a": ack(7, held=(1,)), "b": behind}), keys("ab"), SHAPE, 7)
    assert stall == Stall(7, (2,))


def test_rule_3_everyone_else_gets_what_it_needs() -> None:
    plan = plan_of({"a": ack(7), "b": ack(7), "d": ack(-1, held=())})
    rank = plan.order.index(MachineKey("d"))
    held = plan.held_by(rank)
    assert held
    assert {index for _, to, index in sent(plan, Cargo.SLICE) if to == "d"} == set(held)
    assert {index for _, to, index in sent(plan, Cargo.WEIGHTS)} == set(EVERY) - set(held)
    donors = {donor for donor, *_ in sent(plan, Cargo.SLICE) + sent(plan, Cargo.WEIGHTS)}
    assert donors == {"a", "b"}


def test_rule_3_statistics_where_there_are_any() -> None:
    shape = Shape((10,), (0,), (1,), 1, statistics=True)
    acks = {"a": ack(7, held=(0,)), "d": ack(-1, held=())}
    assert sent(plan_of(acks, shape), Cargo.STATISTICS) == [("a", "d", 0)]


def test_rule_4_slices_stay() -> None:
    old = plan_of({name: ack(0) for name in "abc"})
    acks = {n: ack(7, held=old.held_by(rank)) for rank, n in enumerate("abc")}
    again = plan_of(acks)
    assert (again.order, again.owners, again.transfers) == (old.order, old.owners, ())
    del acks["b"]
    without = plan_of(acks)
    assert without.order == keys("ac")
    assert len(sent(without, Cargo.SLICE)) == 2  # the dead one held two of six copies


def test_shared_slices_are_held_by_all() -> None:
    shape = Shape((10, 10), (0, 0), (1, 0), 1)
    assert shape.shared == {1}
    plan = plan_of({"a": ack(7), "b": ack(7), "d": ack(-1, held=())}, shape)
    assert plan.holders(1) == tuple((plan.owners[1] + k) % 3 for k in range(3))
    assert ("d", 1) in [(to, index) for _, to, index in sent(plan, Cargo.SLICE)]


def test_a_leaver_gives_its_slices_and_its_error() -> None:
    acks = {"a": ack(7, (0,)), "b": ack(7, (1, 2), leaving=True), "c": ack(7, (0,))}
    plan = plan_of(acks)
    assert plan.order == keys("ac")
    assert {index for donor, _, index in sent(plan, Cargo.SLICE) if donor == "b"} == {1, 2}
    assert sent(plan, Cargo.CARRIED) == [("b", "c", index) for index in range(3)]
    shape = Shape((10,) * 3, (0, 0, 1), (1,) * 3, 2, carries=False)
    assert sent(plan_of(acks, shape), Cargo.CARRIED) == []


def test_the_last_by_name_gives_to_the_first() -> None:
    plan = plan_of({"a": ack(7), "b": ack(7), "c": ack(7, leaving=True)})
    assert sent(plan, Cargo.CARRIED) == [("c", "a", index) for index in range(3)]


def test_a_leaver_of_another_state_gives_nothing() -> None:
    plan = plan_of({"a": ack(7), "b": ack(3, leaving=True)})
    assert sent(plan, Cargo.CARRIED) == []
    assert plan.order == keys("a")


def test_when_all_leave_there_is_no_ring() -> None:
    acks = answers({"a": ack(7, leaving=True)})
    assert make_plan(ring(9), acks, keys("a"), SHAPE) == Stall(7, ())


def test_nothing_is_no_state() -> None:
    stall = make_plan(ring(9), answers({"a": ack(-1, held=())}), keys("a"), SHAPE)
    assert stall == Stall(0, EVERY)


@pytest.mark.parametrize("speed", [math.inf, math.nan, -1.0, 0.0])
def test_a_speed_that_is_none_counts_as_the_mean(speed: float) -> None:
    plan = plan_of({"a": ack(7, speed=4.0), "b": ack(7, speed=speed)})
    assert set(plan.order) == set(keys("ab"))


def test_slices_that_do_not_exist_are_nobodys() -> None:
    assert plan_of({"a": ack(7, held=(-1, 0, 1, 2, 3, 99))}).owners == (0, 0, 0)


# --- histories -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "history", "other_step", "other", "common"),
    [
        (7, ((ring(1), 0),), 7, ((ring(1), 0),), 7),
        (7, ((ring(1), 0),), 5, ((ring(1), 0),), 5),
        (7, ((ring(1), 0),), 9, ((ring(1), 0), (ring(2), 5)), 5),
        (7, ((ring(1), 0), (ring(3), 6)), 9, ((ring(1), 0), (ring(2), 5)), 5),
        (7, ((ring(1), 0),), 9, ((ring(2), 0),), 0),
        (7, ((ring(1), 4),), 9, ((ring(2), 4),), 4),
        (4, (), 9, ((ring(2), 4),), 4),
        (0, (), 9, ((ring(2), 0),), 0),
        (4, (), 4, (), 4),
        (9, ((ring(3), 7), (ring(4), 8)), 9, ((ring(2), 5), (ring(3), 7), (ring(5), 8)), 8),
    ],
)
def test_common_steps(step, history, other_step, other, common) -> None:  # type: ignore[no-untyped-def]
    assert common_steps(step, history, other_step, other) == common
    assert common_steps(other_step, other, step, history) == common


@given(st.data())
def test_common_steps_against_a_list_of_who_committed_each_step(data: st.DataObject) -> None:
    shared = data.draw(st.lists(st.integers(1, 4), max_size=4))
    tails = [data.draw(st.lists(st.integers(1, 4), max_size=4)) for _ in range(2)]
    sides = []
    for side, tail in enumerate(tails):
        rings = [(ring(n + 1, "x"), count) for n, count in enumerate(shared)]
        rings += [(ring(n + 9, "yz"[side]), count) for n, count in enumerate(tail)]
        steps = [one for one, count in rings for _ in range(count)]
        history, at = [], 0
        for one, count in rings:
            history.append((one, at))
            at += count
        sides.append((steps, tuple(history)))
    (one, history), (two, other) = sides
    expected = sum(1 for a, b in zip(one, two, strict=False) if a == b)
    assert common_steps(len(one), history, len(two), other) == expected
    cut = data.draw(st.integers(1, 8))
    if any(entry in other[-cut:] for entry in history[-cut:]):
        assert common_steps(len(one), history[-cut:], len(two), other[-cut:]) == expected


# --- any answers ---------------------------------------------------------------------------------

histories = st.sampled_from([(), ((ring(1), 0),), ((ring(1), 0), (ring(2), 2)), ((ring(3), 0),)])
any_ack = st.builds(
    Ack,
    ring=st.just(ring(9)),
    step=st.integers(-1, 4),
    history=histories,
    running=st.sampled_from([NO_RING, ring(1), ring(2), ring(3)]),
    held=st.lists(st.integers(-1, 4), max_size=5).map(tuple),
    going=st.lists(st.integers(0, 2), max_size=2).map(tuple),
    speed=st.floats(),
    leaving=st.booleans(),
    past=st.sampled_from([(), keys("abc"), keys("cdba")]),
)


@given(
    acks=st.dictionaries(st.sampled_from(keys("abcdef")), any_ack, min_size=1),
    before=st.sampled_from([keys("abc"), keys("dcba"), ()]),
    copies=st.integers(1, 4),
    shared=st.booleans(),
    floor=st.integers(0, 4),
)
def test_any_answers_give_a_sound_plan_or_a_stall(
    acks: dict[MachineKey, Ack],
    before: tuple[MachineKey, ...],
    copies: int,
    shared: bool,
    floor: int,
) -> None:
    shape = Shape((10, 20, 30), (0, 0, 1), (1, 1, 0 if shared else 1), copies, statistics=True)
    plan = make_plan(ring(9), acks, before, shape, floor)
    if isinstance(plan, Stall):
        return
    assert not plan.fault()
    assert plan.step >= floor
    assert set(plan.order) == {key for key, one in acks.items() if not one.leaving}
    at = {k for k, one in acks.items() if (one.step, one.history) == (plan.step, plan.history)}
    known = at | {t.receiver for t in plan.transfers if t.cargo is Cargo.PAST}
    came: set[Transfer] = set()
    for transfer in plan.transfers:
        assert transfer not in came
        came.add(transfer)
        assert transfer.donor in known
        if transfer.cargo is Cargo.SLICE:
            assert transfer.index in acks[transfer.donor].held
    for rank, key in enumerate(plan.order):
        brought = {t.index for t in came if t.receiver == key and t.cargo is Cargo.SLICE}
        assert set(plan.held_by(rank)) <= brought | (set(acks[key].held) if key in known else set())
        if key not in known:
            seen = {t.index for t in came if t.receiver == key and t.cargo is Cargo.WEIGHTS}
            assert seen | set(plan.held_by(rank)) == {0, 1, 2}
    for key in known - at:  # the results reach each from who has them
        assert acks[key].step == plan.step - 1
        way, here = {key}, key
        while here not in at:
            here = next(t.donor for t in came if t.cargo is Cargo.PAST and t.receiver == here)
            assert here not in way
            way.add(here)
        assert acks[here].past
