"""What the kernels must not see: each bad argument is refused by name, and nothing is written."""

from __future__ import annotations

import re
import threading
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from valid_calls import ARRAYS, CALLS, FOLLOWERS, NUMBERS, WRITTEN, Arguments, Shape, valid

from meshd.bits import _kernels, layout, ops

K = Shape().k
# What the extension has besides kernels: the choice of a set, sizes of outputs.
CHOICE = {"isa", "list_isas", "use_isa", "panel_units_signed", "panel_units_unipolar"} | {
    "conv2d_out_size",
    "conv2d_panel_units_signed",
    "conv2d_panel_units_unipolar",
}


def zeros(dtype: type[np.generic], *shape: int) -> npt.NDArray[np.generic]:
    return np.zeros(shape, dtype)


def test_every_function_of_the_extension_has_a_valid_call() -> None:
    """What is tested here is tested of all of them, those of tomorrow too."""
    functions = {n for n in dir(_kernels) if callable(getattr(_kernels, n)) and n[0] != "_"}
    assert functions == CHOICE | CALLS.keys(), "valid_calls.py has one entry for each function"


def refused(op: str, arguments: Arguments, error: type[Exception], text: str) -> None:
    before = {n: a.copy() for n, a in arguments.items() if isinstance(a, np.ndarray)}
    with pytest.raises(error, match=text):
        getattr(ops, op)(**arguments)
    for name, array in before.items():
        assert np.array_equal(arguments[name], array), f"{name} was changed"


@pytest.mark.parametrize("op", CALLS)
def test_the_valid_arguments_are_valid(op: str) -> None:
    getattr(ops, op)(**valid(op))


@pytest.mark.parametrize(("op", "name"), ARRAYS)
def test_wrong_dtype(op: str, name: str) -> None:
    arguments = valid(op)
    wrong = np.int64 if arguments[name].dtype == np.uint64 else np.float64
    arguments[name] = arguments[name].astype(wrong)
    refused(op, arguments, TypeError, rf"^{name}: expected a dense .* got {wrong.__name__}$")


@pytest.mark.parametrize(("op", "name"), ARRAYS)
def test_foreign_byte_order(op: str, name: str) -> None:
    arguments = valid(op)
    arguments[name] = arguments[name].astype(arguments[name].dtype.newbyteorder())
    refused(op, arguments, TypeError, rf"^{name}: ")


@pytest.mark.parametrize(("op", "name"), ARRAYS)
@pytest.mark.parametrize("wrong", [[1.0], b"12345678901234567", "x", 3])
def test_not_an_array(op: str, name: str, wrong: object) -> None:
    text = rf"^{name}: expected a .* got (uint8|{type(wrong).__name__})$"
    refused(op, valid(op) | {name: wrong}, TypeError, text)


@pytest.mark.parametrize(("op", "name"), [a for a in ARRAYS if not a[1].startswith("out")])
def test_no_array(op: str, name: str) -> None:
    refused(op, valid(op) | {name: None}, TypeError, rf"^{name}: expected a .* got NoneType$")


@pytest.mark.parametrize(("op", "name"), ARRAYS)
def test_wrong_number_of_dimensions(op: str, name: str) -> None:
    arguments = valid(op)
    arguments[name] = arguments[name][None]
    refused(op, arguments, ValueError, rf"^{name}: expected .* dimension")


@pytest.mark.parametrize(("op", "name"), FOLLOWERS)
@pytest.mark.parametrize("difference", [-1, 1])
def test_wrong_length(op: str, name: str, difference: int) -> None:
    arguments = valid(op)
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
        ("segment_means", "out"),
        ("votes_sgd", "velocity"),
        ("votes_adam", "planes"),
        ("votes_adam", "first"),
        ("votes_adam", "second"),
        ("votes_adam", "out_words"),
        ("votes_adam", "out_scales"),
        ("conv2d_signed", "x_words"),
        ("conv2d_unipolar", "x_scales"),
        ("conv2d_signed", "w_scales"),
        ("conv2d_signed", "out"),
        ("im2col", "out_words"),
        ("im2col", "out_scales"),
    ],
)
def test_wrong_number_of_rows(op: str, name: str) -> None:
    arguments = valid(op)
    arguments[name] = np.concatenate([arguments[name], arguments[name][:1]])
    refused(op, arguments, ValueError, rf"^{name}: expected shape ")


@pytest.mark.parametrize(("op", "name"), ARRAYS)
def test_not_contiguous(op: str, name: str) -> None:
    arguments = valid(op)
    arguments[name] = np.repeat(arguments[name], 2, axis=-1)[..., ::2]
    refused(op, arguments, ValueError, rf"^{name}: is not C-contiguous")


@pytest.mark.parametrize(("op", "name"), ARRAYS)
def test_not_aligned(op: str, name: str) -> None:
    arguments = valid(op)
    array = arguments[name]
    shifted = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype)
    arguments[name] = shifted.reshape(array.shape)
    refused(op, arguments, ValueError, rf"^{name}: is not aligned")


@pytest.mark.parametrize(("op", "name"), WRITTEN)
def test_read_only_output(op: str, name: str) -> None:
    arguments = valid(op)
    arguments[name].flags.writeable = False
    refused(op, arguments, ValueError, rf"^{name}: is read-only")


