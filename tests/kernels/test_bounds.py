"""Over-read and over-write are 0 bytes: each array ends where a page without access begins, or
begins where one ends, so one byte too far ends the process with a segmentation fault."""

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
from valid_calls import CALLS, Shape, valid

from meshd.bits import ops

pytestmark = [
    pytest.mark.usefixtures("isa"),
    pytest.mark.skipif(sys.platform == "win32", reason="needs mprotect"),
]

libc = ctypes.CDLL(None, use_errno=True)
PROT_NONE = 0
SIDES = ("before", "behind")


def guarded(a: npt.NDArray[Any], side: str) -> npt.NDArray[Any]:
    """A copy of the array right before or right behind a forbidden page."""
    pages = -(-max(a.nbytes, 1) // mmap.PAGESIZE)
    region = mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE)
    forbidden = 0 if side == "before" else pages * mmap.PAGESIZE
    address = ctypes.addressof(ctypes.c_char.from_buffer(region)) + forbidden
    if libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE), PROT_NONE):
        raise OSError(ctypes.get_errno(), "mprotect")
    offset = mmap.PAGESIZE if side == "before" else forbidden - a.nbytes
    copy = np.frombuffer(region, a.dtype, a.size, offset=offset).reshape(a.shape)
    copy[...] = a
    return copy


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("op", CALLS)
def test_nothing_is_touched_outside_an_array(op: str, side: str) -> None:
    for k in (1, 7, 8, 9, 16, 17, 63, 64, 65, 130, 500):
        for beta in (1, 3, 8, 16, 32, 64, 100, 1000):
            arguments = valid(op, Shape(2, k, beta, members=2))
            for name, value in arguments.items():
                if isinstance(value, np.ndarray):
                    arguments[name] = guarded(value, side)
            getattr(ops, op)(**arguments)


@pytest.mark.parametrize(("side", "offset"), [("before", -1), ("behind", 3)])
def test_the_guard_works(side: str, offset: int) -> None:
    """That page is really out of bounds: the kernel refuses to read from there (EFAULT)."""
    a = guarded(np.zeros(3, np.uint8), side)
    read_end, write_end = os.pipe()
    with open(read_end, "rb", 0), open(write_end, "wb", 0):
        inside, outside = (ctypes.c_void_p(a.ctypes.data + at) for at in (1, offset))
        assert libc.write(write_end, inside, ctypes.c_size_t(1)) == 1
        assert libc.write(write_end, outside, ctypes.c_size_t(1)) == -1
        assert ctypes.get_errno() == errno.EFAULT
