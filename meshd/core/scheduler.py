"""Which waiting job gets which machines now, or why not: one pure function, one sentence an answer.

Jobs are served in the order in which they were submitted, one job on a machine. A job that cannot
start yet reserves nothing: a smaller one behind it may start first (so a job that needs every
machine of a busy office can wait long; its sentence says for what).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from meshd.core.job import captain_order
from meshd.core.types import JobId, MachineKey

NAMED = 6  # so many machines a sentence names; more would not fit a line of status


@dataclass(frozen=True)
class Machine:
    """One living machine. `why`: a clause that completes "desk-3 ..." when it is not available."""

    key: MachineKey
    name: str
    available: bool
    why: str


@dataclass(frozen=True)
class Request:
    """What a waiting job asks for. `most`: members_max, and no more than the batch has samples."""

    job: JobId
    submitted_at: float
    least: int
    most: int


@dataclass(frozen=True)
class Decision:
    """`machines` in ring order, empty if the job has to wait; `reason`: the sentence."""

    job: JobId
    machines: tuple[MachineKey, ...]
    reason: str


def schedule(requests: Sequence[Request], machines: Sequence[Machine]) -> list[Decision]:
    """Decide on all waiting jobs at once; equal arguments give equal decisions on every machine."""
    free = {machine.key: machine for machine in machines if machine.available}
    names = {machine.key: machine.name for machine in machines}
    taken = [
        f"{machine.name} {machine.why}"
        for machine in sorted(machines, key=lambda machine: machine.name)
        if not machine.available
    ]
    decisions = []
    for request in sorted(requests, key=lambda request: (request.submitted_at, request.job)):
        if len(free) < request.least:
            reason = _waits(request, [machine.name for machine in free.values()], taken)
            decisions.append(Decision(request.job, (), reason))
            continue
        ring = ring_order(request.job, free)[: request.most]
        chosen = _listed(sorted(names[key] for key in ring))
        decisions.append(Decision(request.job, ring, f"starts on {chosen}"))
        for key in ring:
            machine = free.pop(key)
            taken.append(f"{machine.name} starts an earlier job")
    return decisions


def ring_order(
    job: JobId, keys: Sequence[MachineKey] | dict[MachineKey, Machine]
) -> tuple[MachineKey, ...]:
    """The machines in the order that all machines compute alike; the first one collects results."""
    return tuple(sorted(keys, key=lambda key: captain_order(job, key)))


def _waits(request: Request, free: list[str], taken: list[str]) -> str:
    count = "1 machine" if request.least == 1 else f"{request.least} machines"
    if not free:
        sentence = f"waits for {count}; none is available"
    else:
        verb = "is" if len(free) == 1 else "are"
        sentence = f"waits for {count}; {len(free)} {verb} available: {_listed(sorted(free))}"
    return f"{sentence}; {'; '.join(taken[:NAMED])}" if taken else sentence


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:NAMED])
    return shown if len(names) <= NAMED else f"{shown} and {len(names) - NAMED} more"
