"""The native kernels with numpy arrays: allocates outputs that are not given, computes nothing.

Every array must be dense (C order), of exactly the dtype named, in native byte order; nothing is
converted. A wrong kind of object or dtype raises TypeError, a wrong shape, order, bound or a
read-only output ValueError, each with the argument's name. Outputs must not overlap inputs. The GIL
is released while a kernel runs. `use_isa` chooses for all threads, from their next call on.

The result has the same bits on every machine, whatever the caller's floating-point settings, and
for any number of threads (NaN payloads excepted). Products promise it while scales are below 2^127
and no term underflows: then infinities, and the sign of a zero, may differ. Padding bits behind the
last element of a row are zero by contract. A call cannot be interrupted; a product of few columns
still lays out a whole panel of them. Layout and shapes: `meshd.bits.layout`; here W(n) is words(n)
and S(n, beta) segments.
"""

from __future__ import annotations

from meshd.bits._kernels import isa, list_isas, use_isa
from meshd.bits.backward import (
    backward_exact,
    backward_int8,
    backward_planes,
    product_floats,
)
from meshd.bits.conv import (
    ConvShape,
    conv2d_signed,
    conv2d_unipolar,
    im2col,
    prepare_conv2d_signed,
    prepare_conv2d_unipolar,
)
from meshd.bits.layout import segments, words
from meshd.bits.product import (
    Panels,
    binarized_product_signed,
    binarized_product_unipolar,
    prepare_signed,
    prepare_unipolar,
    product_signed,
    product_unipolar,
)
from meshd.bits.stream import (
    carry_binarize,
    carry_settle,
    feedback_binarize,
    pack_signed,
    pack_unipolar,
    segment_means,
    unpack_signed,
    unpack_unipolar,
    within,
)
from meshd.bits.votes import (
    apply_votes,
    planes_add,
    planes_add_many,
    planes_sum,
    votes_adam,
    votes_adam_dense,
    votes_sgd,
    votes_sgd_dense,
)

MOST_THREADS = 1024  # that a call may be given; no more than 256 ever work

__all__ = [
    "MOST_THREADS",
    "ConvShape",
    "Panels",
    "apply_votes",
    "backward_exact",
    "backward_int8",
    "backward_planes",
    "binarized_product_signed",
    "binarized_product_unipolar",
    "carry_binarize",
    "carry_settle",
    "conv2d_signed",
    "conv2d_unipolar",
    "feedback_binarize",
    "im2col",
    "isa",
    "list_isas",
    "pack_signed",
    "pack_unipolar",
    "planes_add",
    "planes_add_many",
    "planes_sum",
    "prepare_conv2d_signed",
    "prepare_conv2d_unipolar",
    "prepare_signed",
    "prepare_unipolar",
    "product_floats",
    "product_signed",
    "product_unipolar",
    "segment_means",
    "segments",
    "unpack_signed",
    "unpack_unipolar",
    "use_isa",
    "votes_adam",
    "votes_adam_dense",
    "votes_sgd",
    "votes_sgd_dense",
    "within",
    "words",
]
