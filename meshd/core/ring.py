"""Order and neighbours of a job's ring: the same on every member, from the member list alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from meshd.core.types import Generation, JobId, MachineKey


def ring_order(
    job: JobId, generation: Generation, members: Iterable[MachineKey]
) -> tuple[MachineKey, ...]:
    """Members in ring order: by BLAKE2b of (job, generation, key).

    Sorting by a digest spreads the neighbours of different jobs over the links, and two machines
    that know the same members know the same ring.
    """

    def place(key: MachineKey) -> bytes:
        return hashlib.blake2b(f"{job} {generation} {key}".encode(), digest_size=16).digest()

    return tuple(sorted(set(members), key=place))
