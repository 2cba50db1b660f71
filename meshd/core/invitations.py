"""Which free machines the captain of a ring asks to join, and when it asks again.

A machine is asked with PROPOSE and prepares for as long as it takes; it is counted as coming until
it is in the ring or refuses. One whose worker failed is asked again only after a pause, which
doubles each time: a machine without memory enough would otherwise cost the others a step for ever.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from meshd.core.messages import JobUpdate, Propose
from meshd.core.registry import Job
from meshd.core.scheduler import Machine, ring_order
from meshd.core.site import Site
from meshd.core.types import JobId, MachineKey

AGAIN_S = 5.0
"""A machine that is free this long after it was asked has not heard it, or has refused."""

COMING_S = 60.0
"""So long a machine that prepares takes a place in the ring; after it another one may be asked too.
Whoever comes to a full ring is sent away."""

PAUSE_FIRST_S, PAUSE_MAX_S = 2.0, 600.0


class Invitations:
    """What this machine asked of others, for the rings of which it is captain."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._asked: dict[tuple[JobId, MachineKey], float] = {}
        self._not_before: dict[tuple[JobId, MachineKey], float] = {}
        self._failures: Counter[tuple[JobId, MachineKey]] = Counter()

    def invite(self, job: Job, room: int, free: Iterable[Machine], now: float) -> list[MachineKey]:
        """Ask as many of the free machines as there is room for; returns those that were asked."""
        record, machines = job.record, {machine.key: machine for machine in free}
        coming = [
            key
            for (of, key), at in self._asked.items()
            if of == record.job and key not in machines and now - at < COMING_S
        ]
        asked: list[MachineKey] = []
        for key in ring_order(record.job, machines):
            if len(asked) >= room - len(coming):
                break
            if not self._due(record.job, key, now):
                continue
            self._asked[record.job, key] = now
            asked.append(key)
            self._site.out.send(key, JobUpdate(record))
            others = tuple(part.key for part in record.members if part.key != key)
            self._site.out.send(key, Propose(record.job, record.generation, (*others, key)))
        return asked

    def is_asked(self, job: JobId, key: MachineKey) -> bool:
        """Whether a machine was asked, and has not answered yet."""
        return (job, key) in self._asked

    def failed(self, job: JobId, key: MachineKey, now: float) -> None:
        """Its worker ended, or it refused."""
        self._asked.pop((job, key), None)
        pause = min(PAUSE_FIRST_S * 2 ** self._failures[job, key], PAUSE_MAX_S)
        self._failures[job, key] += 1
        self._not_before[job, key] = now + pause

    def done(self, job: JobId, members: Iterable[MachineKey]) -> None:
        """These are in the ring now."""
        for key in members:
            self._asked.pop((job, key), None)

    def forget(self, job: JobId) -> None:
        """The job does not train any more."""
        for table in (self._asked, self._not_before, self._failures):
            for pair in [pair for pair in table if pair[0] == job]:
                del table[pair]

    def _due(self, job: JobId, key: MachineKey, now: float) -> bool:
        asked = self._asked.get((job, key))
        if asked is not None and now - asked < AGAIN_S:
            return False
        return now >= self._not_before.get((job, key), 0.0)
