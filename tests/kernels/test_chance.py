"""Arguments spoiled by chance: every function answers with a result or with an error that names an
argument, changes nothing that it should only read, and never ends the process."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from valid_calls import CALLS, Arguments, Array, Shape, is_written, valid

from meshd.bits import ops

SHAPES = st.builds(
    Shape,
    rows=st.integers(0, 4),
    k=st.sampled_from([0, 1, 63, 64, 65, 130]),
    beta=st.sampled_from([1, 3, 16, 64, 200]),
    members=st.integers(1, 9),
)


def other_dtype(a: Array) -> object:
    return a.astype(np.float16 if a.dtype == np.float32 else np.int32)


def longer(a: Array) -> object:
    return np.zeros((*a.shape[:-1], a.shape[-1] + 1), a.dtype)


def shorter(a: Array) -> object:
    return a[..., :-1].copy()


def strided(a: Array) -> object:
    return np.repeat(a, 2, axis=-1)[..., ::2]


def backwards(a: Array) -> object:
    return a[..., ::-1]


def transposed(a: Array) -> object:
    return a.T


def misaligned(a: Array) -> object:
    shifted = np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype)
    return shifted.reshape(a.shape)


def read_only(a: Array) -> object:
    a.flags.writeable = False
    return a


def flat(a: Array) -> object:
    return a.reshape(-1)


def foreign(a: Array) -> object:
    return a.tolist()


SPOILERS: list[Callable[[Array], object]] = [
    *(other_dtype, longer, shorter, strided, backwards, transposed),
    *(misaligned, read_only, flat, foreign),
]
NUMBERS = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.integers(0, 300), st.floats(), st.none(), st.text()
)


def spoiled(data: st.DataObject, arguments: Arguments) -> Arguments:
    """The arguments with one or more of them replaced; sometimes two arrays are the same memory."""
    names = data.draw(st.sets(st.sampled_from(sorted(arguments)), min_size=1, max_size=3))
    result = dict(arguments)
    for name in sorted(names):
        if isinstance(result[name], np.ndarray):
            result[name] = data.draw(st.sampled_from(SPOILERS))(result[name])
        else:
            result[name] = data.draw(NUMBERS)
    arrays = [name for name, value in result.items() if isinstance(value, np.ndarray)]
    if arrays and data.draw(st.booleans()):
        first, second = (data.draw(st.sampled_from(arrays)) for _ in range(2))
        result[first] = result[second]
    return result


@given(data=st.data(), op=st.sampled_from(sorted(CALLS)), shape=SHAPES)
def test_a_call_gives_a_result_or_names_an_argument(
    data: st.DataObject, op: str, shape: Shape
) -> None:
    arguments = spoiled(data, valid(op, shape))
    written = {id(value) for name, value in arguments.items() if is_written(op, name)}
    before = [
        (name, value, value.copy())
        for name, value in arguments.items()
        if isinstance(value, np.ndarray) and id(value) not in written
    ]
    try:
        getattr(ops, op)(**arguments)
    except (TypeError, ValueError) as error:
        assert any(name in str(error) for name in arguments), error
    for name, now, then in before:
        assert np.array_equal(now, then, equal_nan=now.dtype.kind == "f"), f"{name} was changed"
