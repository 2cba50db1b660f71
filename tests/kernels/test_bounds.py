"""Over-read and over-write are 0 bytes: each array ends where a page without access begins, so one
byte too far ends the process with a segmentation fault."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from meshd.bits import layout, ops

pytestmark = [
    pytest.mark.usefixtures("isa"),
    pytest.mark.skipif(sys.platform == "win32", reason="needs mprotect"),
]

libc = ctypes.CDLL(None, use_errno=True)
PROT_NONE = 0


def guarded(a: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A copy of the array whose last byte is the last one of a page, before a forbidden page."""
    size = -(-max(a.nbytes, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
    region = mmap.mmap(-1, size + mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(region))
    if libc.mprotect(ctypes.c_void_p(address + size), ctypes.c_size_t(mmap.PAGESIZE), PROT_NONE):
        raise OSError(ctypes.get_errno(), "mprotect")
    copy = np.frombuffer(region, a.dtype, a.size, offset=size - a.nbytes).reshape(a.shape)
    copy[...] = a
    return copy


@pytest.mark.parametrize("k", [1, 7, 8, 9, 16, 17, 63, 64, 65, 130, 500])
@pytest.mark.parametrize("beta", [1, 3, 8, 16, 32, 64, 100, 1000])
def test_nothing_is_touched_behind_an_array(k: int, beta: int) -> None:
    x = guarded(np.linspace(-1, 1, 2 * k, dtype=np.float32).reshape(2, k))
    words = guarded(np.zeros((2, layout.words(k)), np.uint64))
    scales = guarded(np.zeros((2, layout.segments(k, beta)), np.float32))
    dense = guarded(np.zeros((2, k), np.float32))
    out = guarded(np.zeros((2, 2), np.float32))
    for coding in ("unipolar", "signed"):
        getattr(ops, f"pack_{coding}")(x, beta, out_words=words, out_scales=scales)
        getattr(ops, f"unpack_{coding}")(words, scales, beta, k, out=dense)
        getattr(ops, f"product_{coding}")(words, scales, beta, words, scales, beta, k, out=out)
    carried, bits, means = guarded(x[0]), guarded(words[0]), guarded(scales[0])
    ops.carry_binarize(guarded(x[1]), carried, 0.5, beta, out_bits=bits, out_means=means)
    ops.carry_settle(carried, bits, means, beta)
    planes = guarded(np.zeros((2, layout.words(k)), np.uint64))
    ops.planes_add(planes, bits)
    ops.apply_votes(planes, 2, means, beta, k, out=guarded(x[0]))


def test_the_guard_works() -> None:
    """The page behind is really out of bounds: the kernel refuses to read from there (EFAULT)."""
    a = guarded(np.zeros(3, np.uint8))
    read_end, write_end = os.pipe()
    with open(read_end, "rb", 0), open(write_end, "wb", 0):
        last, behind = (ctypes.c_void_p(a.ctypes.data + offset) for offset in (2, 3))
        assert libc.write(write_end, last, ctypes.c_size_t(1)) == 1
        assert libc.write(write_end, behind, ctypes.c_size_t(1)) == -1
        assert ctypes.get_errno() == errno.EFAULT
