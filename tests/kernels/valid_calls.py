"""One valid call of every function of the extension, for any shape: what the tests of argument
checks, of bounds and of chance start from. A function without one fails test_arguments.py.

To add one: a builder from a `Shape` to its arguments by name, and its line in `CALLS`. Arguments
named out... are written; others that are written go to `IN_OUT`; the array from which an operation
learns the size of the others goes to `LEADERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from meshd.bits import layout
from meshd.bits.conv import ConvShape

Arguments = dict[str, Any]
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Shape:
    """Rows of k elements, cut into segments of beta; the default is no multiple of anything."""

    rows: int = 3
    k: int = 70
    beta: int = 32
    members: int = 5

    @property
    def words(self) -> int:
        return layout.words(self.k)

    @property
    def segments(self) -> int:
        return layout.segments(self.k, self.beta)


def floats(*shape: int) -> Array:
    return np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)


def zeros(*shape: int) -> Array:
    return np.zeros(shape, np.float32)


def bits(*shape: int) -> Array:
    return np.zeros(shape, np.uint64)


def packed(s: Shape, prefix: str = "") -> Arguments:
    return {f"{prefix}words": bits(s.rows, s.words), f"{prefix}scales": floats(s.rows, s.segments)}


def pack(s: Shape) -> Arguments:
    return {"x": floats(s.rows, s.k), "beta": s.beta, **packed(s, "out_")}


def unpack(s: Shape) -> Arguments:
    return {**packed(s), "beta": s.beta, "k": s.k, "out": zeros(s.rows, s.k)}


def product(s: Shape) -> Arguments:
    cuts = {"beta_a": s.beta, "beta_w": s.beta, "k": s.k}
    more = {"threads": 1, "out": zeros(s.rows, s.rows)}
    return {**packed(s, "a_"), **packed(s, "w_"), **cuts, **more}


def binarized_product(s: Shape) -> Arguments:
    read = {"x": floats(s.rows, s.k), "beta_a": s.beta, **packed(s, "w_"), "beta_w": s.beta}
    return {**read, "threads": 1, **packed(s, "out_"), "out": zeros(s.rows, s.rows)}


def prepare(s: Shape) -> Arguments:
    return {**packed(s, "w_"), "beta_w": s.beta, "beta_a": s.beta, "k": s.k, "threads": 1}


def backward(s: Shape) -> Arguments:
    cut = {"beta": s.beta, "k": s.k, "threads": 2}
    return {"g": floats(2, s.rows), **packed(s), **cut, "out": zeros(2, s.k)}


def backward_int8(s: Shape) -> Arguments:
    return backward(s) | {"seed": 1}


def backward_planes(s: Shape) -> Arguments:
    return backward(s) | {"planes": 3, "seed": 1}


def product_floats(s: Shape) -> Arguments:
    cut = {"beta_w": s.beta, "k": s.k, "threads": 2}
    return {"x": floats(2, s.k), **packed(s, "w_"), **cut, "out": zeros(2, s.rows)}


def conv_shape(s: Shape) -> ConvShape:
    """Images and a kernel over them; their cuts are a channel, or the window."""
    return ConvShape(s.rows, 3, 4, max(s.k, 1), kernel=(3, 2), stride=(1, 2), padding=(1, 0))


def conv_cuts(s: Shape) -> tuple[int, int]:
    """beta_a, and the segments that a row of the image has."""
    channels = conv_shape(s).channels
    beta = s.beta if channels % s.beta == 0 else 1 if s.beta < 8 else 10**6
    return beta, layout.segments(channels, beta)


def packed_image(s: Shape) -> Arguments:
    shape, (beta, segments) = conv_shape(s), conv_cuts(s)
    words, scales = bits(shape.rows, layout.words(shape.channels)), floats(shape.rows, segments)
    return {"x_words": words, "x_scales": scales, "beta_a": beta, "shape": shape}


def filters(s: Shape) -> Arguments:
    k, (beta, _) = conv_shape(s).k, conv_cuts(s)
    scales = floats(5, layout.segments(k, beta))
    return {"w_words": bits(5, layout.words(k)), "w_scales": scales, "beta_w": beta}


def conv2d(s: Shape) -> Arguments:
    out = zeros(s.rows, *conv_shape(s).out_size, 5)
    return {**packed_image(s), **filters(s), "threads": 1, "out": out}


def prepare_conv2d(s: Shape) -> Arguments:
    return {**filters(s), "beta_a": conv_cuts(s)[0], "shape": conv_shape(s), "threads": 1}


def im2col(s: Shape) -> Arguments:
    shape, (beta, _) = conv_shape(s), conv_cuts(s)
    words = bits(shape.windows, layout.words(shape.k))
    scales = zeros(shape.windows, shape.k // min(beta, shape.channels))
    return {**packed_image(s), "threads": 1, "out_words": words, "out_scales": scales}


def carry_binarize(s: Shape) -> Arguments:
    vectors = {"grad": floats(s.k), "carried": floats(s.k)}
    outputs = {"out_bits": bits(s.words), "out_means": zeros(s.segments)}
    return {**vectors, "weight": 1.0, "gamma": s.beta, **outputs}


def carry_settle(s: Shape) -> Arguments:
    read = {"bits": bits(s.words), "scale": floats(s.segments)}
    return {"carried": floats(s.k), **read, "gamma": s.beta}


def planes_add(s: Shape) -> Arguments:
    return {"planes": bits(3, s.words), "bits": bits(s.words)}


def apply_votes(s: Shape) -> Arguments:
    planes = bits(layout.plane_count(s.members), s.words)
    read = {"planes": planes, "members": s.members, "scale": floats(s.segments)}
    return {**read, "gamma": s.beta, "n": s.k, "out": zeros(s.k)}


def within(s: Shape) -> Arguments:
    return {"x": floats(s.rows, s.k), "cut": 0.5, "out": bits(s.rows, s.words)}


def segment_means(s: Shape) -> Arguments:
    return {"x": floats(s.rows, s.k), "beta": s.beta, "out": zeros(s.rows, s.segments)}


def feedback_binarize(s: Shape) -> Arguments:
    return {**carry_binarize(s), "scale": floats(s.segments)}


def planes_add_many(s: Shape) -> Arguments:
    return {"planes": bits(3, s.words), "bits": bits(9, s.words)}


def planes_sum(s: Shape) -> Arguments:
    return {"planes": bits(3, s.words), "other": bits(4, s.words)}


def votes(s: Shape, n: int) -> Arguments:
    planes = bits(layout.plane_count(s.members), layout.words(n))
    scale = floats(layout.segments(n, s.beta))
    return {"planes": planes, "members": s.members, "scale": scale, "gamma": s.beta}


def sgd(*shape: int) -> Arguments:
    return {"velocity": floats(*shape), "momentum": 0.9, "rate": 0.1}


def adam(*shape: int) -> Arguments:
    moments = {"first": floats(*shape), "second": np.abs(floats(*shape))}
    decays = {"decay_1": 0.9, "decay_2": 0.999, "epsilon": 1e-8}
    return {**moments, **decays, "second_scale": 10.0, "rate": 0.1}


def binary_latents(s: Shape) -> Arguments:
    return {"latents": floats(s.rows, s.k), "cut": 1.0, "beta": s.beta, **packed(s, "out_")}


def votes_sgd(s: Shape) -> Arguments:
    return {**votes(s, s.rows * s.k), **sgd(s.rows, s.k), **binary_latents(s)}


def votes_adam(s: Shape) -> Arguments:
    return {**votes(s, s.rows * s.k), **adam(s.rows, s.k), **binary_latents(s)}


def votes_sgd_dense(s: Shape) -> Arguments:
    return {**votes(s, s.k), **sgd(s.k), "latents": floats(s.k)}


def votes_adam_dense(s: Shape) -> Arguments:
    return {**votes(s, s.k), **adam(s.k), "latents": floats(s.k)}


CALLS: dict[str, Callable[[Shape], Arguments]] = {
    "pack_signed": pack,
    "pack_unipolar": pack,
    "unpack_signed": unpack,
    "unpack_unipolar": unpack,
    "product_signed": product,
    "product_unipolar": product,
    "binarized_product_signed": binarized_product,
    "binarized_product_unipolar": binarized_product,
    "prepare_signed": prepare,
    "prepare_unipolar": prepare,
    "conv2d_signed": conv2d,
    "conv2d_unipolar": conv2d,
    "prepare_conv2d_signed": prepare_conv2d,
    "prepare_conv2d_unipolar": prepare_conv2d,
    "im2col": im2col,
    "backward_exact": backward,
    "backward_int8": backward_int8,
    "backward_planes": backward_planes,
    "product_floats": product_floats,
    "carry_binarize": carry_binarize,
    "carry_settle": carry_settle,
    "planes_add": planes_add,
    "apply_votes": apply_votes,
    "within": within,
    "segment_means": segment_means,
    "feedback_binarize": feedback_binarize,
    "planes_add_many": planes_add_many,
    "planes_sum": planes_sum,
    "votes_sgd": votes_sgd,
    "votes_adam": votes_adam,
    "votes_sgd_dense": votes_sgd_dense,
    "votes_adam_dense": votes_adam_dense,
}
SGD_STATE, ADAM_STATE = ("latents", "velocity"), ("latents", "first", "second")
IN_OUT = {
    ("carry_binarize", "carried"),
    ("carry_settle", "carried"),
    ("planes_add", "planes"),
    ("feedback_binarize", "carried"),
    ("planes_add_many", "planes"),
    ("planes_sum", "planes"),
    *((f"votes_sgd{kind}", name) for kind in ("", "_dense") for name in ("latents", "velocity")),
    *(
        (f"votes_adam{kind}", name)
        for kind in ("", "_dense")
        for name in ("latents", "first", "second")
    ),
}
LEADERS = {
    ("binarized_product_signed", "x"),
    ("binarized_product_unipolar", "x"),
    ("pack_signed", "x"),
    ("pack_unipolar", "x"),
    ("carry_binarize", "grad"),
    ("carry_settle", "carried"),
    ("planes_add", "planes"),
    ("within", "x"),
    ("segment_means", "x"),
    ("feedback_binarize", "grad"),
    ("planes_add_many", "planes"),
    ("planes_sum", "planes"),
    *((f"votes_{rule}", "latents") for rule in ("sgd", "sgd_dense", "adam", "adam_dense")),
}


def valid(op: str, shape: Shape | None = None) -> Arguments:
    """Fresh arguments of a call that is accepted."""
    return CALLS[op](shape or Shape())


def is_written(op: str, name: str) -> bool:
    return name.startswith("out") or (op, name) in IN_OUT


ARRAYS = [
    (op, name) for op in CALLS for name, value in valid(op).items() if isinstance(value, np.ndarray)
]
FOLLOWERS = [array for array in ARRAYS if array not in LEADERS]
WRITTEN = [array for array in ARRAYS if is_written(*array)]
NUMBERS = [
    (op, name)
    for op in CALLS
    for name, value in valid(op).items()
    if isinstance(value, int | float)
]
