"""The native kernels with numpy arrays: allocates outputs that are not given, computes nothing.

Every array must be dense (C order), of exactly the dtype named, in native byte order; nothing is
converted. A wrong kind of object or dtype raises TypeError, a wrong shape, order, bound or a
read-only output ValueError, each with the argument's name. Outputs must not overlap inputs. The GIL
is released while a kernel runs. The result has the same bits on every machine (NaN payloads
excepted). Layout and shapes: `meshd.bits.layout`; here W(n) is words(n) and S(n, beta) segments.
"""

from __future__ import annotations

from meshd.bits._kernels import isa, list_isas, use_isa
from meshd.bits.layout import segments, words
from meshd.bits.product import (
    Panels,
    prepare_signed,
    prepare_unipolar,
    product_signed,
    product_unipolar,
)
from meshd.bits.stream import (
    apply_votes,
    carry_binarize,
    carry_settle,
    pack_signed,
    pack_unipolar,
    planes_add,
    unpack_signed,
    unpack_unipolar,
)

__all__ = [
    "Panels",
    "apply_votes",
    "carry_binarize",
    "carry_settle",
    "isa",
    "list_isas",
    "pack_signed",
    "pack_unipolar",
    "planes_add",
    "prepare_signed",
    "prepare_unipolar",
    "product_signed",
    "product_unipolar",
    "segments",
    "unpack_signed",
    "unpack_unipolar",
    "use_isa",
    "words",
]
