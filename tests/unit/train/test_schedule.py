"""Learning rates: what each schedule says at its ends, and bits that no library decides."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.jobspec import TrainingSpec
from meshd.train.schedule import LearningRate, cosine_of_pi

STEPS, PER_EPOCH = 101, 10
GOLDEN = [
    "0x1.0000000000000p+0",
    "0x1.e6f0e134454ffp-1",
    "0x1.6a09e667f3bcdp-1",
    "0x1.0000000000001p-1",
    "0x0.0p+0",
    "-0x1.6a09e667f3bcdp-1",
    "-0x1.0000000000000p+0",
]


def rates(**settings: object) -> list[float]:
    rate = LearningRate(TrainingSpec(learning_rate=0.1, **settings), STEPS, PER_EPOCH)
    return [rate.at(step) for step in range(STEPS)]


@given(st.floats(0, 1))
def test_the_cosine_is_the_cosine(x: float) -> None:
    assert cosine_of_pi(x) == pytest.approx(math.cos(math.pi * x), abs=5e-16)


def test_the_cosines_bits_are_these() -> None:
    """Computed once; another machine, Python or library must not change the last of them."""
    places = [0.0, 0.1, 0.25, 1 / 3, 0.5, 0.75, 1.0]
    assert [cosine_of_pi(x).hex() for x in places] == GOLDEN


def test_constant_stays() -> None:
    assert set(rates(schedule="constant")) == {0.1}


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("final", [0.0, 0.05, 1.0])
def test_falling_schedules_begin_and_end_where_they_should(kind: str, final: float) -> None:
    got = rates(schedule=kind, final_rate=final)
    assert got[0] == pytest.approx(0.1, rel=1e-15)
    assert got[-1] == pytest.approx(0.1 * final, abs=1e-16)
    assert got[50] == pytest.approx(0.1 * (1 + final) / 2)
    assert got == sorted(got, reverse=True)


def test_cosine_is_the_textbooks() -> None:
    wanted = [0.1 * (1 + math.cos(math.pi * step / 100)) / 2 for step in range(STEPS)]
    assert rates(schedule="cosine", final_rate=0.0) == pytest.approx(wanted, abs=1e-16)


def test_step_falls_between_epochs() -> None:
    got = rates(schedule="step", step_epochs=3, step_factor=0.5)
    assert got[29] == 0.1
    assert got[30] == got[59] == 0.05
    assert got[60] == 0.025
    assert got[-1] == 0.1 * 0.5**3


@pytest.mark.parametrize("kind", ["constant", "linear", "cosine"])
def test_warm_up_rises_to_the_rate_and_the_schedule_begins_there(kind: str) -> None:
    got = rates(schedule=kind, warmup=20, final_rate=0.0)
    assert got[:20] == pytest.approx([0.1 * (step + 1) / 20 for step in range(20)])
    assert got[20] == pytest.approx(0.1)
    assert got[-1] == pytest.approx(0.1 if kind == "constant" else 0.0, abs=1e-16)


def test_a_warm_up_longer_than_the_run_only_rises() -> None:
    got = rates(warmup=1000)
    assert got == sorted(got)
    assert got[-1] == pytest.approx(0.1 * STEPS / 1000)
