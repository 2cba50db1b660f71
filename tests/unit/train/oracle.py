"""A dumb second implementation of the exchange: one process, no ring, no bits, no slices moved.

It trains the shares of N members one after the other and follows docs/algorithm.md word by word:
counts are integers, scales are numbers of a table, and every latent is updated once. Members have
names, and bring their carried errors along from ring to ring.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from meshd.core.jobspec import JobSpec
from meshd.core.shares import equal_weights, place_of, share_of
from meshd.data.dataset import Dataset
from meshd.hbnn.networks import as_rows, build_network, logits, seed_dropout
from meshd.train.optimizer import Matrix
from meshd.train.order import epoch_order
from meshd.train.parameters import NetworkParameters
from meshd.train.statistics import RunningStatistics
from meshd.train.trainer import draw_seed, job_optimizer, network_of, total_steps

BYTE_SCALES = np.array([2.0 ** (c // 8 - 27) * (1 + c % 8 / 8) for c in range(256)])
"""What a scale's byte stands for, but that 0 stands for 0."""


def one_byte(value: np.float32) -> np.float32:
    """The nearest scale that a byte can say; of two as near the one of the even byte."""
    distances = np.abs(BYTE_SCALES - float(value))
    code = min(np.flatnonzero(distances == distances.min()), key=lambda c: c % 2)
    return np.float32(BYTE_SCALES[code] if code else 0)


def mean_abs(values: np.ndarray) -> np.float32:
    """The kernels' order of summation: 16 lanes, then halves; divided by the length given."""
    lanes = np.zeros(16, np.float32)
    for start in range(0, len(values), 16):
        lanes[: len(values) - start] += np.abs(values[start : start + 16])
    for half in (8, 4, 2, 1):
        lanes = lanes[:half] + lanes[half:]
    return np.float32(lanes[0] / np.float32(len(values)))