@pytest.mark.parametrize("op", CALLS)
def test_read_only_inputs_are_fine(op: str) -> None:
    arguments = valid(op)
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
        ("segment_means", {"beta": 0}, "beta: must be at least 1, got 0"),
        ("segment_means", {"beta": 0, "out": None}, "beta: must be at least 1, got 0"),
        ("feedback_binarize", {"gamma": 0}, "gamma: must be at least 1, got 0"),
        ("feedback_binarize", {"gamma": -1, "out_means": None}, "gamma: must be at least 1"),
        ("votes_sgd", {"beta": 0}, "beta: must be at least 1, got 0"),
        ("votes_adam", {"beta": 0, "out_scales": None}, "beta: must be at least 1, got 0"),
        ("votes_adam", {"gamma": 0}, "gamma: must be at least 1, got 0"),
        ("votes_sgd_dense", {"members": 0}, "members: must be 1 to 65535, got 0"),
        ("votes_adam_dense", {"members": 65536}, "members: must be 1 to 65535, got 65536"),
        ("apply_votes", {"gamma": 0}, "gamma: must be at least 1, got 0"),
        ("apply_votes", {"members": 0}, "members: must be 1 to 65535, got 0"),
        ("apply_votes", {"members": 65536}, "members: must be 1 to 65535, got 65536"),
        ("apply_votes", {"n": -1}, "n: must be 0 to "),
        ("apply_votes", {"n": -1, "out": None}, "n: must be at least 0, got -1"),
    ],
)
def test_a_number_out_of_bounds(op: str, changes: Arguments, text: str) -> None:
    refused(op, valid(op) | changes, ValueError, f"^{text}")


def wrong_numbers(op: str, name: str) -> list[object]:
    if name == "cut":
        return ["32"]  # None is no cut
    return ["32", None] if type(valid(op)[name]) is float else ["32", None, 2.5, 2**70]


NOT_NUMBERS = [(op, name, wrong) for op, name in NUMBERS for wrong in wrong_numbers(op, name)]


@pytest.mark.parametrize(("op", "name", "wrong"), NOT_NUMBERS)
def test_not_the_right_kind_of_number(op: str, name: str, wrong: object) -> None:
    refused(op, valid(op) | {name: wrong}, TypeError, rf"^{name}: expected an? .*(integer|number)")


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


@pytest.mark.parametrize("coding", ["signed", "unipolar"])
def test_panels_are_checked(coding: str) -> None:
    """Those of another coding, another size, or at a wrong address are refused."""
    op, arguments = f"product_{coding}", valid(f"product_{coding}")
    panels = getattr(ops, f"prepare_{coding}")(**valid(f"prepare_{coding}"))
    getattr(ops, op)(**arguments | {"panels": panels})
    wrong = "signed" if coding == "unipolar" else "unipolar"
    for bad, error, text in (
        (panels.units, TypeError, "panels: expected Panels, got ndarray"),
        (replace(panels, coding=wrong), ValueError, f"for coding = {wrong}, not {coding}"),
        (replace(panels, beta_a=16), ValueError, "panels: were prepared for beta_a = 16, not 32"),
        (replace(panels, beta_w=16), ValueError, "panels: were prepared for beta_w = 16, not 32"),
        (replace(panels, k=K - 1), ValueError, "panels: were prepared for k = 69, not 70"),
        (
            replace(panels, isa="none"),
            ValueError,
            "panels: were prepared for none, and .* is in use",
        ),
        (replace(panels, units=panels.units[:-1]), ValueError, "panels: expected shape"),
        (replace(panels, units=shifted(panels.units)), ValueError, "panels: must be aligned to 64"),
    ):
        refused(op, arguments | {"panels": bad}, error, text)


def shifted(units: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    memory = np.empty(units.size + 17, np.uint32)
    first = (-memory.ctypes.data % 64) // 4 + 1
    return memory[first : first + units.size]


def test_a_bias_is_checked() -> None:
    arguments = valid("product_signed")
    rows = arguments["out"].shape[1]
    for bad, error, text in (
        (zeros(np.float32, rows + 1), ValueError, "bias: expected shape"),
        (zeros(np.float64, rows), TypeError, "bias: expected a dense float32"),
        (zeros(np.float32, 2 * rows)[::2], ValueError, "bias: is not C-contiguous"),
    ):
        refused("product_signed", arguments | {"bias": bad}, error, text)


def test_another_set_chosen_meanwhile_never_reads_these_panels() -> None:
    """Threads choose sets while others prepare and multiply: a right result or a refusal."""
    rng = np.random.default_rng(1)
    k, beta = 256, 64
    a = ops.pack_signed(rng.standard_normal((9, k)).astype(np.float32), beta)
    w = ops.pack_signed(rng.standard_normal((33, k)).astype(np.float32), beta)
    wanted = ops.product_signed(*a, beta, *w, beta, k)
    before, wrong, stop = ops.isa(), [], threading.Event()

    def choose() -> None:
        while not stop.is_set():
            for name in ops.list_isas():
                ops.use_isa(name)

    def multiply() -> None:
        for _ in range(300):
            try:
                panels = ops.prepare_signed(*w, beta, beta, k)
                got = ops.product_signed(*a, beta, *w, beta, k, panels=panels)
            except ValueError as refusal:
                if not str(refusal).startswith("panels: "):
                    wrong.append(str(refusal))
            else:
                if not np.array_equal(got, wanted):
                    wrong.append("another result")

    chooser = threading.Thread(target=choose)
    workers = [threading.Thread(target=multiply) for _ in range(2)]
    chooser.start()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    stop.set()
    chooser.join()
    ops.use_isa(before)
    assert not wrong
