"""Freed memory stays with the process while steps are timed."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# In a process of its own: the setting is the process's. A tensor is 64 MB, 16384 pages of 4 KiB.
PROGRAM = """
import resource, torch
from meshd.bench.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.empty(1 << 24).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

usual = faults()
assert keep_freed_memory()
faults()
print(usual, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not the GNU C library")
def test_what_is_allocated_again_is_not_faulted_in_again() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True
    )
    usual, kept = map(int, done.stdout.split())
    # A system that maps large pages has few faults in either case.
    assert kept < max(200, usual / 4), done.stdout
