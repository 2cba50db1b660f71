"""What the kernels must not see: each bad argument is refused by name, and nothing is written."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from meshd.bits import layout, ops

ROWS, K, BETA, MEMBERS = 3, 70, 32, 5

Arguments = dict[str, Any]


def zeros(dtype: type[np.generic], *shape: int) -> npt.NDArray[Any]:
    return np.zeros(shape, dtype)


def packed(prefix: str = "") -> Arguments:
    return {
        f"{prefix}words": zeros(np.uint64, ROWS, 2),
        f"{prefix}scales": zeros(np.float32, ROWS, 3),
    }


def pack() -> Arguments:
    return {"x": zeros(np.float32, ROWS, K), "beta": BETA, **packed("out_")}


def unpack() -> Arguments:
    return {**packed(), "beta": BETA, "k": K, "out": zeros(np.float32, ROWS, K)}


def product() -> Arguments:
    cuts = {"beta_a": BETA, "beta_w": BETA, "k": K}
    return {**packed("a_"), **packed("w_"), **cuts, "out": zeros(np.float32, ROWS, ROWS)}


def carry_binarize() -> Arguments:
    vectors = {"grad": zeros(np.float32, K), "carried": zeros(np.float32, K)}
    outputs = {"out_bits": zeros(np.uint64, 2), "out_means": zeros(np.float32, 3)}
    return {**vectors, "weight": 1.0, "gamma": BETA, **outputs}


def carry_settle() -> Arguments:
    read = {"bits": zeros(np.uint64, 2), "scale": zeros(np.float32, 3)}
    return {"carried": zeros(np.float32, K), **read, "gamma": BETA}


def planes_add() -> Arguments:
    return {"planes": zeros(np.uint64, 3, 2), "bits": zeros(np.uint64, 2)}


def apply_votes() -> Arguments:
    read = {"planes": zeros(np.uint64, 3, 2), "members": MEMBERS, "scale": zeros(np.float32, 3)}
    return {**read, "gamma": BETA, "n": K, "out": zeros(np.float32, K)}


VALID: dict[str, Callable[[], Arguments]] = {
    "pack_signed": pack,
    "pack_unipolar": pack,
    "unpack_signed": unpack,
    "unpack_unipolar": unpack,
    "product_signed": product,
    "product_unipolar": product,
    "carry_binarize": carry_binarize,
    "carry_settle": carry_settle,
    "planes_add": planes_add,
    "apply_votes": apply_votes,
}
ARRAYS = [
    (op, name)
    for op, valid in VALID.items()
    for name, value in valid().items()
    if isinstance(value, np.ndarray)
]
# The array from which an operation learns the size of the others.
LEADERS = {"x", "grad", "planes_add planes", "carry_settle carried"}
FOLLOWERS = [(op, name) for op, name in ARRAYS if not {name, f"{op} {name}"} & LEADERS]
WRITTEN = [
    (op, name)
    for op, name in ARRAYS
    if name.startswith("out") or name == "carried" or (op, name) == ("planes_add", "planes")
]


def refused(op: str, arguments: Arguments, error: type[Exception], text: str) -> None:
    before = {n: a.copy() for n, a in arguments.items() if isinstance(a, np.ndarray)}
    with pytest.raises(error, match=text):
        getattr(ops, op)(**arguments)
    for name, array in before.items():
        assert np.array_equal(arguments[name], array), f"{name} was changed"


@pytest.mark.parametrize("op", VALID)
def test_the_valid_arguments_are_valid(op: str) -> None:
    getattr(ops, op)(**VALID[op]())


@pytest.mark.parametrize(("op", "name"), ARRAYS)
def test_wrong_dtype(op: str, name: str) -> None:
    arguments = VALID[op]()
    wrong = np.int64 if arguments[name].dtype == np.uint64 else np.float64
    arguments[name] = arguments[name].astype(wrong)
    refused(op, arguments, TypeError, rf"^{name}: expected a dense .* got {wrong.__name__}$")


@pytest.mark.parametrize(("op", "name"), ARRAYS)
def test_foreign_byte_order(op: str, name: str) -> None:
    arguments = VALID[op]()
    arguments[name] = arguments[name].astype(arguments[name].dtype.newbyteorder())
    refused(op, arguments, TypeError, rf"^{name}: ")


@pytest.mark.parametrize(("op", "name"), ARRAYS)
@pytest.mark.parametrize("wrong", [[1.0], b"12345678901234567", "x", 3])
def test_not_an_array(op: str, name: str, wrong: object) -> None:
    text = rf"^{name}: expected a .* got (uint8|{type(wrong).__name__})$"
    refused(op, VALID[op]() | {name: wrong}, TypeError, text)


@pytest.mark.parametrize(("op", "name"), [a for a in ARRAYS if not a[1].startswith("out")])
def test_no_array(op: str, name: str) -> None:
    refused(op, VALID[op]() | {name: None}, TypeError, rf"^{name}: expected a .* got NoneType$")


@pytest.mark.parametrize(("op", "name"), ARRAYS)
def test_wrong_number_of_dimensions(op: str, name: str) -> None:
    arguments = VALID[op]()
    arguments[name] = arguments[name][None]
    refused(op, arguments, ValueError, rf"^{name}: expected .* dimension")


@pytest.mark.parametrize(("op", "name"), FOLLOWERS)
@pytest.mark.parametrize("difference", [-1, 1])
def test_wrong_length(op: str, name: str, difference: int) -> None:
    arguments = VALID[op]()
    shape = list(arguments[name].shape)
    shape[-1] += difference
    arguments[name] = np.zeros(shape, arguments[name].dtype)
    given = re.escape(str(tuple(shape)))
    refused(op, arguments, ValueError, rf"^{name}: expected shape \(.*\), got {given}$")


@pytest.mark.parametrize(
    ("op", "name"),
    [
        ("pack_signed", "out_words"),
        ("pack_unipolar", "out_scales"),
        ("unpack_signed", "scales"),
        ("unpack_unipolar", "out"),
        ("product_signed", "a_scales"),
        ("product_unipolar", "w_scales"),
        ("product_signed", "out"),
        ("apply_votes", "planes"),
    ],
)
def test_wrong_number_of_rows(op: str, name: str) -> None:
    arguments = VALID[op]()
    arguments[name] = np.concatenate([arguments[name], arguments[name][:1]])
    refused(op, arguments, ValueError, rf"^{name}: expected shape ")


@pytest.mark.parametrize(("op", "name"), ARRAYS)
def test_not_contiguous(op: str, name: str) -> None:
    arguments = VALID[op]()
    arguments[name] = np.repeat(arguments[name], 2, axis=-1)[..., ::2]
    refused(op, arguments, ValueError, rf"^{name}: is not C-contiguous")


@pytest.mark.parametrize(("op", "name"), ARRAYS)
def test_not_aligned(op: str, name: str) -> None:
    arguments = VALID[op]()
    array = arguments[name]
    shifted = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype)
    arguments[name] = shifted.reshape(array.shape)
    refused(op, arguments, ValueError, rf"^{name}: is not aligned")


@pytest.mark.parametrize(("op", "name"), WRITTEN)
def test_read_only_output(op: str, name: str) -> None:
    arguments = VALID[op]()
    arguments[name].flags.writeable = False
    refused(op, arguments, ValueError, rf"^{name}: is read-only")


@pytest.mark.parametrize("op", VALID)
def test_read_only_inputs_are_fine(op: str) -> None:
    arguments = VALID[op]()
    for name, value in arguments.items():
        if isinstance(value, np.ndarray) and (op, name) not in WRITTEN:
            value.flags.writeable = False
    getattr(ops, op)(**arguments)


@pytest.mark.parametrize(
    ("op", "changes", "text"),
    [
        ("pack_signed", {"beta": 0}, "beta: must be at least 1, got 0"),
        ("pack_signed", {"beta": 0, "out_scales": None}, "beta: must be at least 1, got 0"),
        ("unpack_signed", {"beta": -1}, "beta: must be at least 1, got -1"),
        ("unpack_signed", {"k": -1}, "k: must be 0 to 2147483647, got -1"),
        ("unpack_signed", {"k": -1, "out": None}, "k: must be at least 0, got -1"),
        ("unpack_signed", {"k": 2**31}, "k: must be 0 to 2147483647, got 2147483648"),
        ("product_signed", {"beta_a": 0}, "beta_a: must be at least 1, got 0"),
        ("product_unipolar", {"beta_w": 0}, "beta_w: must be at least 1, got 0"),
        ("carry_binarize", {"gamma": 0}, "gamma: must be at least 1, got 0"),
        ("carry_binarize", {"gamma": 0, "out_means": None}, "gamma: must be at least 1, got 0"),
        ("carry_settle", {"gamma": 0}, "gamma: must be at least 1, got 0"),
        ("apply_votes", {"gamma": 0}, "gamma: must be at least 1, got 0"),
        ("apply_votes", {"members": 0}, "members: must be 1 to 65535, got 0"),
        ("apply_votes", {"members": 65536}, "members: must be 1 to 65535, got 65536"),
        ("apply_votes", {"n": -1}, "n: must be 0 to "),
        ("apply_votes", {"n": -1, "out": None}, "n: must be at least 0, got -1"),
    ],
)
def test_a_number_out_of_bounds(op: str, changes: Arguments, text: str) -> None:
    refused(op, VALID[op]() | changes, ValueError, f"^{text}")


NOT_NUMBERS = [
    (op, name, wrong)
    for op, valid in VALID.items()
    for name, value in valid().items()
    for wrong in (["32", None] if name == "weight" else ["32", None, 2.5, 2**70])
    if not isinstance(value, np.ndarray)
]


@pytest.mark.parametrize(("op", "name", "wrong"), NOT_NUMBERS)
def test_not_the_right_kind_of_number(op: str, name: str, wrong: object) -> None:
    refused(
        op, VALID[op]() | {name: wrong}, TypeError, rf"^{name}: expected an? .*(integer|number)"
    )


@pytest.mark.parametrize(("beta_a", "beta_w"), [(2, 3), (3, 2), (32, 48), (69, 32), (32, 69)])
def test_cuts_of_which_neither_refines_the_other(beta_a: int, beta_w: int) -> None:
    a = ops.pack_signed(zeros(np.float32, 1, K), beta_a)
    w = ops.pack_signed(zeros(np.float32, 1, K), beta_w)
    for op in (ops.product_signed, ops.product_unipolar):
        with pytest.raises(ValueError, match=r"^beta_a, beta_w: one must divide the other"):
            op(*a, beta_a, *w, beta_w, K)


def test_layout_refuses_what_has_no_meaning() -> None:
    for call, text in (
        (lambda: layout.words(-1), "n: must be at least 0, got -1"),
        (lambda: layout.segments(-1, 1), "k: must be at least 0, got -1"),
        (lambda: layout.segments(1, 0), "beta: must be at least 1, got 0"),
        (lambda: layout.plane_count(-1), "members: must be at least 0, got -1"),
        (lambda: layout.padding_is_zero(zeros(np.uint64, 2), 64), "packed: expected 1 words"),
    ):
        with pytest.raises(ValueError, match=text):
            call()
    with pytest.raises(TypeError):
        layout.segments(64, 2.5)  # type: ignore[arg-type]


def test_padding_is_seen() -> None:
    clean = zeros(np.uint64, 2, 2)
    assert layout.padding_is_zero(clean, 70) and layout.padding_is_zero(clean, 128)
    clean[1, 1] = 1 << 5
    assert layout.padding_is_zero(clean, 70)
    clean[1, 1] = 1 << 6
    assert not layout.padding_is_zero(clean, 70)
