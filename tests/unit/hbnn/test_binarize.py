"""Binarization against its definition, its gradient against hand-computed ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.hbnn.binarize import expand_scales, hadamard_binarize, quantize_scales, segment_scales
from meshd.hbnn.tensor_bits import pack_bits, unpack_bits

BETAS = (1, 2, 3, 5, 7, 16, 64, 100, 130, 1000)


@pytest.mark.parametrize("coding", ["signed", "unipolar"])
@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("length", [1, 63, 64, 100, 130])
def test_is_the_definition(normal, oracle, beta, length, coding):
    x = normal(3, length)
    x[0, ::3] = 0.0  # a Ramp leaves such zeros, and there the codings differ
    result = hadamard_binarize(x, beta, coding)
    assert result.dtype == torch.float32 and result.shape == x.shape
    np.testing.assert_allclose(result.numpy(), oracle(x, beta, coding), rtol=1e-6, atol=0)


@given(
    values=st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=40),
    beta=st.integers(1, 50),
    coding=st.sampled_from(["signed", "unipolar"]),
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_every_segment_has_one_magnitude(values, beta, coding):
    x = torch.tensor(values, dtype=torch.float64)
    result = hadamard_binarize(x, beta, coding)
    for start in range(0, len(values), beta):
        segment = values[start : start + beta]
        scale = math.fsum(map(abs, segment)) / len(segment)
        negative = -scale if coding == "signed" else 0.0
        wanted = [scale if v > 0 or (v == 0 and coding == "signed") else negative for v in segment]
        got = result[start : start + beta].tolist()
        assert got == pytest.approx(wanted, rel=1e-12, abs=1e-12)


def test_the_last_segment_is_averaged_over_its_own_length():
    x = torch.tensor([1.0, -3.0, 2.0, -5.0, 7.0])
    assert hadamard_binarize(x, 2).tolist() == [2.0, -2.0, 3.5, -3.5, 7.0]
    assert hadamard_binarize(x, 3).tolist() == [2.0, -2.0, 2.0, -6.0, 6.0]
    assert hadamard_binarize(x, 9).tolist() == pytest.approx([3.6, -3.6, 3.6, -3.6, 3.6])


def test_zero_is_plus_in_the_signed_coding_and_nothing_in_the_unipolar_one():
    x = torch.tensor([0.0, 2.0, -0.0, -2.0])
    assert hadamard_binarize(x, 4, "signed").tolist() == [1.0, 1.0, 1.0, -1.0]
    assert hadamard_binarize(x, 4, "unipolar").tolist() == [0.0, 1.0, 0.0, 0.0]


def test_beta_one_keeps_the_vector(normal):
    x = normal(4, 9)
    assert torch.equal(hadamard_binarize(x, 1, "signed"), x)
    assert torch.equal(hadamard_binarize(x, 1, "unipolar"), torch.relu(x))


def test_any_leading_dimensions_and_float64(normal):
    x = normal(2, 3, 10).double()
    result = hadamard_binarize(x, 4)
    assert result.dtype == torch.float64
    for i in range(2):
        for j in range(3):
            assert torch.equal(result[i, j], hadamard_binarize(x[i, j], 4))


@pytest.mark.parametrize("beta", BETAS)
def test_signed_binarization_is_idempotent(normal, beta):
    once = hadamard_binarize(normal(5, 130), beta)
    torch.testing.assert_close(hadamard_binarize(once, beta), once)


@pytest.mark.parametrize("beta", BETAS)
def test_unipolar_binarization_again_shrinks_by_the_share_of_ones(normal, beta):
    once = hadamard_binarize(torch.relu(normal(5, 130)), beta, "unipolar")
    share = expand_scales(segment_scales((once > 0).float(), beta), beta, 130)
    torch.testing.assert_close(hadamard_binarize(once, beta, "unipolar"), once * share)
    if beta > 1:
        assert not torch.allclose(hadamard_binarize(once, beta, "unipolar"), once)


@pytest.mark.parametrize("coding", ["signed", "unipolar"])
@pytest.mark.parametrize(
    ("cut", "wanted"),
    [
        (1.0, [0.0, 2.0, 3.0, 4.0, 5.0, 0.0]),  # at the cut itself the gradient passes
        (0.5, [0.0, 0.0, 3.0, 4.0, 0.0, 0.0]),
        (None, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
    ],
)
def test_gradient_passes_straight_through_up_to_the_cut(coding, cut, wanted):
    x = torch.tensor([-1.5, -1.0, -0.25, 0.0, 1.0, 1.25], requires_grad=True)
    (
        hadamard_binarize(x, 4, coding, cut) * torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    ).sum().backward()
    assert x.grad is not None and x.grad.tolist() == wanted


@pytest.mark.parametrize(
    ("cut", "wanted"), [(1.0, [0, 0, 1.5, 2, 0, 0]), (2.0, [0.5, 1, 1.75, 2, 1, 0.75])]
)
def test_polynomial_gradient_falls_to_zero_at_the_cut(cut, wanted):
    """2 - 2|x| for cut 1 (Bi-Real Net); kept in a byte, so to 1/255."""
    x = torch.tensor([-1.5, -1.0, -0.25, 0.0, 1.0, 1.25], requires_grad=True)
    hadamard_binarize(x, 4, "signed", cut, "polynomial").sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == pytest.approx(wanted, abs=1.01 / 255)


@pytest.mark.parametrize("length", [1, 7, 8, 9, 64, 100])
def test_bits_of_the_tensor_implementation_are_those_of_words(length):
    mask = torch.rand(3, length, generator=torch.Generator().manual_seed(length)) < 0.5
    packed = pack_bits(mask)
    padded = np.pad(mask.numpy(), ((0, 0), (0, -length % 64)))
    wanted = np.packbits(padded, axis=1, bitorder="little")
    assert packed.dtype == torch.uint8 and np.array_equal(packed.numpy(), wanted)
    assert torch.equal(unpack_bits(packed, length), mask)


def test_a_random_direction_is_kept_to_37_degrees():
    """The seed's figure: arccos(sqrt(2 / pi)) = 37.07 degrees as the length grows."""
    seed = 5
    print(f"seed {seed}")
    x = torch.randn(200_000, generator=torch.Generator().manual_seed(seed))
    angles = []
    for beta in (len(x), 64, 4):
        cosine = torch.nn.functional.cosine_similarity(x, hadamard_binarize(x, beta), dim=0)
        angles.append(math.degrees(math.acos(float(cosine))))
    assert angles[0] == pytest.approx(math.degrees(math.acos(math.sqrt(2 / math.pi))), abs=0.2)
    assert angles[0] > angles[1] > angles[2]  # shorter segments follow the vector closer


