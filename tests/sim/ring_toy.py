"""A job of small whole numbers: the same protocol of numbers as the real replicas, exact and quick.

Gradients depend on the samples and on every weight, so that one wrong bit anywhere spreads. Votes,
shared scale and carried error are those of docs/algorithm.md in whole numbers:

    v = g + e,  A = sum |v| // (members x elements) over members and a slice,  V = votes for +
    w <- w - A (2 V - N) // 4,  e <- v - A sign(v)      so that sum of v = sum of sent + sum of e
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from meshd.core.ring.agreement import Cargo, Plan
from meshd.core.ring.plan import Shape
from meshd.core.ring.replica import BadPayloadError
from meshd.core.ring.route import Route

ELEMENTS = 3  # numbers in a slice


@dataclass(frozen=True)
class ToyJob:
    """slices: bucket of each; shared: those that every member holds."""

    buckets: tuple[int, ...]
    shared: frozenset[int]
    copies: int
    steps: int
    batch: int
    direct: bool = False

    def shape(self) -> Shape:
        weights = tuple(0 if i in self.shared else 1 for i in range(len(self.buckets)))
        return Shape((10,) * len(self.buckets), self.buckets, weights, self.copies)

    def route(self, plan: Plan, rank: int) -> Route:
        size, count = len(plan.order), max(self.buckets) + 1
        full = {(self.buckets[i], owner) for i, owner in enumerate(plan.owners)}
        every = len(self.shared) == len(self.buckets)
        empty = {b * size + o for b in range(count) for o in range(size) if (b, o) not in full}
        hops = size - 1 if every else min(self.copies, size) - 1
        return Route(rank, size, count, hops, self.direct, frozenset(empty))

    def holding(self) -> ToyHolding:
        return ToyHolding(self)


def first_latents(index: int) -> list[int]:
    return [(index * 7 + 3 * e) % 11 - 5 for e in range(ELEMENTS)]


def seen(latents: Sequence[int]) -> tuple[int, ...]:
    """What the network sees of a binary slice: signs and one scale."""
    return (*(1 if w >= 0 else -1 for w in latents), sum(abs(w) for w in latents))


def gradient(step: int, sample: int, index: int, weights: bytes) -> list[int]:
    digest = hashlib.blake2b(b"%d %d %d" % (step, sample, index) + weights, digest_size=ELEMENTS)
    return [byte - 128 for byte in digest.digest()]


def share(batch: int, rank: int, size: int) -> range:
    return range(rank * batch // size, (rank + 1) * batch // size)


def sign(number: int) -> int:
    return 1 if number >= 0 else -1


@dataclass
class Staged:
    """A running step's results."""

    latents: dict[int, list[int]] = field(default_factory=dict)
    weights: dict[int, tuple[int, ...]] = field(default_factory=dict)
    scales: dict[int, int] = field(default_factory=dict)
    payloads: dict[int, dict[bool, bytes]] = field(default_factory=dict)


