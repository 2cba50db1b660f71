"""What a member holds: undone steps leave nothing, what moves arrives, rubbish does not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.core.jobspec import parse_spec
from meshd.core.ring.agreement import NO_RING, Cargo, Plan
from meshd.core.ring.replica import BadPayloadError
from meshd.core.ring.route import Phase
from meshd.core.ring.step import StepFrame
from meshd.data.dataset import Dataset
from meshd.hbnn.export import weight_hash
from meshd.train.delta import Form
from meshd.train.holding import SliceHolding
from meshd.train.optimizer import SliceState
from meshd.train.trainer import Trainer

sys.path.insert(0, str(Path(__file__).parent))
from hands import Hands, compute, new_trainer

SEED = 77


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def clusters(samples: int = 50, inputs: int = 21, classes: int = 4) -> Dataset:
    print(f"seed {SEED}")
    generator = np.random.default_rng(SEED)
    centres = generator.integers(0, 200, (classes, inputs))
    y = np.arange(samples) % classes
    x = np.clip(centres[y] + generator.normal(0, 30, (samples, inputs)), 0, 255).astype(np.uint8)
    return Dataset(x, y, x[:9], y[:9], classes, np.float32(1 / 255))


NORMALISED = [
    {"layer": "linear", "out": 35},
    {"layer": "batchnorm"},
    {"layer": "ramp"},
    {"layer": "hadamard_linear", "out": 40},
    {"layer": "ramp"},
    {"layer": "hadamard_linear"},
]


def trainers(
    members: int, kind: str = "votes", copies: int = 2, optimizer: str = "adam", **network: object
) -> list[Trainer]:
    table = {
        "name": "holding",
        "network": {"beta_w": 16, "beta_a": 16, **(network or {"width": 70})},
        "training": {"epochs": 9, "batch": 14, "learning_rate": 1e-2, "optimizer": optimizer},
        "exchange": {"kind": kind, "gamma": 64},
        "mesh": {"copies": copies},
    }
    return [new_trainer(parse_spec(table), clusters()) for _ in range(members)]


def everything(trainer: Trainer) -> tuple[bytes, ...]:
    """All bits of a member's committed state."""
    holding = trainer.holding
    states = [
        array.tobytes()
        for index in sorted(holding.states)
        for array in (holding.states[index].latents, *holding.states[index].moments)
    ]
    packed = [
        array.tobytes()
        for part in holding.slices
        if part.binary
        for array in holding.parameters.packed_of(part)
    ]
    hashed = weight_hash(trainer.net).encode()
    carried = holding.carried_error().tobytes()
    return (repr((holding.step, holding.held())).encode(), hashed, carried, *packed, *states)


@pytest.mark.parametrize("kind", ["votes", "direct", "onebit", "float32"])
def test_a_step_that_is_undone_anywhere_leaves_nothing(kind: str) -> None:
    """After 0, 1, 2, ... frames of a step; then the step runs as if nothing had been."""
    ring, twin = Hands(trainers(3, kind)), Hands(trainers(3, kind))
    ring.run(2)
    twin.run(2)
    before = [everything(trainer) for trainer in ring.trainers]
    flips = [getattr(holding, "flips", 0) for holding in ring.holdings]
    point, ended = 0, False
    while not ended:
        ring.begin()
        ended = True
        for number, _ in enumerate(ring.frames()):
            if number == point:
                ended = False
                break
        for holding in ring.holdings:
            holding.abort()
        assert [everything(trainer) for trainer in ring.trainers] == before, f"frame {point}"
        point += 1
    assert point > 30
    assert [getattr(holding, "flips", 0) for holding in ring.holdings] == flips
    ring.run(2)
    twin.run(2)
    assert [everything(t) for t in ring.trainers] == [everything(t) for t in twin.trainers]


def test_a_step_undone_after_state_moved_keeps_carried_errors() -> None:
    """The same with other members: what was carried goes into the new ring, once."""
    ring = Hands(trainers(3))
    ring.run(3)
    carried = [holding.carried_error() for holding in ring.holdings]
    ring.begin()
    for number, _ in enumerate(ring.frames()):
        if number == 20:
            break
    for holding in ring.holdings:
        holding.abort()
    leaver, heir = ring.holdings[2], ring.holdings[0]
    for part in leaver.slices:
        heir.store(Cargo.CARRIED, part.index, leaver.load(Cargo.CARRIED, part.index))
    assert not leaver.carried.any()
    assert heir.carried_error().tobytes() == (carried[0] + carried[2]).tobytes()
    assert ring.holdings[1].carried_error().tobytes() == carried[1].tobytes()


