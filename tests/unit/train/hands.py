"""A ring of holdings that is driven by hand, frame by frame: any point of a step can be reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from meshd.core.ring.agreement import Plan
from meshd.core.ring.step import RingStep, StepFrame
from meshd.core.shares import equal_weights, place_of, share_of
from meshd.train.collective import first_plan
from meshd.train.holding import SliceHolding
from meshd.train.trainer import Trainer


class Nowhere:
    """The collective of a trainer whose ring is driven from outside."""

    def join(self, holding: SliceHolding) -> None:
        pass


def new_trainer(spec, data) -> Trainer:
    trainer = Trainer(spec, data, Nowhere())
    trainer.begin()
    return trainer


def compute(trainer: Trainer, rank: int, size: int) -> None:
    """The gradient of the holding's next step, as this rank of so many computes it."""
    step, batch = trainer.holding.step, trainer.spec.training.batch
    place = place_of(step, len(trainer._data.y_train), batch)
    start, stop = share_of(place, rank, equal_weights(size))
    trainer.holding.weight = (stop - start) / (place.stop - place.start)
    trainer._compute(trainer._order_of(place.epoch)[start:stop], place.epoch)


class Hands:
    """Trainers as one ring. A frame is (sender's rank, StepFrame)."""

    def __init__(self, trainers: Sequence[Trainer], plan: Plan | None = None) -> None:
        self.trainers = list(trainers)
        self.holdings = [trainer.holding for trainer in trainers]
        keys = tuple(f"{rank:06}" for rank in range(len(self.trainers)))
        self.plan = plan or first_plan(keys, self.holdings[0])
        for rank, holding in enumerate(self.holdings):
            holding.adopt(self.plan.held_by(rank))
        self.steps: list[RingStep] = []

    def begin(self, computed: bool = False) -> None:
        """Every member begins the next step; `computed`: gradients are there already."""
        for rank, trainer in enumerate(self.trainers):
            if not computed:
                compute(trainer, rank, len(self.trainers))
        self.steps = [
            RingStep(holding.lay_out(self.plan, rank), holding)
            for rank, holding in enumerate(self.holdings)
        ]

    def frames(
        self, withheld: Callable[[StepFrame], bool] = lambda _: False
    ) -> Iterator[tuple[int, StepFrame]]:
        """Open all buckets and deliver one frame after the other; yields each before it arrives."""
        waiting: list[tuple[int, StepFrame]] = []
        for bucket in range(self.steps[0].route.buckets):
            for rank, step in enumerate(self.steps):
                step.open(bucket)
                waiting += [(rank, frame) for frame in step.drain()]
        while waiting:
            sender, frame = waiting.pop(0)
            if withheld(frame):
                continue
            yield sender, frame
            step = self.steps[frame.to]
            step.receive(sender, frame.phase, frame.chunk, frame.hop, bytes(frame.payload))
            waiting += [(frame.to, sent) for sent in step.drain()]

    def run(self, steps: int = 1, computed: bool = False) -> None:
        """Whole steps, committed."""
        for _ in range(steps):
            self.begin(computed)
            for _ in self.frames():
                pass
            assert all(step.complete for step in self.steps)
            for holding in self.holdings:
                holding.commit()
