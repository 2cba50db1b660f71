"""What the members of a finished run should hold: computed again by one process, from their logs.

It follows the history that the run ended with: which ring committed which step. Of the logs it only
uses when a member began a step, lost its state, or handed over or was given a carried error.
"""

from __future__ import annotations

import hashlib

from ring_toy import ELEMENTS, ToyJob, first_latents, gradient, seen, share, sign
from ring_world import Node, World

from meshd.core.ring.agreement import Plan, RingId

Errors = dict[int, list[int]]


class Replay:
    """The job again, all slices and all members' carried errors in one place."""

    def __init__(self, job: ToyJob) -> None:
        self.job = job
        self.latents = {i: first_latents(i) for i in range(len(job.buckets))}
        self.carried: dict[str, Errors] = {}
        self.gone = self.zero()
        """Carried errors that went with a machine or on the way, less those that arrived."""
        self.came_in, self.sent = self.zero(), self.zero()

    def digest(self) -> bytes:
        shared = self.job.shared
        weights = {i: tuple(w) if i in shared else seen(w) for i, w in self.latents.items()}
        return hashlib.blake2b(repr(sorted(weights.items())).encode(), digest_size=8).digest()

    def zero(self) -> Errors:
        return {i: [0] * ELEMENTS for i in range(len(self.job.buckets))}

    def of(self, key: str) -> Errors:
        return self.carried.setdefault(key, self.zero())

    def step(self, step: int, plan: Plan) -> None:
        members, digest = len(plan.order), self.digest()
        wanted = {key: {i: list(e) for i, e in self.of(key).items()} for key in plan.order}
        for rank, key in enumerate(plan.order):
            for sample in share(self.job.batch, rank, members):
                for i, values in wanted[key].items():
                    for e, g in enumerate(gradient(step, sample, i, digest)):
                        values[e] += g
                        self.came_in[i][e] += g
        for i, latents in self.latents.items():
            scale = sum(abs(v) for key in plan.order for v in wanted[key][i])
            scale //= members * ELEMENTS
            for e in range(ELEMENTS):
                values = [wanted[key][i][e] for key in plan.order]
                sent = scale * (2 * sum(v >= 0 for v in values) - members)
                latents[e] -= sent // 4
                self.sent[i][e] += sent
                for key, v in zip(plan.order, values, strict=True):
                    self.carried[key][i][e] = v - scale * sign(v)

    def apply(self, key: str, entry: tuple) -> None:
        """Something that happened to a member's carried error between two steps."""
        carried = self.of(key)
        if entry[0] in ("forget", "handed over"):
            for i in entry[1:] or list(carried):
                self.gone[i] = [a + b for a, b in zip(self.gone[i], carried[i], strict=True)]
                carried[i] = [0] * ELEMENTS
        elif entry[0] == "given":
            for i, numbers in entry[1].items():
                carried[i] = [a + b for a, b in zip(carried[i], numbers, strict=True)]
                self.gone[i] = [a - b for a, b in zip(self.gone[i], numbers, strict=True)]

    def balance(self) -> None:
        """Everything that came in was sent, is carried, or went with a machine."""
        for i, came_in in self.came_in.items():
            for e, total in enumerate(came_in):
                carried = sum(errors[i][e] for errors in self.carried.values())
                assert total == self.sent[i][e] + carried + self.gone[i][e]


def rings_of(history: tuple[tuple[RingId, int], ...], steps: int) -> list[RingId]:
    """The ring that committed each step."""
    ends = [first for _, first in history[1:]] + [steps]
    rings = []
    for (ring, first), end in zip(history, ends, strict=True):
        assert first == len(rings)
        rings.extend([ring] * (end - first))
    return rings


def check(world: World, finished: Node) -> None:
    """Equal hashes after every committed step, and state and errors equal to the replay's."""
    replay = Replay(world.job)
    rings = rings_of(finished.member.history, finished.member.step)
    digests: dict[tuple[int, RingId], set[bytes]] = {}
    for node in world.nodes.values():
        for entry in node.log:
            if entry[0] == "commit":
                digests.setdefault((entry[1], entry[2]), set()).add(entry[3])
    at = dict.fromkeys(world.nodes, 0)
    for step, ring in enumerate(rings):
        plan, taken = world.plans[ring], []
        for key in plan.order:
            at[key], samples = catch_up(world.nodes[key].log, at[key], step, ring, replay, key)
            taken.extend(samples)
        assert sorted(taken) == list(range(world.job.batch)), f"samples of step {step}"
        replay.step(step, plan)
        assert digests[step, ring] == {replay.digest()}, f"step {step} of ring {ring}"
    for key in world.nodes:
        for entry in world.nodes[key].log[at[key] :]:
            replay.apply(key, entry)
    replay.balance()
    for key in world.plans[rings[-1]].order:
        node = world.nodes[key]
        here = (node.member.step, node.member.history)
        if here == (finished.member.step, finished.member.history):
            compare(replay, node)


def compare(replay: Replay, node: Node) -> None:
    """A member that lives, or lived until the end, has what the replay has."""
    assert node.holding.carried == replay.of(node.key), f"carried errors of {node.key}"
    for index, latents in node.holding.latents.items():
        assert latents == replay.latents[index], f"slice {index} of {node.key}"


def catch_up(
    log: list[tuple], at: int, step: int, ring: RingId, replay: Replay, key: str
) -> tuple[int, range]:
    """Apply what happened to a member before its last begin of this step: where that is in its
    log, and its samples."""
    begins = [i for i in range(at, len(log)) if log[i][:3] == ("begin", step, ring)]
    assert begins, f"{key} never began step {step} of {ring}"
    for entry in log[at : begins[-1]]:
        replay.apply(key, entry)
    return begins[-1], log[begins[-1]][3]


def check_nothing_lost(world: World, finished: Node) -> int:
    """Steps that survivors had committed and that the end does not know; 0 unless sides parted.

    A survivor is a machine that no fault has struck. What a side commits for itself goes when the
    others were further; the plan that joins them names it.
    """
    rings = rings_of(finished.member.history, finished.member.step)
    last = world.plans[rings[-1]].order
    copies = min([world.job.copies, *(len(plan.order) for plan in world.plans.values())])
    dropped = 0
    for at, key, step, ring in world.commits:
        node = world.nodes[key]
        if rings[step : step + 1] == [ring] or not node.alive or key in world.struck:
            continue
        dropped += 1
        if not world.fired["partition"] + world.fired["cable"]:
            assert world.most_gone >= copies, f"step {step}, committed at {at:.2f}"
        elif key in last and world.most_gone < copies:
            named = {name for p in world.plans.values() for name, _ in p.thrown_away}
            assert key in named, f"step {step} of {key}, committed at {at:.2f}, is not named"
    return dropped
