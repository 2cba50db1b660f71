"""One member's training run: steps, evaluations and checkpoints, in the order all members share.

`run` yields what happened; what to do with it (tell a daemon, draw a bar) is the caller's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from meshd.core.errors import UsageError
from meshd.core.jobspec import JobSpec
from meshd.core.network.graph import Network, resolve
from meshd.core.network.spec import NetworkDescription
from meshd.core.schedule import Phase, gather_hops
from meshd.core.shares import equal_weights, place_of, share_of, steps_per_epoch
from meshd.data.augment import augment_rows, check_augmentation
from meshd.data.dataset import Dataset
from meshd.hbnn.networks import build_network, logits, predict, seed_dropout
from meshd.train.collective import Collective
from meshd.train.errors import TrainingError, UnfitJobError
from meshd.train.float32 import Float32Exchange
from meshd.train.optimizer import Optimizer, SliceState
from meshd.train.order import epoch_order
from meshd.train.parameters import Floats, NetworkParameters
from meshd.train.schedule import LearningRate
from meshd.train.statistics import RunningStatistics
from meshd.train.votes import VotesExchange

TALLY = struct.Struct("<qq")  # correct answers, samples
DRAWS = 2**64 - 1  # no epoch has this number: the draws are no part of an order of samples
EVALUATION_BATCH = 1000  # samples at once,
EVALUATION_BYTES = 32 << 20  # or as many as keep a layer's output within


class Exchange(Protocol):
    """What every exchange offers; see `VotesExchange` for each part's contract."""

    states: dict[int, SliceState]
    takes_flat_gradient: bool
    """Whether `step` reads `NetworkParameters.flat_gradient`, rather than parameters' own."""

    def held_slices(self) -> list[int]:
        """Slices whose state this member must have."""
        ...

    def kept_slices(self) -> list[int]:
        """Slices that this member writes into checkpoints."""
        ...

    def begin(self, states: Mapping[int, SliceState], carried: Floats | None) -> None:
        """Take over slice states and the carried error, if one is resumed."""
        ...

    def carried_error(self) -> Floats:
        """What this member could not say yet."""
        ...

    def step(self, step: int, weight: float) -> None:
        """Exchange the flat gradient and commit the step."""
        ...


EXCHANGES: dict[str, type[VotesExchange] | type[Float32Exchange]] = {
    "votes": VotesExchange,
    "float32": Float32Exchange,
}


@dataclass(frozen=True)
class Stepped:
    """Step number `step` is committed; `loss`: mean over this member's share, NaN without one."""

    step: int
    epoch: int
    loss: float


@dataclass(frozen=True)
class Evaluated:
    """After `step` committed steps the network gets `accuracy` (0..1) of the test set right."""

    step: int
    epoch: int
    accuracy: float


@dataclass(frozen=True)
class CheckpointDue:
    """After `step` committed steps: the caller writes `kept_slices` and the carried error."""

    step: int


Event = Stepped | Evaluated | CheckpointDue


