"""One generation of one job in this process: load, say ready, train on the ring, report.

What goes wrong is told to the daemon as one sentence (`WorkerFailed`), with whose fault it is.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from meshd.core.errors import MeshdError
from meshd.core.jobspec import parse_json
from meshd.core.messages import (
    WorkerDismissed,
    WorkerFailed,
    WorkerFinished,
    WorkerPlan,
    WorkerReady,
)
from meshd.core.ring.member import NOTHING, RingMember
from meshd.core.ring.wire_forms import shape_message
from meshd.data.dataset import Dataset
from meshd.data.errors import DataError
from meshd.data.load import load_npz
from meshd.hbnn.export import save_model, weight_hash
from meshd.net.bulk import BulkLinks
from meshd.net.keys import load_keys
from meshd.net.roster import ROSTER_FILE, RosterFile
from meshd.train.checkpoint import read_carried, read_slice, read_statistics
from meshd.train.errors import ReformedError, RingBrokenError, TrainingError
from meshd.train.gatherings import Kind
from meshd.train.trainer import (
    CheckpointDue,
    Differs,
    Evaluated,
    Event,
    Stepped,
    Trainer,
    count_parameters,
)
from meshd.worker.collective import DismissedError, ElasticRing
from meshd.worker.lifeline import Lifeline
from meshd.worker.relay import Relay
from meshd.worker.report import Report, save_checkpoint
from meshd.worker.ring_thread import RingThread

MODEL_FILE = "model.safetensors"


def run_plan(plan: WorkerPlan, lifeline: Lifeline) -> int:
    """Run the plan to its end; return the process's exit code."""
    torch.set_num_threads(plan.threads)
    try:
        _run(plan, lifeline)
        return 0
    except TrainingError as error:
        failed = WorkerFailed(str(error), error.fatal)
    except DataError as error:
        failed = WorkerFailed(str(error), True)
    except RingBrokenError as error:
        failed = WorkerFailed(str(error), False, error.blames)
    except MeshdError as error:
        failed = WorkerFailed(str(error), False)
    except MemoryError:
        failed = WorkerFailed("not enough memory for this job on this machine", False)
    except OSError as error:
        failed = WorkerFailed(str(error), False)
    print(f"failed: {failed.reason}", file=sys.stderr, flush=True)
    lifeline.send(failed)
    return 1


def _run(plan: WorkerPlan, lifeline: Lifeline) -> None:
    spec = parse_json(plan.spec)
    data = load_npz(Path(plan.data_path))
    state_folder = Path(plan.state_folder)
    roster = RosterFile(state_folder / ROSTER_FILE)
    links = BulkLinks(load_keys(state_folder), roster, plan.bind_host)
    try:
        ring = ElasticRing()
        trainer = Trainer(spec, data, ring)
        step = _set_state(trainer, plan)
        holding = trainer.holding
        member = RingMember(plan.key, holding, holding.lay_out, step)
        thread = RingThread(member, links, Relay(lifeline, plan.job, plan.generation).tell)
        ring.attach(thread)
        thread.start()
        lifeline.hand_to(thread)
        shape = shape_message(holding.shape())
        lifeline.send(WorkerReady(links.port, trainer.steps, count_parameters(spec, data), shape))
        try:
            trainer.enter()
            _train(trainer, ring, data, plan, lifeline, links)
        except DismissedError:
            lifeline.send(WorkerDismissed())
        finally:
            thread.stop()
    finally:
        links.close()


def _set_state(trainer: Trainer, plan: WorkerPlan) -> int:
    """Begin anew, or from the checkpoint files that the plan names, or with nothing; the step."""
    if plan.joins:
        return NOTHING
    if plan.step == 0:
        trainer.draw()
        return 0
    slices = trainer.parameters.slice_map.slices
    paths = {file.slice: Path(file.path) for file in plan.slices}
    if sorted(paths) != [part.index for part in slices]:
        raise TrainingError("the checkpoint does not hold every slice of this job")
    moments, count = trainer.optimizer.moments, trainer.statistics.size
    states = {
        part.index: read_slice(
            paths[part.index], part.size, moments, count if part.index == 0 else 0
        )
        for part in slices
    }
    statistics = read_statistics(paths[0], slices[0].size, moments, count)
    carried = None
    if plan.carried_path:
        size = trainer.holding.carried_error().size
        carried = read_carried(Path(plan.carried_path), size)
    trainer.restore(states, carried, statistics, plan.step)
    return plan.step


def _train(
    trainer: Trainer,
    ring: ElasticRing,
    data: Dataset,
    plan: WorkerPlan,
    lifeline: Lifeline,
    links: BulkLinks,
) -> None:
    """Run to the last step; report on the way; write the model at the end."""
    report = Report(lifeline, lambda: links.bytes_sent, time.monotonic)
    scratch = Path(plan.scratch_folder)
    for event in _steps(trainer, ring):
        if isinstance(event, Stepped):
            report.stepped(event)
        elif isinstance(event, Evaluated):
            report.evaluated(event, trainer.steps)
        elif isinstance(event, Differs):
            report.differs(event, {one.key: one.name for one in ring.addresses})
        elif isinstance(event, CheckpointDue):
            kept = trainer.holding.kept(ring.plan, ring.rank)
            save_checkpoint(trainer, kept, event.step, scratch, lifeline)
    path = scratch / MODEL_FILE
    save_model(
        path,
        trainer.net,
        trainer.description,
        scale=float(data.scale),
        class_names=data.class_names,
    )
    lifeline.send(WorkerFinished(report.progress(), weight_hash(trainer.net), str(path)))


def _steps(trainer: Trainer, ring: ElasticRing) -> Iterator[Event]:
    """All that happens until every member has committed the last step.

    Who is done early stays to bring the others to the end.
    """
    while True:
        step = trainer.holding.step
        yield from trainer.run(step, is_due=step > 0)
        try:
            ring.gather(Kind.END, b"")
            return
        except ReformedError:
            continue