def last_hop_to(rank: int, size: int):
    def withheld(frame: StepFrame) -> bool:
        gather = frame.phase in (Phase.DECISION, Phase.FINISHED)
        return gather and frame.to == rank and frame.hop == size - 2

    return withheld


def bring(ring: Hands, donor: int, behind: int) -> list[tuple[Phase, bytes]]:
    """As `RingMember` brings a member up to date; returns what was sent."""
    there, here = ring.steps[donor].route, ring.steps[behind]
    sent = []
    for chunk in there.every_chunk():
        decided = there.holds(chunk, behind)
        if decided and not there.holds(chunk):
            continue
        payload = bytes(ring.holdings[donor].past(chunk, decided))
        phase = Phase.DECISION if decided else Phase.FINISHED
        sent.append((phase, payload))
        here.settle(phase, chunk, payload)
    assert here.complete
    ring.holdings[behind].commit()
    return sent


LEFT_BEHIND = [("votes", copies) for copies in (1, 2, 3, 4)]
LEFT_BEHIND += [("direct", 2), ("onebit", 1), ("onebit", 2), ("float32", 2)]


@pytest.mark.parametrize(("kind", "copies"), LEFT_BEHIND)
@pytest.mark.parametrize("donor", [1, 3])
@pytest.mark.parametrize("moved_on", [False, True], ids=["same ring", "another ring"])
def test_who_was_left_behind_ends_with_the_same_bits(
    kind: str, copies: int, donor: int, moved_on: bool
) -> None:
    """From any other member, also one that has begun a step of another ring since."""
    ring, twin = (Hands(trainers(4, kind, copies=copies)) for _ in range(2))
    ring.run(2)
    twin.run(3)
    ring.begin()
    for _ in ring.frames(last_hop_to(2, 4)):
        pass
    assert [step.complete for step in ring.steps] == [True, True, False, True]
    for rank in (0, 1, 3):
        ring.holdings[rank].commit()
    if moved_on:
        order = tuple(reversed(ring.plan.order[:3]))
        owners = tuple(owner % 3 for owner in reversed(ring.plan.owners))
        other = Plan(NO_RING, order, 3, (), owners, copies, ring.plan.shared)
        ring.holdings[donor].lay_out(other, 0)
    bring(ring, donor, 2)
    if not moved_on:
        wanted = [everything(trainer) for trainer in twin.trainers]
        assert [everything(trainer) for trainer in ring.trainers] == wanted
    assert everything(ring.trainers[2]) == everything(twin.trainers[2])


def test_past_weights_come_in_both_forms() -> None:
    """As the difference that went round, and whole from who decided them and passed votes on."""
    forms = set()
    for donor in (0, 1, 3):
        ring = Hands(trainers(4))
        ring.run(3)
        ring.begin()
        for _ in ring.frames(last_hop_to(2, 4)):
            pass
        for rank in (0, 1, 3):
            ring.holdings[rank].commit()
        for chunk in ring.steps[donor].route.every_chunk():
            own = ring.holdings[donor]._chunks[chunk]
            if own.binary and not ring.steps[donor].route.holds(chunk, 2):
                payload = bytes(ring.holdings[donor].past(chunk, False))
                forms.add(Form(payload[own.segments]))
        bring(ring, donor, 2)
    assert forms == {Form.WHOLE, Form.DELTA}


def test_direct_decides_as_the_ring_does_where_scales_are_alike() -> None:
    """With gradients of one size everywhere, no rounding depends on who comes first."""
    one, other = Hands(trainers(5)), Hands(trainers(5, "direct"))
    generator = np.random.default_rng(SEED)
    for pair in zip(one.trainers, other.trainers, strict=True):
        seed = generator.integers(2**31)
        for trainer in pair:
            signs = np.random.default_rng(seed)
            trainer.holding.weight = 0.25
            for tensor in trainer.net.parameters():
                drawn = signs.integers(0, 2, tuple(tensor.shape)) * 2 - 1
                tensor.grad = torch.from_numpy(drawn.astype(np.float32))
    one.run(computed=True)
    other.run(computed=True)
    for a, b in zip(one.trainers, other.trainers, strict=True):
        assert everything(a) == everything(b)
    fresh = trainers(1)[0]
    assert weight_hash(fresh.net) != weight_hash(one.trainers[0].net)


