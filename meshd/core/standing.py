"""Who is captain of a job's ring, as far as this machine sees: one pure rule, and who is out.

The captain is the living member of the record that `captain_order` puts first. A machine that says
that its worker is gone is no candidate until the next ring is formed, though its daemon lives. One
that was lost, or that its neighbours do not hear, is doubted, and comes after those who are not.
Either costs a machine nothing but this say; whether it is left out of the next ring is for that
ring's captain to find.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from meshd.core.job import captain_order
from meshd.core.messages import JobRecord, RingName
from meshd.core.site import Site
from meshd.core.types import Generation, JobId, MachineKey

Attempt = tuple[Generation, MachineKey, RingName]


@dataclass
class _Out:
    """Machines that are out of one ring, with the sentence why."""

    ring: Attempt
    why: dict[MachineKey, str] = field(default_factory=dict)
    gone: set[MachineKey] = field(default_factory=set)
    """Those who said so themselves; the others are doubted."""


class Standing:
    """What this machine knows of the members of all jobs beside their records."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._out: dict[JobId, _Out] = {}

    def captain_of(self, record: JobRecord, but: Collection[MachineKey] = ()) -> MachineKey | None:
        """The captain of a job that trains; `but`: never one of these."""
        out = self._of(record)
        return min(
            (
                member.key
                for member in record.members
                if self._site.here(member.key) and member.key not in {*out.gone, *but}
            ),
            key=lambda key: (key in out.why, captain_order(record.job, key)),
            default=None,
        )

    def put_out(self, record: JobRecord, key: MachineKey, why: str, itself: bool = False) -> bool:
        """A member is doubted, or (`itself`) says that it is gone, and knows better than others
        why; returns whether that is news."""
        if record.state != "training" or all(member.key != key for member in record.members):
            return False
        out = self._of(record)
        is_news = key not in (out.gone if itself else out.why)
        if is_news:
            out.why[key] = why
        if itself:
            out.gone.add(key)
        return is_news

    def out_of(self, record: JobRecord) -> dict[MachineKey, str]:
        """Who is gone from the present ring or doubted, and why, as it was heard."""
        return dict(self._of(record).why)

    def forget(self, job: JobId) -> None:
        """The job does not train any more."""
        self._out.pop(job, None)

    def most_are_here(self, record: JobRecord) -> bool:
        """Whether most members' machines are seen from here, of exactly half the half with the
        first one: of two sides of a cut network at most one may end the job for all."""
        here = [member.key for member in record.members if self._site.here(member.key)]
        if 2 * len(here) != len(record.members):
            return 2 * len(here) > len(record.members)
        keys = [member.key for member in record.members]
        return min(keys, key=lambda key: captain_order(record.job, key)) in here

    def _of(self, record: JobRecord) -> _Out:
        known = self._out.get(record.job)
        if known is None or known.ring != _attempt(record):
            known = _Out(_attempt(record))
            if record.state == "training":
                self._out[record.job] = known
        return known


def _attempt(record: JobRecord) -> Attempt:
    return record.generation, record.captain, record.ring
