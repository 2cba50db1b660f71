"""The slice map: every parameter in one slice, whole rows and whole words."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.slices import TensorShape, cut_slices, padding_ranges

tensors = st.lists(
    st.tuples(st.integers(1, 300), st.integers(1, 700), st.sampled_from([0, 1, 16, 64, 999])),
    min_size=1,
    max_size=6,
).map(lambda rows: [TensorShape(f"t{i}", *row) for i, row in enumerate(rows)])
gammas = st.sampled_from([64, 128, 256, 1024])


@given(tensors, gammas)
def test_every_element_lies_in_exactly_one_slice(shapes: list[TensorShape], gamma: int) -> None:
    slice_map = cut_slices(shapes, gamma)
    covered: dict[str, list[tuple[int, int]]] = {}
    for part in slice_map.slices:
        covered.setdefault(part.tensor.name, []).append((part.start, part.stop))
    for tensor in shapes:
        ranges = sorted(covered[tensor.name])
        assert ranges[0][0] == 0 and ranges[-1][1] == tensor.size
        assert all(a[1] == b[0] for a, b in itertools.pairwise(ranges))
    assert slice_map.parameters == sum(tensor.size for tensor in shapes)


@given(tensors, gammas)
def test_slices_are_aligned_rows_and_dense_come_first(
    shapes: list[TensorShape], gamma: int
) -> None:
    slice_map = cut_slices(shapes, gamma)
    offset = 0
    for index, part in enumerate(slice_map.slices):
        assert (part.index, part.offset) == (index, offset)
        assert part.offset % gamma == 0 and part.padded % gamma == 0
        assert 0 <= part.padded - part.size < gamma
        if part.binary:
            assert part.start % part.tensor.columns == 0 == part.stop % part.tensor.columns
            assert part.rows[0] < part.rows[1]
        offset += part.padded
    kinds = [part.binary for part in slice_map.slices]
    assert kinds == sorted(kinds)
    assert sum(b - a for a, b in padding_ranges(slice_map)) == offset - slice_map.parameters


@pytest.mark.parametrize("gamma", [0, -64, 1, 63, 100])
def test_gamma_must_be_whole_words(gamma: int) -> None:
    with pytest.raises(ValueError, match="multiple of 64"):
        cut_slices([TensorShape("a", 1, 1, 0)], gamma)
