"""Holdings joined without threads: any gradients, any frame lost, a step ended anywhere."""

from __future__ import annotations

from collections import deque

import numpy as np
import torch

from meshd.core.jobspec import parse_spec
from meshd.core.ring.route import Phase
from meshd.core.ring.step import RingStep
from meshd.core.types import MachineKey
from meshd.data.dataset import Dataset
from meshd.train.collective import first_plan, local_ring
from meshd.train.local_steps import LocalSteps
from meshd.train.trainer import Trainer


def small_data(samples: int = 101, inputs: int = 37, classes: int = 5) -> Dataset:
    """Noisy clusters: odd sizes, so that every kind of padding and a short last batch occur."""
    generator = np.random.default_rng(5)
    centres = generator.integers(0, 200, (classes, inputs))
    y = generator.integers(0, classes, samples)
    y[:classes] = np.arange(classes)
    x = np.clip(centres[y] + generator.normal(0, 20, (samples, inputs)), 0, 255).astype(np.uint8)
    return Dataset(x, y, x[:20], y[:20], classes, np.float32(1 / 255))


def job(kind: str, local_steps: int = 1, *, width: int = 20, copies: int = 2, **training):
    return parse_spec(
        {
            "name": "test",
            "network": {"width": width, "beta_w": 16, "beta_a": 16},
            "training": {"batch": 16, "learning_rate": 1e-2, **training},
            "exchange": {"kind": kind, "local_steps": local_steps},
            "mesh": {"copies": copies},
        }
    )


class BareRing:
    """`members` holdings of a job, and the steps that they run."""

    def __init__(self, spec, members: int) -> None:
        torch.set_num_threads(1)
        self.trainers = [Trainer(spec, small_data(), member) for member in local_ring(members)]
        for trainer in self.trainers:
            trainer.begin()
        self.holdings = [trainer.holding for trainer in self.trainers]
        keys = tuple(MachineKey(f"{rank:06}") for rank in range(members))
        self.plan = first_plan(keys, self.holdings[0])
        self.steps: list[RingStep] = []
        self.frames: deque[tuple[int, object]] = deque()

    def begin(self, seed: int, size: float = 1.0) -> None:
        """Every member has a gradient drawn from `seed`, or has made a local step by it."""
        members = len(self.holdings)
        self.frames.clear()
        self.steps = []
        for rank, holding in enumerate(self.holdings):
            generator = np.random.default_rng([seed, rank])
            if isinstance(holding, LocalSteps):
                holding.begin_round()
            for tensor in self.trainers[rank].net.parameters():
                drawn = generator.normal(0, size, tuple(tensor.shape)).astype(np.float32)
                drawn[generator.random(drawn.shape) < 0.3] = 0.0
                tensor.grad = torch.from_numpy(drawn)
            if isinstance(holding, LocalSteps):
                holding.step_alone(holding.step)
            holding.weight = (rank + 1) / sum(range(members + 1))
            route = holding.lay_out(self.plan, rank)
            self.steps.append(RingStep(route, holding))

    def open(self) -> None:
        """All buckets of all members."""
        for rank, step in enumerate(self.steps):
            for bucket in range(step.route.buckets):
                step.open(bucket)
            self.collect(rank)

    def collect(self, rank: int) -> None:
        self.frames.extend((rank, frame) for frame in self.steps[rank].drain())

    def deliver(self, most: int | None = None) -> int:
        """Bring up to `most` frames; returns how many."""
        count = 0
        while self.frames and (most is None or count < most):
            sender, frame = self.frames.popleft()
            self.steps[frame.to].receive(
                sender, frame.phase, frame.chunk, frame.hop, memoryview(bytes(frame.payload))
            )
            self.collect(frame.to)
            count += 1
        return count

    def step(self, seed: int, size: float = 1.0) -> None:
        """A whole step."""
        self.begin(seed, size)
        self.open()
        self.deliver()
        assert all(step.complete for step in self.steps)
        for holding in self.holdings:
            holding.commit()

    def wanted(self) -> list[np.ndarray]:
        """v of each member, float64, as it is after `begin`; padding is 0."""
        found = []
        for holding in self.holdings:
            size = holding.parameters.slice_map.padded
            own = np.zeros(size, np.float32)
            holding._want(0, size, own)
            found.append(own.astype(np.float64) + holding.carried)
        return found

    def state(self) -> list[bytes]:
        """All that further steps depend on, member by member."""
        return [
            b"".join(
                [
                    *(
                        array.tobytes()
                        for index in sorted(h.states)
                        for array in (h.states[index].latents, *h.states[index].moments)
                    ),
                    h.carried.tobytes(),
                    *self.weights(h),
                ]
            )
            for h in self.holdings
        ]

    @staticmethod
    def weights(holding) -> list[bytes]:
        """What the network computes with."""
        found = []
        for part in holding.slices:
            if part.binary:
                found += [array.tobytes() for array in holding.parameters.packed_of(part)]
            else:
                dense = holding.parameters._dense[part.tensor.name]
                found.append(dense[part.start : part.stop].tobytes())
        return found


def leave_behind(ring: BareRing, late: int) -> None:
    """`late` loses what it would be the last to hear of the running step; the others commit. It
    hears the results from them, as a plan has it, and commits too.

    What no single donor holds has come through the receiver; here another one says it again.
    """
    size = len(ring.holdings)
    while ring.frames:
        _, frame = ring.frames[0]
        if frame.to == late and frame.phase is not Phase.REDUCE and frame.hop == size - 2:
            ring.frames.popleft()
        else:
            ring.deliver(1)
    left = [rank for rank in range(size) if rank != late]
    assert [rank for rank in range(size) if ring.steps[rank].complete] == left
    for rank in left:
        ring.holdings[rank].commit()
    step = ring.steps[late]
    for chunk in step.route.every_chunk():
        is_held = step.route.holds(chunk)
        donor = next(r for r in left if not is_held or ring.steps[r].route.holds(chunk))
        phase = Phase.DECISION if is_held else Phase.FINISHED
        step.settle(phase, chunk, ring.holdings[donor].past(chunk, is_held))
    assert step.complete
    ring.holdings[late].commit()
