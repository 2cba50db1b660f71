"""The reference: Gloo's all-reduce by `torch.distributed`, which is what PyTorch has on Ethernet.

Measured on links of 100 Mbit and 1 Gbit, 2 and 8 members: one tensor, DDP's buckets of 25 MB and
buckets of 4 MB, with 1, 2 and 4 of Gloo's threads, all within 5 % of each other and at 0.89 to 0.95
of the link rate. The run at hand tries the three sizes and goes on with the fastest. Threads are 2,
the default; the algorithm is Gloo's ring, its default and the best for so much data.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from meshd.bench.ring.contestant import Contestant, Neighbourhood, Place

TIMEOUT = timedelta(seconds=120)
BUCKETS = {"whole": 0, "25MB": 25 << 20, "4MB": 4 << 20}
"""Bytes that one all-reduce takes; all of a turn's are under way at once. 0: everything in one."""

TYPES = {"float32": torch.float32, "float16": torch.float16}


class GlooAllReduce:
    """Sums a tensor over all members."""

    def __init__(self, place: Place, dtype: str, bucket: str) -> None:
        self._expected = place.size * (place.size + 1) // 2
        self._mine = place.rank + 1
        self._tensor = torch.empty(place.params, dtype=TYPES[dtype])
        elements = BUCKETS[bucket] // self._tensor.element_size() or place.params
        self._parts = list(self._tensor.split(elements))  # type: ignore[no-untyped-call]

    def prepare(self) -> None:
        """Everyone brings its rank + 1."""
        self._tensor.fill_(self._mine)

    def exchange(self) -> None:
        """All buckets at once, as DDP has them in the air."""
        works = [dist.all_reduce(part, async_op=True) for part in self._parts]
        for work in works:
            work.wait()

    def digest(self) -> str:
        """The sum, which must be everywhere."""
        least, most = (float(value) for value in torch.aminmax(self._tensor))
        if (least, most) != (self._expected, self._expected):
            raise ValueError(f"Gloo's sums are {least} to {most}, not {self._expected}")
        return str(least)

    def close(self) -> None:
        """The group outlives its contestants."""


def open_store(place: Place) -> TCPStore | None:
    """Where Gloo's members meet: the first one's, on a free port; the others have none yet."""
    if place.rank:
        return None
    return TCPStore(place.address, 0, place.size, True, TIMEOUT, wait_for_workers=False)


def open_group(place: Place, around: Neighbourhood, store: TCPStore | None) -> None:
    """Join; all members must."""
    os.environ["GLOO_SOCKET_IFNAME"] = place.interface
    if store is None:
        store = TCPStore(around.first_address, around.store_port, place.size, False, TIMEOUT)
    dist.init_process_group(
        "gloo", store=store, rank=place.rank, world_size=place.size, timeout=TIMEOUT
    )


def close_group() -> None:
    """Leave."""
    if dist.is_initialized():
        dist.destroy_process_group()


def makers() -> dict[str, Callable[[Place], Contestant]]:
    """By name, as `gloo/float32/25MB`."""

    def maker(dtype: str, bucket: str) -> Callable[[Place], Contestant]:
        return lambda place: GlooAllReduce(place, dtype, bucket)

    return {f"gloo/{dtype}/{bucket}": maker(dtype, bucket) for dtype in TYPES for bucket in BUCKETS}