class ToyHolding:
    """One member's share of a ToyJob's state."""

    def __init__(self, job: ToyJob) -> None:
        self.job = job
        every = range(len(job.buckets))
        self.latents = {i: first_latents(i) for i in every}
        self.weights: dict[int, tuple[int, ...]] = {
            i: tuple(first_latents(i)) if i in job.shared else seen(first_latents(i)) for i in every
        }
        self.carried = {i: [0] * ELEMENTS for i in every}
        self.plan: Plan | None = None
        self.rank = 0
        self.step = 0
        self.wanted: dict[int, list[int]] = {}
        """v of the running step."""
        self.kept: frozenset[int] = frozenset(every)
        self.staged = Staged()
        self.before = Staged()
        self.log: list[tuple] = []
        """What happened to the carried error and the state between steps."""

    def lay_out(self, plan: Plan, rank: int) -> Route:
        return self.job.route(plan, rank)

    def prepare(self, plan: Plan, rank: int, step: int) -> None:
        """The compute thread is about to begin a step of this ring."""
        self.plan, self.rank, self.step = plan, rank, step

    def samples(self) -> range:
        """Which of a step's samples are this member's."""
        return share(self.job.batch, self.rank, len(self.plan.order))

    def digest(self) -> bytes:
        return hashlib.blake2b(repr(sorted(self.weights.items())).encode(), digest_size=8).digest()

    # --- replica ---------------------------------------------------------------------------------

    def _slices(self, chunk: int) -> list[int]:
        size = len(self.plan.order)
        bucket, owner = chunk // size, chunk % size
        return [
            i for i, o in enumerate(self.plan.owners) if (self.job.buckets[i], o) == (bucket, owner)
        ]

    def open(self, bucket: int) -> None:
        weights = self.digest()
        for index, its in enumerate(self.job.buckets):
            if its != bucket:
                continue
            total = list(self.carried[index])
            for sample in self.samples():
                for e, g in enumerate(gradient(self.step, sample, index, weights)):
                    total[e] += g
            self.wanted[index] = total

    def own(self, chunk: int) -> bytes:
        parts = {
            i: ([int(v >= 0) for v in self.wanted[i]], sum(abs(v) for v in self.wanted[i]))
            for i in self._slices(chunk)
        }
        return encode(parts)

    def merge(self, chunk: int, total: bytes, voters: int, part: bytes) -> bytes:
        left, right = self._parts(chunk, total), self._parts(chunk, part)
        if any(max(votes) > voters for votes, _ in left.values()):
            raise BadPayloadError("more votes than voters")
        return encode(
            {
                i: (
                    [a + b for a, b in zip(left[i][0], right[i][0], strict=True)],
                    left[i][1] + right[i][1],
                )
                for i in left
            }
        )

    def add(self, chunk: int, payload: bytes, voters: int) -> bytes:
        return self.merge(chunk, payload, voters, self.own(chunk))

    def _parts(self, chunk: int, payload: bytes) -> dict[int, tuple[list[int], int]]:
        parts = decode(payload)
        if sorted(parts) != self._slices(chunk):
            raise BadPayloadError("not the chunk's slices")
        return parts

    def decide(self, chunk: int, payload: bytes) -> bytes:
        members = len(self.plan.order)
        decision = encode(
            {
                i: (votes, total // (members * ELEMENTS))
                for i, (votes, total) in self._parts(chunk, payload).items()
            }
        )
        self.take_decision(chunk, decision)
        return decision

    def take_decision(self, chunk: int, payload: bytes) -> None:
        for index, (votes, scale) in self._parts(chunk, payload).items():
            self._move(index, votes, scale)
        self.staged.payloads.setdefault(chunk, {})[True] = bytes(payload)

    def _move(self, index: int, votes: list[int], scale: int) -> None:
        members = len(self.plan.order)
        moved = [
            w - scale * (2 * v - members) // 4
            for w, v in zip(self.latents[index], votes, strict=True)
        ]
        self.staged.latents[index] = moved
        self.staged.weights[index] = tuple(moved) if index in self.job.shared else seen(moved)
        self.staged.scales[index] = scale

    def finished(self, chunk: int) -> bytes:
        return self._finished(self.staged.payloads[chunk][True], self.staged)

    def _finished(self, decision: bytes, staged: Staged) -> bytes:
        return encode(
            {
                i: (votes if i in self.job.shared else list(staged.weights[i]), scale)
                for i, (votes, scale) in decode(decision).items()
            }
        )

    def take_finished(self, chunk: int, payload: bytes) -> None:
        for index, (numbers, scale) in self._parts(chunk, payload).items():
            if index in self.job.shared:
                self._move(index, numbers, scale)
            else:
                self.staged.weights[index] = tuple(numbers)
                self.staged.scales[index] = scale
        self.staged.payloads.setdefault(chunk, {})[False] = bytes(payload)

    def commit(self) -> None:
        assert sorted(self.staged.scales) == list(range(len(self.job.buckets)))
        for index, scale in self.staged.scales.items():
            self.carried[index] = [v - scale * sign(v) for v in self.wanted[index]]
        self.weights.update(self.staged.weights)
        for index in list(self.latents):
            if index in self.kept and index in self.staged.latents:
                self.latents[index] = self.staged.latents[index]
            else:
                del self.latents[index]
        self.before, self.staged = self.staged, Staged()

    def abort(self) -> None:
        self.staged = Staged()
        self.wanted.clear()

    # --- holding ---------------------------------------------------------------------------------

    def held(self) -> tuple[int, ...]:
        return tuple(sorted(self.latents))

    def going(self) -> tuple[int, ...]:
        return tuple(sorted(set(self.latents) - self.kept))

    def forget(self) -> None:
        self.latents.clear()
        self.weights.clear()
        self.carried = {i: [0] * ELEMENTS for i in range(len(self.job.buckets))}
        self.before = Staged()
        self.log.append(("forget",))

    def adopt(self, held: tuple[int, ...]) -> None:
        assert set(held) <= set(self.latents)
        assert len(self.weights) == len(self.job.buckets)
        self.kept = frozenset(held)

    def past(self, chunk: int, decided: bool) -> bytes:
        payloads = self.before.payloads[chunk]
        if decided or False in payloads:
            return payloads[decided]
        return self._finished(payloads[True], self.before)

    def load(self, cargo: Cargo, index: int) -> bytes:
        if cargo is Cargo.SLICE:
            return json.dumps(self.latents[index]).encode()
        if cargo is Cargo.WEIGHTS:
            return json.dumps(self.weights[index]).encode()
        assert cargo is Cargo.CARRIED
        payload = encode({index: (self.carried[index], 0)})
        self.carried[index] = [0] * ELEMENTS
        self.log.append(("handed over", index))
        return payload

    def store(self, cargo: Cargo, index: int, payload: bytes) -> None:
        if cargo is Cargo.CARRIED:
            came = {i: numbers for i, (numbers, _) in decode(payload).items()}
            self.log.append(("given", came))
            for i, numbers in came.items():
                self.carried[i] = [a + b for a, b in zip(self.carried[i], numbers, strict=True)]
            return
        numbers = json.loads(bytes(payload))
        if cargo is Cargo.SLICE:
            self.latents[index] = numbers
            self.weights[index] = tuple(numbers) if index in self.job.shared else seen(numbers)
        else:
            self.weights[index] = tuple(numbers)


def encode(parts: dict[int, tuple[list[int], int]]) -> bytes:
    return json.dumps(sorted(parts.items())).encode()


def decode(payload: bytes) -> dict[int, tuple[list[int], int]]:
    try:
        return {index: (numbers, scale) for index, (numbers, scale) in json.loads(bytes(payload))}
    except (ValueError, TypeError) as error:
        raise BadPayloadError("no parts") from error
