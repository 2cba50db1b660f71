"""Rings of one process: every member in a thread of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

import torch

from meshd.data.dataset import Dataset
from meshd.train.collective import Frame, local_ring
from meshd.train.trainer import Stepped, Trainer


def run_members(
    trainers: list[Trainer], steps: int, first: int = 0, until: type = Stepped
) -> list[list[object]]:
    """Run every member in a thread to the event `until` of the last of `steps` steps, or its end.

    An error in one is raised here.
    """
    events: list[list[object]] = [[] for _ in trainers]
    errors: list[BaseException] = []

    def run(rank: int) -> None:
        torch.set_num_threads(1)  # OpenMP keeps the number for each thread; float sums depend on it
        try:
            for event in trainers[rank].run(first):
                events[rank].append(event)
                if type(event) is until and event.step == first + steps:
                    return
        except BaseException as error:
            errors.append(error)
            trainers[rank]._collective.leave()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(len(trainers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return events


def ring_of(spec, data: Dataset, members: int) -> list[Trainer]:
    return [Trainer(spec, data, member) for member in local_ring(members)]


def begun(spec, data: Dataset, members: int) -> list[Trainer]:
    """A ring's trainers, started from the job's seed."""
    trainers = ring_of(spec, data, members)
    for trainer in trainers:
        trainer.begin()
    return trainers


class Between(queue.Queue):
    """A member's incoming frames, some of which get other payloads on their way.

    `change(frame)`: the payload to hand on.
    """

    def __init__(self, change: Callable[[Frame], bytes]) -> None:
        super().__init__()
        self._change = change

    def get(self, *args, **kwargs) -> Frame | None:
        item = super().get(*args, **kwargs)
        return item if item is None else (*item[:-1], self._change(item))


def tamper(trainer: Trainer, change: Callable[[Frame], bytes]) -> None:
    """Let `change` have what comes to this member."""
    member = trainer._collective
    member._links[member.rank] = Between(change)