class Trainer:
    """A member's network, data and exchange."""

    def __init__(self, spec: JobSpec, data: Dataset, collective: Collective) -> None:
        self.spec = spec
        network = network_of(spec, data)
        self.description = network.description
        self.net = build_network(network, spec.training.seed, spec.training.backward)
        self.parameters = NetworkParameters(self.net, spec.exchange.gamma)
        self.statistics = RunningStatistics(self.net)
        self.per_epoch = steps_per_epoch(len(data.y_train), spec.training.batch)
        self.steps = total_steps(spec, data)
        self._data = data
        self._at_once = max(1, min(EVALUATION_BATCH, EVALUATION_BYTES // (4 * network.widest)))
        refuse_augmentation(spec, data)
        self._collective = collective
        self.optimizer = job_optimizer(spec, data)
        self.exchange: Exchange = EXCHANGES[spec.exchange.kind](
            collective, self.parameters, self.optimizer, spec.mesh.copies
        )

    def begin(self) -> None:
        """Start from the job's seed."""
        held = self.exchange.held_slices()
        self.exchange.begin(self.parameters.begin(held, self.optimizer.moments), None)

    def resume(
        self,
        states: Mapping[int, SliceState],
        carried: Floats | None,
        statistics: Floats | None = None,
    ) -> None:
        """Start from a checkpoint: the states of all slices, and this member's carried error.

        `statistics`: the ring's running ones, where the network has any.

        Raises:
            TrainingError: the statistics are impossible.
        """
        if statistics is not None:
            if not self.statistics.are_possible(statistics):
                raise TrainingError("the checkpoint's running statistics are impossible")
            self.statistics.load(statistics)
        for part in self.parameters.slice_map.slices:
            self.parameters.set_from_latents(part, states[part.index].latents)
        self.parameters.show()
        held = self.exchange.held_slices()
        self.exchange.begin({index: states[index] for index in held}, carried)

    def run(self, first_step: int = 0) -> Iterator[Event]:
        """Train from `first_step` to the last; raises what the exchange raises."""
        training = self.spec.training
        order: tuple[int, NDArray[np.int64]] = (-1, np.zeros(0, np.int64))
        samples = len(self._data.y_train)
        for step in range(first_step, self.steps):
            place = place_of(step, samples, training.batch)
            if order[0] != place.epoch:
                order = place.epoch, epoch_order(training.seed, place.epoch, samples)
            rank, size = self._collective.rank, self._collective.size
            start, stop = share_of(place, rank, equal_weights(size))
            torch.manual_seed(draw_seed(training.seed, step, rank))
            seed_dropout(self.net, draw_seed(training.seed, step, rank))
            loss = self._compute(order[1][start:stop], place.epoch)
            weight = size * (stop - start) / (place.stop - place.start)
            self.exchange.step(step, weight)
            done = step + 1
            yield Stepped(done, place.epoch, loss)
            is_due = done % training.checkpoint_steps == 0 and done < self.steps
            is_evaluated = self.is_evaluated(done)
            if is_due or is_evaluated:
                self.statistics.average(self._collective, step)
            if is_evaluated:
                yield Evaluated(done, place.epoch + 1, self._evaluate(step))
            if is_due:
                yield CheckpointDue(done)

    def is_evaluated(self, done: int) -> bool:
        """Whether an evaluation follows after `done` steps: at the end of every epoch."""
        return done % self.per_epoch == 0 or done == self.steps

    def _compute(self, picked: NDArray[np.int64], epoch: int) -> float:
        """Forward and backward on the picked samples; the gradient lands where it is taken."""
        loss_value = float("nan")
        self.net.train()
        if len(picked):
            x = self._rows(self._data.x_train, picked)
            training = self.spec.training
            augment_rows(x.numpy(), picked, training.augment, training.seed, epoch)
            y = torch.from_numpy(self._data.y_train[picked])
            loss = torch.nn.functional.cross_entropy(logits(self.net, x), y)
            loss.backward()  # type: ignore[no-untyped-call]
            loss_value = float(loss.detach())
        if self.exchange.takes_flat_gradient:
            self.parameters.collect_gradient()
        return loss_value

    def _rows(self, x: NDArray[np.uint8 | np.float32], picked: NDArray[np.int64]) -> torch.Tensor:
        """Picked samples in memory of torch's: MKL's float products depend on alignment, and
        torch's allocations are aligned alike in every run (oneMKL developer guide, "Obtaining
        numerically reproducible results"). Images lie channels last, as the layers read them."""
        rows = torch.empty(len(picked), *self._data.input_shape)
        self._data.fill_rows(x, picked, rows.numpy())
        return rows.contiguous(memory_format=torch.channels_last) if rows.dim() == 4 else rows

    def _evaluate(self, step: int) -> float:
        """Test accuracy: each member takes a share of the test set, the counts go round."""
        rank, size = self._collective.rank, self._collective.size
        total = len(self._data.y_test)
        correct = 0
        last = (rank + 1) * total // size
        for start in range(rank * total // size, last, self._at_once):
            picked = np.arange(start, min(start + self._at_once, last))
            answers = predict(self.net, self._rows(self._data.x_test, picked))
            correct += int((answers.numpy() == self._data.y_test[picked]).sum())
        payload: bytes | memoryview = TALLY.pack(correct, last - rank * total // size)
        for hop in gather_hops(rank, size, Phase.TALLY):
            payload = self._collective.swap(step, hop, payload, TALLY.size)
            correct += TALLY.unpack(payload)[0]
        return correct / total


def network_of(spec: JobSpec, data: Dataset) -> Network:
    """The job's network on its data.

    Raises:
        UnfitJobError: it does not fit the data; one line that names the layer.
    """
    try:
        return resolve(NetworkDescription(spec.network, data.input_shape, data.classes))
    except UsageError as error:
        raise UnfitJobError(f"{error} (a sample of the data is {data.input_shape})") from None


def refuse_augmentation(spec: JobSpec, data: Dataset) -> None:
    """Raise UnfitJobError for an augmentation that samples of this shape do not bear."""
    try:
        check_augmentation(spec.training.augment, data.input_shape)
    except ValueError as error:
        raise UnfitJobError(f"job file: training: {error}") from None


def count_parameters(spec: JobSpec, data: Dataset) -> int:
    """Trainable numbers of the job's network, without building it.

    Raises:
        UnfitJobError: the network does not fit the data.
    """
    return sum(parameter.size for parameter in network_of(spec, data).parameters())


def total_steps(spec: JobSpec, data: Dataset) -> int:
    """Steps of the whole job."""
    return spec.training.epochs * steps_per_epoch(len(data.y_train), spec.training.batch)


def draw_seed(seed: int, step: int, rank: int) -> int:
    """What torch's generator starts a step from, 64 bits: what is drawn in a step (rounding to
    int8, dropout) is a function of the job, the step and the member, so a resumed run draws alike.
    """
    words = np.random.Philox(key=np.array([seed, DRAWS], np.uint64), counter=[step, rank, 0, 0])
    return int(words.random_raw())


def job_optimizer(spec: JobSpec, data: Dataset) -> Optimizer:
    """What moves the job's latents, with its learning rate schedule."""
    per_epoch = steps_per_epoch(len(data.y_train), spec.training.batch)
    rate = LearningRate(spec.training, spec.training.epochs * per_epoch, per_epoch)
    return Optimizer(spec.training, rate)
