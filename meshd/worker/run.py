"""One generation of one job in this process: load, say ready, train on the ring, report.

What goes wrong is told to the daemon as one sentence (`WorkerFailed`), with whose fault it is.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

from meshd.core.errors import MeshdError
from meshd.core.jobspec import parse_json
from meshd.core.messages import WorkerFailed, WorkerFinished, WorkerPlan, WorkerReady
from meshd.data.dataset import Dataset
from meshd.data.errors import DataError
from meshd.data.load import load_npz
from meshd.hbnn.export import save_model, weight_hash
from meshd.net.bulk import BulkLink
from meshd.net.keys import load_keys
from meshd.net.roster import ROSTER_FILE, RosterFile
from meshd.train.checkpoint import read_carried, read_slice, read_statistics
from meshd.train.errors import RingBrokenError, TrainingError
from meshd.train.trainer import (
    CheckpointDue,
    Evaluated,
    Stepped,
    Trainer,
    count_parameters,
    total_steps,
)
from meshd.worker.collective import ZmqRing
from meshd.worker.lifeline import Lifeline
from meshd.worker.report import Report, save_checkpoint

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
    link = BulkLink(load_keys(state_folder), roster, plan.bind_host)
    try:
        lifeline.send(WorkerReady(link.port, total_steps(spec, data), count_parameters(spec, data)))
        start = lifeline.wait_for_ring()
        ring = ZmqRing(link, plan.generation, start.members, start.rank)
        trainer = Trainer(spec, data, ring)
        _set_state(trainer, plan)
        _train(trainer, data, plan, lifeline, link)
    finally:
        link.close()


def _set_state(trainer: Trainer, plan: WorkerPlan) -> None:
    """Begin anew, or from the checkpoint files that the plan names."""
    if plan.step == 0:
        trainer.begin()
        return
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
        size = trainer.exchange.carried_error().size
        carried = read_carried(Path(plan.carried_path), size)
    trainer.resume(states, carried, statistics)


def _train(
    trainer: Trainer, data: Dataset, plan: WorkerPlan, lifeline: Lifeline, link: BulkLink
) -> None:
    """Run to the last step; report on the way; write the model at the end."""
    report = Report(lifeline, lambda: link.bytes_sent, time.monotonic)
    for event in trainer.run(plan.step):
        if isinstance(event, Stepped):
            report.stepped(event)
        elif isinstance(event, Evaluated):
            report.evaluated(event, trainer.steps)
        elif isinstance(event, CheckpointDue):
            save_checkpoint(trainer, event.step, Path(plan.scratch_folder), lifeline)
    path = Path(plan.scratch_folder) / MODEL_FILE
    save_model(
        path,
        trainer.net,
        trainer.description,
        scale=float(data.scale),
        class_names=data.class_names,
    )
    lifeline.send(WorkerFinished(report.progress(), weight_hash(trainer.net), str(path)))