class Simulation:
    """The members of a job in one process, at first `members`, of names 000000, 000001, ..."""

    def __init__(self, spec: JobSpec, data: Dataset, members: int = 0) -> None:
        self.spec, self.data = spec, data
        self.order = [f"{rank:06}" for rank in range(members)]
        self.net = build_network(network_of(spec, data), spec.training.seed)
        self.parameters = NetworkParameters(self.net, spec.exchange.gamma)
        every = range(len(self.parameters.slice_map.slices))
        self.optimizer = job_optimizer(spec, data)
        self.states = self.parameters.begin(every, self.optimizer.moments)
        self.carried: dict[str, np.ndarray] = {}
        self.running = RunningStatistics(self.net)
        self.first_statistics = self.running.vector()
        self.statistics: dict[str, np.ndarray] = {}
        self.steps = total_steps(spec, data)

    def carried_of(self, key: str) -> np.ndarray:
        """A member's carried error (padded,); nothing at first."""
        size = self.parameters.slice_map.padded
        return self.carried.setdefault(key, np.zeros(size, np.float32))

    def step(self, number: int, owners: Sequence[int]) -> None:
        """`owners`: of each slice the rank of its owner in `order`."""
        gradients = [self.gradient(number, rank) for rank in range(len(self.order))]
        rule = self.optimizer.at(number)
        for part in self.parameters.slice_map.slices:
            place = slice(part.offset, part.offset + part.size)
            aggregate = self.aggregate(part, [g[place] for g in gradients], owners[part.index])
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
        """g b / B of one member, laid out as the flat vector."""
        training, samples = self.spec.training, len(self.data.y_train)
        place = place_of(number, samples, training.batch)
        start, stop = share_of(place, rank, equal_weights(len(self.order)))
        for parameter in self.net.parameters():
            parameter.grad = None
        if stop > start:
            picked = epoch_order(training.seed, place.epoch, samples)[start:stop]
            x = torch.empty(len(picked), *self.data.input_shape)
            self.data.fill_rows(self.data.x_train, picked, x.numpy())
            if x.dim() == 4:  # float sums depend on how images lie
                x = x.contiguous(memory_format=torch.channels_last)
            y = torch.from_numpy(self.data.y_train[picked])
            self.running.load(self.statistics.get(self.order[rank], self.first_statistics))
            seed_dropout(self.net, draw_seed(training.seed, number, rank))
            torch.nn.functional.cross_entropy(logits(self.net, x), y).backward()
            self.statistics[self.order[rank]] = self.running.vector()
        weight = np.float32((stop - start) / (place.stop - place.start))
        flat = np.zeros(self.parameters.slice_map.padded, np.float32)
        tensors = dict(self.net.named_parameters())
        for part in self.parameters.slice_map.slices:
            whole = tensors[part.tensor.name].grad
            if whole is not None:
                own = as_rows(whole).reshape(-1).numpy()[part.start : part.stop]
                flat[part.offset : part.offset + part.size] = own * weight
        return flat

    def average_statistics(self) -> None:
        """What an evaluation or checkpoint does: every member's are their mean, summed by rank."""
        mean = np.empty_like(self.first_statistics)
        for index in range(len(mean)):
            total = np.float32(0)
            for key in self.order:
                total = np.float32(total + self.statistics.get(key, self.first_statistics)[index])
            mean[index] = total / np.float32(len(self.order))
        self.statistics = {key: mean.copy() for key in self.order}
        self.running.load(mean)

    def aggregate(self, part, gradients: list[np.ndarray], owner: int) -> np.ndarray:
        """What the ring decides on one slice; every member's carried error is the new one then."""
        if self.spec.exchange.kind == "onebit":
            return self.bit_by_bit(part, gradients, owner)
        return self.votes(part, gradients, owner)

    def bit_by_bit(self, part, gradients: list[np.ndarray], owner: int) -> np.ndarray:
        """s_N of one slice: from hop to hop the sum so far is said in a bit each, the rest kept."""
        gamma, n = self.spec.exchange.gamma, len(self.order)
        place = slice(part.offset, part.offset + part.size)
        said = np.zeros(part.size, np.float32)
        for rank in [(owner + 1 + k) % n for k in range(n)]:
            carried = self.carried_of(self.order[rank])
            total = said + (gradients[rank] + carried[place])
            scale = np.empty(part.size, np.float32)
            for start in range(0, part.size, gamma):
                segment = slice(start, min(start + gamma, part.size))
                scale[segment] = one_byte(self.own_scale(total[segment]))
            said = scale * np.where(total >= 0, 1, -1).astype(np.float32)
            carried[place] = total - said
        return said.copy()

    def votes(self, part, gradients: list[np.ndarray], owner: int) -> np.ndarray:
        """A (2 V - N) of one slice."""
        gamma, n = self.spec.exchange.gamma, len(self.order)
        first = owner if self.spec.exchange.kind == "direct" else owner + 1
        order = [(first + k) % n for k in range(n)]  # in which the parts are added up
        place = slice(part.offset, part.offset + part.size)
        carried = [self.carried_of(key) for key in self.order]
        wanted = [g + e[place] for g, e in zip(gradients, carried, strict=True)]
        votes = sum((w >= 0).astype(np.int64) for w in wanted)
        scale = np.empty(part.size, np.float32)
        for start in range(0, part.size, gamma):
            segment = slice(start, min(start + gamma, part.size))
            scale[segment] = self.shared_scale([wanted[p][segment] for p in order])
        for own, w in zip(carried, wanted, strict=True):
            own[place] = w - scale * np.where(w >= 0, 1, -1).astype(np.float32)
        return (scale * np.float32(n)) * ((2 * votes - n).astype(np.float32) / np.float32(n))

    def shared_scale(self, segments: list[np.ndarray]) -> np.float32:
        """A of one segment: a running mean, at each member rounded to what a byte can say."""
        shared = np.float32(0)
        for count, values in enumerate(segments, 1):
            own = self.own_scale(values)
            if count == 1:
                shared = one_byte(own)
                continue
            if self.spec.exchange.kind == "direct":  # it has travelled on its own
                own = one_byte(own)
            shared = one_byte(shared + (own - shared) / np.float32(count))
        return shared

    def own_scale(self, values: np.ndarray) -> np.float32:
        """mean |v| of the real elements of a segment."""
        gamma = self.spec.exchange.gamma
        padded = np.concatenate([values, np.zeros(gamma - len(values), np.float32)])
        return mean_abs(padded) * (np.float32(gamma) / np.float32(len(values)))