# --- state that moves ----------------------------------------------------------------------------


def scramble(holding: SliceHolding) -> None:
    """Give the network other weights, so that nothing of it is right by chance."""
    for part in holding.slices:
        holding.parameters.set_from_latents(part, np.full(part.size, -7, np.float32))
    holding.parameters.show()


@pytest.mark.parametrize("kind", ["votes", "float32"])
def test_a_newcomer_gets_the_same_network(kind: str) -> None:
    """Dense slices as states, binary ones packed or as states; statistics, too."""
    ring = Hands(trainers(3, kind, layers=NORMALISED))
    ring.run(4)
    (newcomer,) = trainers(1, kind, layers=NORMALISED)
    newcomer.holding.forget()
    scramble(newcomer.holding)
    assert newcomer.holding.held() == ()
    for index, part in enumerate(newcomer.holding.slices):
        donor = ring.holdings[next(iter(ring.plan.holders(index)))]
        shared = donor.shared(part)
        cargo = Cargo.SLICE if shared or index % 3 == 0 else Cargo.WEIGHTS
        donor = donor if cargo is Cargo.SLICE else ring.holdings[index % 3]
        newcomer.holding.store(cargo, index, donor.load(cargo, index))
    statistics = ring.holdings[1].load(Cargo.STATISTICS, 0)
    newcomer.holding.store(Cargo.STATISTICS, 0, statistics)
    assert weight_hash(newcomer.net) == weight_hash(ring.trainers[1].net)
    assert newcomer.statistics.vector().tobytes() == ring.trainers[1].statistics.vector().tobytes()
    for index, state in newcomer.holding.states.items():
        wanted = ring.holdings[ring.plan.owners[index]].states[index]
        assert state.latents.tobytes() == wanted.latents.tobytes()
    held = newcomer.holding.held()
    newcomer.holding.adopt(held)
    missing = set(range(len(newcomer.holding.slices))) - set(held)
    if missing:
        with pytest.raises(BadPayloadError, match="did not come"):
            newcomer.holding.adopt((*held, min(missing)))


def test_what_is_not_kept_goes_with_the_next_step() -> None:
    """After a change of owners both sets are held until a step is committed."""
    ring = Hands(trainers(3))
    ring.run(1)
    holding, before = ring.holdings[0], ring.holdings[0].held()
    owners = tuple((owner + 1) % 3 for owner in ring.plan.owners)
    plan = Plan(NO_RING, ring.plan.order, 1, (), owners, 2, ring.plan.shared)
    for index in plan.held_by(0):
        if index not in before:
            donor = ring.holdings[ring.plan.owners[index]]
            holding.store(Cargo.SLICE, index, donor.load(Cargo.SLICE, index))
    for rank in (1, 2):
        for index in plan.held_by(rank):
            donor = ring.holdings[ring.plan.owners[index]]
            ring.holdings[rank].store(Cargo.SLICE, index, donor.load(Cargo.SLICE, index))
    ring = Hands(ring.trainers, plan)
    assert holding.going() == tuple(sorted(set(before) - set(plan.held_by(0))))
    assert holding.going()
    ring.run(1)
    assert holding.held() == plan.held_by(0)
    assert holding.going() == ()
    assert holding.step == 2
    assert len({weight_hash(trainer.net) for trainer in ring.trainers}) == 1


@pytest.fixture(scope="module")
def pair() -> tuple[Trainer, Trainer]:
    return tuple(trainers(2, layers=NORMALISED))


CARGOES = [Cargo.SLICE, Cargo.WEIGHTS, Cargo.CARRIED, Cargo.STATISTICS]


def first_of(holding: SliceHolding, cargo: Cargo) -> int:
    return next(p.index for p in holding.slices if p.binary) if cargo is Cargo.WEIGHTS else 0


