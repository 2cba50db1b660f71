"""The C library's allocator while training steps are timed: freed blocks stay with the process.

`meshd.hbnn.memory` keeps the gradients' memory for its own layers. What torch allocates for others'
would be mapped, cleared and unmapped in every step, so that a comparison would be one of
allocators; this gives the same to all programs. mallopt(3) of the GNU C library; elsewhere nothing
is done. Not for programs that run for long: the heap grows where small blocks settle among large.
"""

from __future__ import annotations

import ctypes
import platform

# glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
NEVER_TRIM = 2**31 - 1


def keep_freed_memory() -> bool:
    """Keep freed blocks of any size in the heap from now on; return whether the library does."""
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    # Large blocks come from the heap instead of a mapping each, and the heap is not cut back.
    return bool(libc.mallopt(M_MMAP_MAX, 0)) and bool(libc.mallopt(M_TRIM_THRESHOLD, NEVER_TRIM))
