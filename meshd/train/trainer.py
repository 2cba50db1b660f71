"""One member's training run: steps, evaluations and checkpoints, in the order all members share.

`run` yields what happened; what to do with it (tell a daemon, draw a bar) is the caller's.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from meshd.core.errors import UsageError
from meshd.core.jobspec import JobSpec
from meshd.core.network.graph import Network, resolve
from meshd.core.network.spec import NetworkDescription
from meshd.core.shares import StepPlace, place_of, share_of, steps_per_epoch
from meshd.core.types import MachineKey
from meshd.data.augment import augment_rows, check_augmentation
from meshd.data.dataset import Dataset
from meshd.hbnn.networks import build_network, logits, predict, seed_dropout
from meshd.train.buckets import BucketOpener
from meshd.train.collective import Collective
from meshd.train.errors import ReformedError, RingBrokenError, TrainingError, UnfitJobError
from meshd.train.float32 import Float32Holding
from meshd.train.gatherings import Kind
from meshd.train.holding import SliceHolding
from meshd.train.local_steps import (
    LocalDirectHolding,
    LocalOnebitHolding,
    LocalSteps,
    LocalVotesHolding,
)
from meshd.train.lone import LoneHolding
from meshd.train.onebit import OnebitHolding
from meshd.train.optimizer import Optimizer, SliceState
from meshd.train.order import epoch_order
from meshd.train.parameters import Floats, NetworkParameters
from meshd.train.schedule import LearningRate
from meshd.train.statistics import RunningStatistics
from meshd.train.upkeep import WATCH_STEPS, Paces, watch
from meshd.train.votes import DirectHolding, VotesHolding

TALLY = struct.Struct("<qq")  # correct answers, samples
DRAWS = 2**64 - 1  # no epoch has this number: the draws are no part of an order of samples
EVALUATION_BATCH = 1000  # samples at once,
EVALUATION_BYTES = 32 << 20  # or as many as keep a layer's output within


HOLDINGS: dict[str, type[SliceHolding]] = {
    "votes": VotesHolding,
    "direct": DirectHolding,
    "onebit": OnebitHolding,
    "float32": Float32Holding,
}
LOCAL_HOLDINGS: dict[str, type[LocalSteps]] = {
    "votes": LocalVotesHolding,
    "direct": LocalDirectHolding,
    "onebit": LocalOnebitHolding,
}
"""With `local_steps`: a step of the ring is a round of so many batches."""


@dataclass(frozen=True)
class Stepped:
    """The ring's step number `step` is committed; `loss`: mean over this member's share, NaN
    without one."""

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


@dataclass(frozen=True)
class Differs:
    """After `step` committed steps these machines hold something else than the others: how."""

    step: int
    machines: tuple[tuple[MachineKey, str], ...]


Event = Stepped | Evaluated | CheckpointDue | Differs


class Trainer:
    """A member's network, data and exchange."""

    def __init__(
        self, spec: JobSpec, data: Dataset, collective: Collective, alone: bool = False
    ) -> None:
        """`alone`: no member will ever join, so that nothing has to be undone."""
        self.spec = spec
        network = network_of(spec, data)
        self.description = network.description
        self.net = build_network(network, spec.training.seed, spec.training.backward)
        self.parameters = NetworkParameters(self.net, spec.exchange.gamma)
        self.statistics = RunningStatistics(self.net)
        self.per_epoch = steps_per_epoch(len(data.y_train), step_samples(spec))
        self.steps = total_steps(spec, data)
        self._order: tuple[int, NDArray[np.int64]] = (-1, np.zeros(0, np.int64))
        self._data = data
        self._at_once = max(1, min(EVALUATION_BATCH, EVALUATION_BYTES // (4 * network.widest)))
        refuse_augmentation(spec, data)
        self._collective = collective
        self.optimizer = job_optimizer(spec, data)
        kind = HOLDINGS[spec.exchange.kind]
        if spec.exchange.local_steps > 1:
            kind = LOCAL_HOLDINGS[spec.exchange.kind]
        self._lone: LoneHolding | None = None
        if alone and kind is Float32Holding:
            kind = LoneHolding
        self.holding: SliceHolding = kind(
            self.parameters, self.optimizer, self.statistics, spec.mesh.copies
        )
        if isinstance(self.holding, LoneHolding):
            self._lone = self.holding
        else:
            self._opener = BucketOpener(self.parameters, self.holding.buckets)
        self._local = self.holding if isinstance(self.holding, LocalSteps) else None
        self._paces = Paces(step_samples(spec), time.perf_counter)
        self._is_paced = spec.mesh.shares == "measured"

    def begin(self) -> None:
        """Start from the job's seed."""
        self.draw()
        self.enter()

    def draw(self) -> None:
        """Make the job's first state, which every member draws alike from its seed."""
        every = range(len(self.parameters.slice_map.slices))
        self.holding.begin(self.parameters.begin(every, self.optimizer.moments))

    def enter(self) -> None:
        """Join the ring with the state that is here, or to be given one."""
        self._collective.join(self.holding)

    def resume(
        self,
        states: Mapping[int, SliceState],
        carried: Floats | None,
        statistics: Floats | None = None,
        step: int = 0,
    ) -> None:
        """Start from a checkpoint after `step` steps: the states of all slices, and this member's
        carried error.

        `statistics`: the ring's running ones, where the network has any.

        Raises:
            TrainingError: the statistics are impossible.
        """
        self.restore(states, carried, statistics, step)
        self.enter()

    def restore(
        self,
        states: Mapping[int, SliceState],
        carried: Floats | None,
        statistics: Floats | None = None,
        step: int = 0,
    ) -> None:
        """Take a checkpoint's state; as `resume`."""
        if statistics is not None:
            if not self.statistics.are_possible(statistics):
                raise TrainingError("the checkpoint's running statistics are impossible")
            self.statistics.load(statistics)
        for part in self.parameters.slice_map.slices:
            self.parameters.set_from_latents(part, states[part.index].latents)
        self.parameters.show()
        self.holding.begin(states)
        if carried is not None:
            self.holding.set_carried(carried)
        self.holding.step = step

    def run(self, first_step: int = 0, is_due: bool = False) -> Iterator[Event]:
        """Train from `first_step` to the last; raises what the collective raises.

        A ring that changes goes on from the state that it agreed on. `is_due`: what follows step
        `first_step` (an evaluation, a checkpoint) is still to be done.
        """
        self.holding.step = first_step
        while is_due or self.holding.step < self.steps:
            try:
                if is_due:
                    yield from self._after(self.holding.step)
                    is_due = False
                if self.holding.step < self.steps:
                    yield from self._one_step()
                    is_due = True
            except ReformedError:  # others may not have done what is due, so all do it again
                is_due = self.holding.step > 0
                self._paces.forget()
                if self._local is not None:  # a step of its own may have come after the ring's end
                    self._local.show_reference()

    def _one_step(self) -> Iterator[Event]:
        """One step, committed."""
        training, step = self.spec.training, self.holding.step
        place = place_of(step, len(self._data.y_train), step_samples(self.spec))
        order = self._order_of(place.epoch)
        if self._is_paced and self._collective.elastic and self._paces.is_due(step):
            self._paces.gather(self._collective)
            self._collective.measured(self._paces.speed())
        rank, size = self._collective.rank, self._collective.size
        start, stop = share_of(place, rank, self._paces.weights(size))
        torch.manual_seed(draw_seed(training.seed, step, rank))
        seed_dropout(self.net, draw_seed(training.seed, step, rank))
        self.holding.weight = (stop - start) / (place.stop - place.start)
        picked = order[start:stop]
        if self._lone is not None:
            loss = self._compute(picked, place.epoch)
            self._lone.step_alone()
        else:
            self._collective.begin()
            if self._local is not None:
                loss = self._steps_alone(self._local, picked, place)
                self._opener.begin(self._collective)
            else:
                self._opener.begin(self._collective)
                loss = self._compute(picked, place.epoch)
            self._opener.open_rest()
            self._collective.finish()
        yield Stepped(step + 1, place.epoch, loss)

    def _after(self, done: int) -> Iterator[Event]:
        """What is due after `done` steps, before the next one."""
        if self._collective.elastic and done % WATCH_STEPS == 0:
            yield from self._watch(done)
        between = max(1, self.spec.training.checkpoint_steps // self.spec.exchange.local_steps)
        is_saved = done % between == 0 and done < self.steps
        is_evaluated = self.is_evaluated(done)
        if is_saved or is_evaluated:
            self.statistics.average(self._collective, done)
        if is_evaluated:
            epoch = place_of(done - 1, len(self._data.y_train), step_samples(self.spec)).epoch
            yield Evaluated(done, epoch + 1, self._evaluate())
        if is_saved:
            yield CheckpointDue(done)

    def _watch(self, done: int) -> Iterator[Event]:
        """Compare what all hold; who differs forgets it, and is given it by the others."""
        wrong = watch(self._collective, self.holding)
        if wrong:
            yield Differs(done, tuple(wrong.items()))
        own = wrong.get(self._collective.plan.order[self._collective.rank])
        if own is not None:
            self._collective.discard(own)

    def _order_of(self, epoch: int) -> NDArray[np.int64]:
        if self._order[0] != epoch:
            seed, samples = self.spec.training.seed, len(self._data.y_train)
            self._order = epoch, epoch_order(seed, epoch, samples)
        return self._order[1]

    def is_evaluated(self, done: int) -> bool:
        """Whether an evaluation follows after `done` steps: at the end of every epoch."""
        return done % self.per_epoch == 0 or done == self.steps

    def _compute(self, picked: NDArray[np.int64], epoch: int) -> float:
        """Forward and backward on the picked samples; the gradient lands where it is taken."""
        loss_value = float("nan")
        self.net.train()
        self.parameters.forget_gradients()
        if len(picked):
            self._paces.begin()
            x = self._rows(self._data.x_train, picked)
            training = self.spec.training
            augment_rows(x.numpy(), picked, training.augment, training.seed, epoch)
            y = torch.from_numpy(self._data.y_train[picked])
            loss = torch.nn.functional.cross_entropy(logits(self.net, x), y)
            loss.backward()  # type: ignore[no-untyped-call]
            loss_value = float(loss.detach())
            self._paces.end(len(picked))
        return loss_value

    def _steps_alone(self, local: LocalSteps, picked: NDArray[np.int64], place: StepPlace) -> float:
        """A round: this member's samples in as many parts as the round has batches."""
        count = steps_per_epoch(place.stop - place.start, self.spec.training.batch)
        losses = []
        local.begin_round()
        for number in range(count):
            part = picked[len(picked) * number // count : len(picked) * (number + 1) // count]
            if len(part):
                losses.append(self._compute(part, place.epoch))
                local.step_alone(local.step * self.spec.exchange.local_steps + number)
        return sum(losses) / len(losses) if losses else float("nan")

    def _rows(self, x: NDArray[np.uint8 | np.float32], picked: NDArray[np.int64]) -> torch.Tensor:
        """Picked samples in memory of torch's: MKL's float products depend on alignment, and
        torch's allocations are aligned alike in every run (oneMKL developer guide, "Obtaining
        numerically reproducible results"). Images lie channels last, as the layers read them."""
        rows = torch.empty(len(picked), *self._data.input_shape)
        self._data.fill_rows(x, picked, rows.numpy())
        return rows.contiguous(memory_format=torch.channels_last) if rows.dim() == 4 else rows

    def _evaluate(self) -> float:
        """Test accuracy: each member takes a share of the test set, the counts are gathered."""
        rank, size = self._collective.rank, self._collective.size
        total = len(self._data.y_test)
        correct = 0
        last = (rank + 1) * total // size
        for start in range(rank * total // size, last, self._at_once):
            picked = np.arange(start, min(start + self._at_once, last))
            answers = predict(self.net, self._rows(self._data.x_test, picked))
            correct += int((answers.numpy() == self._data.y_test[picked]).sum())
        tally = TALLY.pack(correct, last - rank * total // size)
        tallies = self._collective.gather(Kind.TALLY, tally)
        if any(len(payload) != TALLY.size for payload in tallies):
            raise RingBrokenError("a member sent an impossible count of right answers")
        return sum(int(TALLY.unpack(payload)[0]) for payload in tallies) / total


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


def step_samples(spec: JobSpec) -> int:
    """Samples of one step of the ring, over all members: a round of `local_steps` batches. The last
    round of an epoch takes what is left, so evaluations fall on rounds."""
    return spec.training.batch * spec.exchange.local_steps


def total_steps(spec: JobSpec, data: Dataset) -> int:
    """The ring's steps of the whole job."""
    return spec.training.epochs * steps_per_epoch(len(data.y_train), step_samples(spec))


def draw_seed(seed: int, step: int, rank: int) -> int:
    """What torch's generator starts a step from, 64 bits: what is drawn in a step (rounding to
    int8, dropout) is a function of the job, the step and the member, so a resumed run draws alike.
    """
    words = np.random.Philox(key=np.array([seed, DRAWS], np.uint64), counter=[step, rank, 0, 0])
    return int(words.random_raw())


def job_optimizer(spec: JobSpec, data: Dataset) -> Optimizer:
    """What moves the job's latents, with its learning rate schedule. With local steps, numbers go
    on in whole rounds."""
    rounds = steps_per_epoch(len(data.y_train), step_samples(spec))
    per_epoch = rounds * spec.exchange.local_steps
    rate = LearningRate(spec.training, spec.training.epochs * per_epoch, per_epoch)
    return Optimizer(spec.training, rate)
