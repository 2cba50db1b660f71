"""meshd's own exchanges over its own links, on a network of binary layers only.

A turn is a whole step of the exchange: the gradient's bits, the reduce, the owners' updates, the
gather, the new weights in the network. So it has work in it that Gloo's has not. It is driven as a
worker's is, by a `RingThread`; only the captain is missing: the plan is the one of a job's start.
"""

from __future__ import annotations

import hashlib
import sys

import numpy as np
import torch

from meshd.bench.ring.contestant import WIDTH, Place
from meshd.core.jobspec import TrainingSpec
from meshd.core.messages import RingMember as RingAddress
from meshd.core.network.graph import resolve
from meshd.core.network.layers import HadamardLinear
from meshd.core.network.spec import LAYERS, NetworkDescription, NetworkSpec
from meshd.core.ring.agreement import Proposal, RingId
from meshd.core.ring.effects import Answer, Complaint
from meshd.core.ring.member import RingMember
from meshd.hbnn.networks import build_network
from meshd.net.bulk import BulkLinks
from meshd.train.collective import first_plan
from meshd.train.optimizer import Optimizer
from meshd.train.parameters import NetworkParameters
from meshd.train.schedule import LearningRate
from meshd.train.statistics import RunningStatistics
from meshd.train.trainer import HOLDINGS
from meshd.worker.collective import ElasticRing
from meshd.worker.ring_thread import RingThread

COPIES = 2
STEPS = 1_000_000  # of the schedule; a contest has a few
LEARNING_RATE = 5e-5
"""Flips about as many signs a step as real training does (docs/adr/0017): the gradient of a turn is
the last one's, so Adam moves every latent by this."""


def binary_network(params: int) -> NetworkDescription:
    """Layers of WIDTH x WIDTH and a last one that makes up `params`, which are whole rows.

    Every parameter is binary, with the design's default of 16 weights a scale.
    """
    whole, rest = divmod(params // WIDTH, WIDTH)
    outs = [WIDTH] * whole + ([rest] if rest else [])
    layers = tuple(HadamardLinear(out=out) for out in outs)
    spec = NetworkSpec(preset=LAYERS, layers=layers)
    return NetworkDescription(spec, (WIDTH,), outs[-1])


class ExchangeContestant:
    """One member with its network, its gradient and its part of the ring."""

    def __init__(
        self, place: Place, kind: str, links: BulkLinks, members: tuple[RingAddress, ...]
    ) -> None:
        net = build_network(resolve(binary_network(place.params)))
        self._parameters = NetworkParameters(net, place.gamma)
        training = TrainingSpec(schedule="constant", learning_rate=LEARNING_RATE)
        optimizer = Optimizer(training, LearningRate(training, STEPS, STEPS))
        self._holding = HOLDINGS[kind](self._parameters, optimizer, RunningStatistics(net), COPIES)
        every = range(len(self._parameters.slice_map.slices))
        self._holding.begin(self._parameters.begin(every, optimizer.moments))
        self._holding.weight = 1 / place.size
        self._draw(net, place.rank)
        self._links = links
        self._begin(place, members)

    def _draw(self, net: torch.nn.Module, rank: int) -> None:
        chance = torch.Generator().manual_seed(rank)
        for parameter in net.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=chance)

    def _begin(self, place: Place, members: tuple[RingAddress, ...]) -> None:
        """Enter the first ring, as if its captain had said so."""
        keys = tuple(member.key for member in members)
        member = RingMember(keys[place.rank], self._holding, self._holding.lay_out, 0)
        self._thread = RingThread(member, self._links, _complain)
        self._ring = ElasticRing()
        self._ring.attach(self._thread)
        self._thread.start()
        ring = RingId(1, keys[0])
        plan = first_plan(keys, self._holding, ring)
        self._thread.propose(Proposal(ring, keys))
        self._thread.commit(plan, members)
        self._ring.join(self._holding)

    def prepare(self) -> None:
        """The gradient stays as it is; the carried error is the last step's."""

    def exchange(self) -> None:
        """One step."""
        self._ring.begin()
        for bucket in range(max(self._holding.buckets) + 1):
            self._ring.opened(bucket)
        self._ring.finish()

    def digest(self) -> str:
        """Of all packed weights."""
        found = hashlib.sha256()
        for part in self._parameters.slice_map.slices:
            for array in self._parameters.packed_of(part):
                found.update(np.ascontiguousarray(array).data)
        return found.hexdigest()

    def close(self) -> None:
        """End the thread; the links are the member's."""
        self._thread.stop()


def _complain(effect: Answer | Complaint) -> None:
    """Nobody is captain here: a turn that cannot go on ends with the crew's patience."""
    if isinstance(effect, Complaint):
        print(f"{effect.about} {effect.why}", file=sys.stderr, flush=True)
