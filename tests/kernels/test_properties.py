"""What must hold whatever the numbers: the algebra of the operations, without the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshd.bits import layout, ops, reference

# The fixture only chooses the instruction set, so it may serve all examples of a test.
each_example = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
pytestmark = pytest.mark.usefixtures("isa")

seeds = st.integers(0, 2**32 - 1)
lengths = st.integers(1, 400)
cuts = st.integers(1, 150)


def gaussian(seed: int, *shape: int) -> layout.Floats:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


@each_example
@given(seed=seeds, k=lengths, beta=cuts)
def test_binarizing_keeps_signs_and_mean_magnitudes(seed: int, k: int, beta: int) -> None:
    x = gaussian(seed, 2, k)
    h = ops.unpack_signed(*ops.pack_signed(x, beta), beta, k)
    assert np.array_equal(h >= 0, x >= 0)
    for begin in range(0, k, beta):
        mean = np.abs(x[:, begin : begin + beta].astype(np.float64)).mean(axis=1)
        np.testing.assert_allclose(np.abs(h[:, begin]), mean, rtol=1e-5)


@each_example
@given(seed=seeds, k=lengths, beta=cuts)
def test_binarizing_twice_changes_no_bit(seed: int, k: int, beta: int) -> None:
    words, scales = ops.pack_signed(gaussian(seed, 2, k), beta)
    again, _ = ops.pack_signed(ops.unpack_signed(words, scales, beta, k), beta)
    assert np.array_equal(words, again)


@each_example
@given(
    seed=seeds,
    k=lengths,
    fine=cuts,
    factor=st.integers(1, 5),
    coarse_is_a=st.booleans(),
    coding=st.sampled_from(["signed", "unipolar"]),
)
def test_product_is_that_of_the_unpacked_matrices(
    seed: int, k: int, fine: int, factor: int, coarse_is_a: bool, coding: str
) -> None:
    beta_a, beta_w = (fine * factor, fine) if coarse_is_a else (fine, fine * factor)
    a = getattr(ops, f"pack_{coding}")(gaussian(seed, 3, k), beta_a)
    w = ops.pack_signed(gaussian(seed + 1, 11, k), beta_w)
    got = getattr(ops, f"product_{coding}")(*a, beta_a, *w, beta_w, k)
    dense_a = getattr(ops, f"unpack_{coding}")(*a, beta_a, k).astype(np.float64)
    dense_w = ops.unpack_signed(*w, beta_w, k).astype(np.float64)
    np.testing.assert_allclose(got, dense_a @ dense_w.T, rtol=0, atol=1e-5 * k)


@each_example
@given(seed=seeds, n=lengths, voters=st.integers(0, 40))
def test_planes_hold_the_number_of_votes(seed: int, n: int, voters: int) -> None:
    votes = np.random.default_rng(seed).integers(0, 2, (voters, n), np.uint8)
    planes = np.zeros((layout.plane_count(voters), layout.words(n)), np.uint64)
    for bits in reference.pack_bits(votes):
        ops.planes_add(planes, bits)
    assert np.array_equal(reference.planes_counts(planes, n), votes.sum(axis=0))


@each_example
@given(seed=seeds, n=lengths, gamma=cuts)
def test_what_is_sent_and_what_is_carried_add_up(seed: int, n: int, gamma: int) -> None:
    """One member with its own scale: grad + carried before = sent + carried after."""
    grad, carried = gaussian(seed, n), gaussian(seed + 1, n)
    total = grad.astype(np.float64) + carried
    bits, scale = ops.carry_binarize(grad, carried, 1.0, gamma)
    ops.carry_settle(carried, bits, scale, gamma)
    sent = ops.apply_votes(bits[None, :], 1, scale, gamma, n)
    np.testing.assert_allclose(sent.astype(np.float64) + carried, total, rtol=0, atol=1e-5)
