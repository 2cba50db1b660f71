"""The simulated machines of tests/sim, with a real network, real gradients and real payloads.

Members, captains, links and faults are those of `ring_world`; what a member holds is a trainer's
holding, whose carried error leaves a log for the replay by `oracle.Simulation`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from meshd.core.jobspec import JobSpec
from meshd.core.ring.agreement import Cargo, Plan
from meshd.core.ring.effects import FrameHead
from meshd.core.ring.plan import Shape
from meshd.data.dataset import Dataset
from meshd.hbnn.export import weight_hash

sys.path.insert(0, str(Path(__file__).parents[2] / "sim"))
import ring_faults as faults
from hands import compute, new_trainer
from oracle import Simulation
from ring_links import Weather
from ring_replay import rings_of
from ring_world import Node, World


class RealJob:
    """A job as `World` asks for it."""

    def __init__(self, spec: JobSpec, data: Dataset, steps: int) -> None:
        self.spec, self.data, self.steps = spec, data, steps
        holding = new_trainer(spec, data).holding
        self.buckets, self.copies = holding.buckets, holding.copies
        self._shape = holding.shape()

    def shape(self) -> Shape:
        return self._shape

    def holding(self) -> RealHolding:
        return RealHolding(self)


class RealHolding:
    """A trainer's holding that writes down what happens to the carried error between steps."""

    def __init__(self, job: RealJob) -> None:
        self.trainer = new_trainer(job.spec, job.data)
        self.holding = self.trainer.holding
        self.log: list[tuple] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self.holding, name)

    def prepare(self, plan: Plan, rank: int, step: int) -> None:
        """Compute this member's gradient."""
        self.holding.step = step
        compute(self.trainer, rank, len(plan.order))

    def samples(self) -> tuple[()]:
        """The trainer's own affair: see `compute`."""
        return ()

    def digest(self) -> bytes:
        return weight_hash(self.trainer.net).encode()

    def forget(self) -> None:
        """Nothing of what is known may be used any more: the network is made another one."""
        self.holding.forget()
        for part in self.holding.slices:
            values = np.full(part.size, -7, np.float32)
            self.holding.parameters.set_from_latents(part, values)
        self.holding.parameters.show()
        self.log.append(("forget",))

    def load(self, cargo: Cargo, index: int) -> bytes:
        payload = self.holding.load(cargo, index)
        if cargo is Cargo.CARRIED:
            self.log.append(("handed over", self._place(index)))
        return payload

    def store(self, cargo: Cargo, index: int, payload: bytes) -> None:
        self.holding.store(cargo, index, payload)
        if cargo is Cargo.CARRIED:
            self.log.append(("given", self._place(index), np.frombuffer(payload, np.float32)))

    def _place(self, index: int) -> slice:
        part = self.holding.slices[index]
        return slice(part.offset, part.offset + part.size)


def check(world: World, finished: Node) -> None:
    """After each step all members' networks are the replay's; at the end all else is, too."""
    job = world.job
    replay = Simulation(job.spec, job.data)
    real = replay.parameters.real_places()
    digests: dict[tuple, set[bytes]] = {}
    for node in world.nodes.values():
        for entry in node.log:
            if entry[0] == "commit":
                digests.setdefault((entry[1], entry[2]), set()).add(entry[3])
    at = dict.fromkeys(world.nodes, 0)
    for step, ring in enumerate(rings_of(finished.member.history, finished.member.step)):
        plan = world.plans[ring]
        for key in plan.order:
            log = world.nodes[key].log
            begins = [i for i in range(at[key], len(log)) if log[i][:3] == ("begin", step, ring)]
            between(replay.carried_of(key), log[at[key] : begins[-1]])
            at[key] = begins[-1]
        replay.order = list(plan.order)
        replay.step(step, plan.owners)
        assert digests[step, ring] == {weight_hash(replay.net).encode()}, f"step {step} of {ring}"
    same_state(replay, finished, real)


def between(carried: np.ndarray, log: list[tuple]) -> None:
    """Apply what happened to a member's carried error between two of its steps."""
    for entry in log:
        if entry[0] == "forget":
            carried[:] = 0
        elif entry[0] == "handed over":
            carried[entry[1]] = 0
        elif entry[0] == "given":
            carried[entry[1]] += entry[2]


def same_state(replay: Simulation, node: Node, real: np.ndarray) -> None:
    carried = replay.carried_of(node.key)[real]
    assert node.holding.carried_error().tobytes() == carried.tobytes()
    for index, state in node.holding.states.items():
        wanted = replay.states[index]
        assert state.latents.tobytes() == wanted.latents.tobytes()
        for got, moment in zip(state.moments, wanted.moments, strict=True):
            assert got.tobytes() == moment.tobytes()


Frame = Callable[[str, str, FrameHead], None]


def watch(world: World, frame: Frame) -> None:
    """Look at each frame between two machines before it arrives."""

    def hook(what: str, a: str, b: str, head: FrameHead | None) -> None:
        if head is not None:
            frame(a, b, head)

    world.links.hook = hook


__all__ = ["RealJob", "Weather", "World", "check", "faults", "watch"]
