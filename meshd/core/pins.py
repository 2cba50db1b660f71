"""Which blobs must stay on this machine's disk; the rest of the cache may be evicted.

A job that may still run needs its data and its last complete checkpoint; the ring that runs now,
what its worker wrote since; a finished job, the model that this machine answers for. What is pinned
but not held costs nothing. The data of a finished job is cached: the next job may use it again.
"""

from __future__ import annotations

from meshd.core.job import FINAL
from meshd.core.member import Member
from meshd.core.site import Site
from meshd.core.types import BlobId


def pins(site: Site, member: Member) -> frozenset[BlobId]:
    """The blobs to pin, from the records and the present membership."""
    kept: set[BlobId] = set(member.pinned())
    for job in site.registry:
        record = job.record
        if record.state not in FINAL:
            kept.add(record.data)
            kept.update(part.blob for part in record.checkpoint.slices)
            kept.update(part.blob for part in record.checkpoint.carried if part.key == site.me.key)
        kept.update(result.model for result in record.results if result.key == site.me.key)
    return frozenset(kept)


def cached(site: Site) -> frozenset[BlobId]:
    """Data of all known jobs."""
    return frozenset(job.record.data for job in site.registry)