@pytest.mark.parametrize("cargo", CARGOES, ids=lambda cargo: cargo.name)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_what_cannot_be_is_refused_and_changes_nothing(cargo: Cargo, pair, data) -> None:
    """Other lengths, and any numbers in the right length: then only what is possible is taken."""
    donor, receiver = pair
    index = first_of(donor.holding, cargo)
    sound = bytes(donor.holding.load(cargo, index))
    words = st.sampled_from([np.nan, np.inf, -np.inf, -1.0, 3e38, -3e38, 65505.0, 0.5])
    if data.draw(st.booleans()):
        length = data.draw(st.sampled_from([0, 1, len(sound) - 1, len(sound) + 1, 2 * len(sound)]))
        payload = (sound * 2)[:length]
    else:
        numbers = bytearray(sound)
        for place, value in data.draw(
            st.lists(st.tuples(st.integers(0, len(sound) // 4 - 1), words), min_size=1)
        ):
            numbers[4 * place : 4 * place + 4] = np.float32(value).tobytes()
        payload = bytes(numbers)
    before = everything(receiver), receiver.statistics.vector().tobytes()
    try:
        receiver.holding.store(cargo, index, payload)
    except BadPayloadError as error:
        assert "\n" not in str(error)
        assert (everything(receiver), receiver.statistics.vector().tobytes()) == before
        return
    assert len(payload) == len(sound)
    assert np.isfinite(receiver.holding.carried_error()).all()
    assert receiver.statistics.are_possible(receiver.statistics.vector())
    state = receiver.holding.states[0]
    assert all(np.isfinite(array).all() for array in (state.latents, *state.moments))
    assert (state.moments[1] >= 0).all()
    receiver.holding.store(cargo, index, sound)
    if cargo is Cargo.CARRIED:
        receiver.holding.hand_over(index)


def test_latents_that_no_network_shows_are_refused() -> None:
    """Finite, but beyond float16 as a scale: the sender is at fault, and training has not ended."""
    (trainer,) = trainers(1)
    part = next(part for part in trainer.holding.slices if part.binary)
    huge = SliceState.begin(np.full(part.size, 1e6, np.float32), 2)
    before = everything(trainer)
    trainer.holding.states[part.index], sound = huge, trainer.holding.states[part.index]
    payload = trainer.holding.load(Cargo.SLICE, part.index)
    trainer.holding.states[part.index] = sound
    with pytest.raises(BadPayloadError, match="beyond what weights can be"):
        trainer.holding.store(Cargo.SLICE, part.index, payload)
    assert everything(trainer) == before


def test_where_nothing_is_carried_nothing_is_taken_over() -> None:
    (trainer,) = trainers(1, "float32")
    assert trainer.holding.load(Cargo.CARRIED, 0) == b""
    trainer.holding.store(Cargo.CARRIED, 0, b"")
    with pytest.raises(BadPayloadError, match="where nothing is carried"):
        trainer.holding.store(Cargo.CARRIED, 0, bytes(4))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_carried_errors_keep_their_sum(pair, seed: int) -> None:
    """Handed over they are added, element by element; of the leaver's nothing is left."""
    leaver, heir = (trainer.holding for trainer in pair)
    generator = np.random.default_rng(seed)
    real = leaver.parameters.real_places()
    for holding in (leaver, heir):
        holding.set_carried(generator.standard_normal(int(real.sum()), np.float32))
    total = leaver.carried_error() + heir.carried_error()
    for part in leaver.slices:
        heir.take_over(part.index, leaver.hand_over(part.index))
    assert heir.carried_error().tobytes() == total.tobytes()
    assert not leaver.carried.any() and not heir.carried[~real].any()
    heir.carried[:] = 0


def test_a_gradient_is_the_holdings_weight_times_the_members() -> None:
    """Shares of unequal size: what all members want adds up to the batch's mean gradient."""
    ring, alone = trainers(3), trainers(1)[0]
    compute(alone, 0, 1)
    size = alone.parameters.slice_map.padded
    whole, total = np.zeros(size, np.float32), np.zeros(size, np.float32)
    alone.parameters.copy_gradient(0, size, alone.holding.weight, whole)
    for rank, trainer in enumerate(ring):
        compute(trainer, rank, 3)
        part = np.zeros(size, np.float32)
        trainer.parameters.copy_gradient(0, size, trainer.holding.weight, part)
        total += part
    np.testing.assert_allclose(total, whole, rtol=0, atol=1e-5)
    assert np.abs(whole).max() > 1e-3
