"""meshd's own exchange of votes over its own links, on a network of binary layers only.

A turn is a whole step of the exchange: the gradient's bits, the reduce-scatter, the owners'
updates, the gather, the new weights in the network. So it has work in it that Gloo's has not.
"""

from __future__ import annotations

import hashlib

import numpy as np

from meshd.bench.ring.contestant import WIDTH, Place
from meshd.core.jobspec import TrainingSpec
from meshd.core.network.graph import resolve
from meshd.core.network.layers import HadamardLinear
from meshd.core.network.spec import LAYERS, NetworkDescription, NetworkSpec
from meshd.hbnn.networks import build_network
from meshd.train.optimizer import Optimizer
from meshd.train.parameters import NetworkParameters
from meshd.train.schedule import LearningRate
from meshd.train.votes import VotesExchange
from meshd.worker.collective import ZmqRing

COPIES = 2
STEPS = 1_000_000  # of the schedule; a contest has a few


def binary_network(params: int) -> NetworkDescription:
    """Layers of WIDTH x WIDTH and a last one that makes up `params`, which are whole rows.

    Every parameter is binary, with the design's default of 16 weights a scale.
    """
    whole, rest = divmod(params // WIDTH, WIDTH)
    outs = [WIDTH] * whole + ([rest] if rest else [])
    layers = tuple(HadamardLinear(out=out) for out in outs)
    spec = NetworkSpec(preset=LAYERS, layers=layers)
    return NetworkDescription(spec, (WIDTH,), outs[-1])


class VotesContestant:
    """One member with its network, its gradient and its part of the ring."""

    def __init__(self, place: Place, ring: ZmqRing) -> None:
        net = build_network(resolve(binary_network(place.params)))
        self._parameters = NetworkParameters(net, place.gamma)
        training = TrainingSpec(schedule="constant")
        optimizer = Optimizer(training, LearningRate(training, STEPS, STEPS))
        self._exchange = VotesExchange(ring, self._parameters, optimizer, COPIES)
        held = self._exchange.held_slices()
        self._exchange.begin(self._parameters.begin(held, optimizer.moments), None)
        draw = np.random.default_rng(place.rank)
        gradient = self._parameters.flat_gradient
        gradient[:] = draw.standard_normal(gradient.size, np.float32)
        self._parameters.clear_padding(gradient)
        self._step = 0

    def prepare(self) -> None:
        """The gradient stays as it is; the carried error is the last step's."""

    def exchange(self) -> None:
        """One step."""
        self._exchange.step(self._step, 1.0)
        self._step += 1

    def digest(self) -> str:
        """Of all packed weights."""
        found = hashlib.sha256()
        for part in self._parameters.slice_map.slices:
            for array in self._parameters.packed_of(part):
                found.update(np.ascontiguousarray(array).data)
        return found.hexdigest()

    def close(self) -> None:
        """The ring is the member's."""
