"""A dumb second implementation of the exchange: one process, no ring, no bits, no slices moved.

It trains the shares of N members one after the other and follows docs/algorithm.md word by word:
counts are integers, the scale is one sum in ring order, and every latent is updated once.
"""

from __future__ import annotations

import struct

import numpy as np
import torch

from meshd.core.jobspec import JobSpec
from meshd.core.shares import equal_weights, place_of, share_of
from meshd.core.slices import own_regions
from meshd.data.dataset import Dataset
from meshd.hbnn.networks import build_network, logits, seed_dropout
from meshd.train.optimizer import Matrix
from meshd.train.order import epoch_order
from meshd.train.parameters import NetworkParameters
from meshd.train.statistics import RunningStatistics
from meshd.train.trainer import draw_seed, job_optimizer, network_of, total_steps


def bfloat16(value: np.float32) -> np.float32:
    """To nearest, ties to even, the slow way: compare both neighbours."""
    bits = struct.unpack("<I", struct.pack("<f", value))[0]
    low, high = bits & 0xFFFF0000, (bits & 0xFFFF0000) + 0x10000
    rest = bits & 0xFFFF
    up = rest > 0x8000 or (rest == 0x8000 and (low >> 16) & 1)
    return np.float32(struct.unpack("<f", struct.pack("<I", high if up else low))[0])


def mean_abs(values: np.ndarray) -> np.float32:
    """The kernels' order of summation: 16 lanes, then halves; divided by the length given."""
    lanes = [np.float32(0)] * 16
    for index, value in enumerate(values):
        lanes[index % 16] = np.float32(lanes[index % 16] + abs(value))
    for half in (8, 4, 2, 1):
        lanes = [np.float32(lanes[j] + lanes[j + half]) for j in range(half)]
    return np.float32(lanes[0] / np.float32(len(values)))


class Simulation:
    """N members in one process."""

    def __init__(self, spec: JobSpec, data: Dataset, members: int) -> None:
        self.spec, self.data, self.members = spec, data, members
        self.net = build_network(network_of(spec, data), spec.training.seed)
        self.parameters = NetworkParameters(self.net, spec.exchange.gamma)
        every = range(len(self.parameters.slice_map.slices))
        self.optimizer = job_optimizer(spec, data)
        self.states = self.parameters.begin(every, self.optimizer.moments)
        size = self.parameters.slice_map.padded
        self.carried = [np.zeros(size, np.float32) for _ in range(members)]
        self.running = RunningStatistics(self.net)
        self.statistics = [self.running.vector() for _ in range(members)]
        self.steps = total_steps(spec, data)
        self.regions = own_regions(self.parameters.slice_map, members)

    def step(self, number: int) -> None:
        gradients = [self.gradient(number, rank) for rank in range(self.members)]
        rule = self.optimizer.at(number)
        for part in self.parameters.slice_map.slices:
            place = slice(part.offset, part.offset + part.size)
            aggregate = self.aggregate(part, [g[place] for g in gradients])
            state = self.states[part.index]
            if part.binary:
                cut = self.net.get_submodule(part.tensor.name.removesuffix(".weight")).rule.cut
                clip = self.spec.training.clip
                matrix = Matrix(part.tensor.columns, part.tensor.beta, cut, clip)
                rule.move(state, aggregate, matrix)
            else:
                rule.move_dense(state, aggregate)
            self.parameters.set_from_latents(part, state.latents)
        self.parameters.show()

    def gradient(self, number: int, rank: int) -> np.ndarray:
        training, samples = self.spec.training, len(self.data.y_train)
        place = place_of(number, samples, training.batch)
        start, stop = share_of(place, rank, equal_weights(self.members))
        if stop > start:
            picked = epoch_order(training.seed, place.epoch, samples)[start:stop]
            x = torch.empty(len(picked), *self.data.input_shape)
            self.data.fill_rows(self.data.x_train, picked, x.numpy())
            if x.dim() == 4:  # float sums depend on how images lie
                x = x.contiguous(memory_format=torch.channels_last)
            y = torch.from_numpy(self.data.y_train[picked])
            self.running.load(self.statistics[rank])
            seed_dropout(self.net, draw_seed(training.seed, number, rank))
            torch.nn.functional.cross_entropy(logits(self.net, x), y).backward()
            self.statistics[rank] = self.running.vector()
        self.parameters.collect_gradient()
        weight = np.float32(self.members * (stop - start) / (place.stop - place.start))
        return self.parameters.flat_gradient * weight

    def average_statistics(self) -> None:
        """What an evaluation or checkpoint does: every member's are their mean, summed by rank."""
        mean = np.empty_like(self.statistics[0])
        for index in range(len(mean)):
            total = np.float32(0)
            for own in self.statistics:
                total = np.float32(total + own[index])
            mean[index] = total / np.float32(self.members)
        self.statistics = [mean.copy() for _ in range(self.members)]
        self.running.load(mean)

    def aggregate(self, part, gradients: list[np.ndarray]) -> np.ndarray:
        """A (2 V - N) / N of one slice, and every member's new carried error."""
        gamma, n = self.spec.exchange.gamma, self.members
        owner = next(r for r, g in enumerate(self.regions) if g.first <= part.index < g.last)
        order = [(owner + 1 + k) % n for k in range(n)]  # the ring brings them in this order
        place = slice(part.offset, part.offset + part.size)
        wanted = [g + e[place] for g, e in zip(gradients, (c for c in self.carried), strict=True)]
        votes = sum((w >= 0).astype(np.int64) for w in wanted)
        scale = np.empty(part.size, np.float32)
        for first in range(0, part.size, gamma):
            segment = slice(first, min(first + gamma, part.size))
            scale[segment] = self.shared_scale([wanted[p][segment] for p in order])
        for carried, w in zip(self.carried, wanted, strict=True):
            carried[place] = w - scale * np.where(w >= 0, 1, -1).astype(np.float32)
        return scale * ((2 * votes - n).astype(np.float32) / np.float32(n))

    def shared_scale(self, segments: list[np.ndarray]) -> np.float32:
        gamma = self.spec.exchange.gamma
        total = None
        for values in segments:
            padded = np.concatenate([values, np.zeros(gamma - len(values), np.float32)])
            mean = mean_abs(padded) * (np.float32(gamma) / np.float32(len(values)))
            total = mean if total is None else np.float32(total + mean)
        return bfloat16(np.float32(total / np.float32(self.members)))
