"""What the members of a finished run should hold: computed again by one process, from their logs.

It follows the history that the run ended with: which ring committed which step. Of the logs it only
uses when a member began a step, lost its state, or was given a leaver's carried error.
"""

from __future__ import annotations

import hashlib

from ring_toy import ELEMENTS, ToyJob, first_latents, gradient, seen, share, sign
from ring_world import Node, World

from meshd.core.ring.agreement import Plan, RingId


class Replay:
    """The job again, all slices and all members' carried errors in one place."""

    def __init__(self, job: ToyJob) -> None:
        self.job = job
        self.latents = {i: first_latents(i) for i in range(len(job.buckets))}
        self.carried: dict[str, dict[int, list[int]]] = {}
        self.lost = 0

    def weights(self) -> dict[int, tuple[int, ...]]:
        return {i: tuple(w) if i in self.job.shared else seen(w) for i, w in self.latents.items()}

    def zero(self) -> dict[int, list[int]]:
        return {i: [0] * ELEMENTS for i in self.latents}

    def step(self, step: int, plan: Plan, digest: bytes) -> None:
        members = len(plan.order)
        wanted = {}
        for rank, key in enumerate(plan.order):
            carried = self.carried.setdefault(key, self.zero())
            wanted[key] = {i: list(carried[i]) for i in carried}
            for i in carried:
                for sample in share(self.job.batch, rank, members):
                    for e, g in enumerate(gradient(step, sample, i, digest)):
                        wanted[key][i][e] += g
        for i, latents in self.latents.items():
            scale = sum(abs(v) for key in plan.order for v in wanted[key][i])
            scale //= members * ELEMENTS
            for e in range(ELEMENTS):
                values = [wanted[key][i][e] for key in plan.order]
                votes = sum(v >= 0 for v in values)
                sent = scale * (2 * votes - members)
                latents[e] -= sent // 4
                for key in plan.order:
                    v = wanted[key][i][e]
                    self.carried[key][i][e] = v - scale * sign(v)
                assert sum(values) == sent + sum(self.carried[k][i][e] for k in plan.order)


def rings_of(history: tuple[tuple[RingId, int], ...], steps: int) -> list[RingId]:
    """The ring that committed each step."""
    ends = [first for _, first in history[1:]] + [steps]
    rings = []
    for (ring, first), end in zip(history, ends, strict=True):
        assert first == len(rings)
        rings.extend([ring] * (end - first))
    return rings


def check(world: World, finished: Node) -> None:
    """Equal hashes after every committed step, and equal to the replay's."""
    job, replay = world.job, Replay(world.job)
    rings = rings_of(finished.member.history, finished.member.step)
    digests: dict[tuple[int, RingId], set[bytes]] = {}
    for node in world.nodes.values():
        committed = None
        for entry in node.log:
            if entry[0] == "commit":
                committed = entry[1], entry[2]
            elif entry[0] == "digest":
                digests.setdefault(committed, set()).add(entry[2])
    at = dict.fromkeys(world.nodes, 0)
    for step, ring in enumerate(rings):
        plan = world.plans[ring]
        for key in plan.order:
            at[key] = catch_up(world.nodes[key].log, at[key], step, ring, replay, key)
        weights = repr(sorted(replay.weights().items())).encode()
        replay.step(step, plan, hashlib.blake2b(weights, digest_size=8).digest())
        weights = repr(sorted(replay.weights().items())).encode()
        expected = hashlib.blake2b(weights, digest_size=8).digest()
        assert digests[step, ring] == {expected}, f"step {step} of ring {ring}"
    sizes = [len(world.plans[ring].order) for ring in rings]
    taken = [len(share(job.batch, rank, size)) for size in sizes for rank in range(size)]
    assert sum(taken) == job.batch * len(rings)


def catch_up(log: list[tuple], at: int, step: int, ring: RingId, replay: Replay, key: str) -> int:
    """Apply what happened to a member's carried error before its last begin of this step."""
    begins = [i for i in range(at, len(log)) if log[i] == ("begin", step, ring)]
    assert begins, f"{key} never began step {step} of {ring}"
    carried = replay.carried.setdefault(key, replay.zero())
    for entry in log[at : begins[-1]]:
        if entry[0] in ("forget", "handed over"):
            for i in carried:
                carried[i] = [0] * ELEMENTS
        elif entry[0] == "given":
            for i, numbers in entry[1].items():
                carried[i] = [a + b for a, b in zip(carried[i], numbers, strict=True)]
    return begins[-1]