@pytest.mark.parametrize(
    ("x", "options", "said"),
    [
        (torch.zeros(3), {"beta": 0}, "beta must be an integer of at least 1, not 0"),
        (torch.zeros(3), {"beta": 2.0}, "beta must be an integer"),
        (torch.zeros(3), {"beta": True}, "beta must be an integer"),
        (torch.zeros(3), {"beta": 2, "coding": "ternary"}, "not 'ternary'"),
        (torch.zeros(3), {"beta": 2, "cut": 0.0}, "cut must be a positive"),
        (torch.zeros(3), {"beta": 2, "cut": float("nan")}, "cut must be a positive"),
        (torch.zeros(3), {"beta": 2, "estimator": "linear"}, "not 'linear'"),
        (torch.zeros(2, 0), {"beta": 2}, r"nothing to binarize .* shape \(2, 0\)"),
        (torch.tensor(1.0), {"beta": 2}, "nothing to binarize"),
        (torch.zeros(3, dtype=torch.int64), {"beta": 2}, "only floating tensors"),
    ],
)
def test_says_what_is_wrong(x, options, said):
    with pytest.raises(ValueError, match=said):
        hadamard_binarize(x, **options)


def test_scales_round_to_float16_ties_to_even():
    step = 2.0**-10  # float16's spacing in [1, 2)
    scales = torch.tensor([1 + step / 2, 1 + 1.5 * step, 1 + 0.51 * step, 0.0, 65504.0])
    rounded = quantize_scales(scales)
    assert rounded.dtype == torch.float32
    assert rounded.tolist() == [1.0, 1 + 2 * step, 1 + step, 0.0, 65504.0]
    assert torch.equal(quantize_scales(rounded), rounded)


@pytest.mark.parametrize("bad", [70000.0, float("inf"), float("nan"), -0.5])
def test_scales_without_a_16_bit_form_are_refused(bad):
    with pytest.raises(ValueError, match="the weights have diverged"):
        quantize_scales(torch.tensor([0.5, bad]))
