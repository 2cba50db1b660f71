"""`meshd train`: a job in this process, without a mesh and without a daemon.

Law: what trains is loaded when the arguments have been looked at; it needs torch, meshd does not.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meshd.cli.files import opened_output, read_job_file

if TYPE_CHECKING:
    from meshd.data.dataset import Dataset
    from meshd.train.alone import Alone, Happening, Outcome

LIBRARIES = {"numpy": "numpy", "torch": "torch", "safetensors": "safetensors"}
INTERRUPTED = 130


@click.command(help="Train the job that JOB.toml describes, in this process and without a mesh.")
@click.argument("job_file", metavar="JOB.toml", type=click.Path(path_type=Path))
@click.option(
    "--data",
    "source",
    metavar="DATA",
    required=True,
    help="A .npz or CSV file, a folder, or the name of a known data set.",
)
@click.option(
    "-o",
    "--output",
    "model",
    metavar="MODEL",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to write the model.  [default: NAME.safetensors, NAME as in the job]",
)
@click.option("--threads", type=click.IntRange(1, 1024), help="[default: this process's cores]")
@click.option("--seed", type=click.IntRange(0, 2**53 - 1), help="Instead of the job's own.")
@click.option(
    "--checkpoints",
    "folder",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the last checkpoint and the best model go.  [default: NAME.checkpoints]",
)
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint.")
@click.option(
    "--tensorboard",
    "board_folder",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write event files for TensorBoard.",
)
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object.")
@click.option("--quiet", is_flag=True, help="No progress, only errors and what was asked for.")
def command(
    job_file: Path,
    source: str,
    model: Path | None,
    threads: int | None,
    seed: int | None,
    folder: Path | None,
    resume: bool,
    board_folder: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Train; the model's path, or one JSON object, is what stdout gets."""
    text = read_job_file(job_file)
    refuse_missing_libraries(board_folder is not None)
    with errors_in_a_line(), ExitStack() as stack:
        from meshd.data.load import load_dataset
        from meshd.train.alone import Alone, read_job, tidy
        from meshd.train.lock import held

        spec = read_job(text, seed)
        model = model or Path(f"{spec.name}.safetensors")
        folder = folder or Path(f"{spec.name}.checkpoints")
        refuse_unwritable(model, {"the job file": job_file, "the data": Path(source)}, folder)
        if stack.enter_context(held(folder)):
            tidy(folder)
        data = load_dataset(source)
        run = Alone(spec, data, folder, threads or len(os.sched_getaffinity(0)))
        run.resume() if resume else run.begin()
        trained_before = run.progress.step, run.progress.seconds
        interrupted = show(run, data, board_folder, quiet)
        if interrupted is not None:
            if interrupted:
                again = sys.argv[1:] if resume else [*sys.argv[1:], "--resume"]
                click.echo(f"go on with: meshd {shlex.join(again)}", err=True)
            raise SystemExit(INTERRUPTED)
        outcome = run.finish()
        with last_state_named(run), opened_output(model) as write:
            write(outcome.content)
    if as_json:
        figures = final_figures(run, data, outcome, trained_before)
        click.echo(json.dumps(figures | {"model": str(model)}))
    else:
        click.echo(model)


def show(run: Alone, data: Dataset, board_folder: Path | None, quiet: bool) -> bool | None:
    """Train to the end; None, or, where a person interrupted, whether it can go on."""
    from meshd.cli.train_screen import make_screen
    from meshd.train.alone import Interrupted
    from meshd.train.trainer import Evaluated, Stepped

    interrupted = None
    with ExitStack() as stack:
        asked = stack.enter_context(stop_on_signals())
        screen = stack.enter_context(make_screen(run, len(data.y_train), quiet))
        board = None
        if board_folder:
            from meshd.train.board import Board

            board = Board(board_folder, run, screen.show)
            stack.callback(board.close)
        happening: Happening
        for happening in run.run(lambda: bool(asked)):
            screen.show(happening)
            if isinstance(happening, Interrupted):
                interrupted = happening.saved
            elif board and isinstance(happening, Stepped):
                board.stepped(happening)
            elif board and isinstance(happening, Evaluated):
                board.evaluated(happening)
    return interrupted


@contextmanager
def stop_on_signals() -> Iterator[list[int]]:
    """Collect the first SIGINT or SIGTERM; the second ends the process at once, as without us.

    A step is finished before anything is written: between its parts the state is no state.
    """
    asked: list[int] = []
    before: dict[int, Any] = {}

    def note(number: int, frame: object) -> None:
        asked.append(number)
        for each, handler in before.items():
            signal.signal(each, handler)

    for signal_number in (signal.SIGINT, signal.SIGTERM):
        before[signal_number] = signal.signal(signal_number, note)
    try:
        yield asked
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def errors_in_a_line() -> Iterator[None]:
    """Turn what a user can do something about into the errors that `meshd` prints."""
    from meshd.net.local import FailureError, UsageError
    from meshd.train.errors import TrainingError, UnfitJobError

    try:
        yield
    except UnfitJobError as error:
        raise UsageError(str(error)) from None
    except TrainingError as error:
        raise FailureError(str(error)) from None
    except MemoryError:
        raise FailureError("not enough memory for this job on this machine") from None


def refuse_missing_libraries(board: bool) -> None:
    """Look for the libraries without loading them.

    Raises:
        NotConfiguredError: names what is missing and how to install it.
    """
    from meshd.net.local import NotConfiguredError

    missing = [name for module, name in LIBRARIES.items() if not importlib.util.find_spec(module)]
    if missing:
        raise NotConfiguredError(
            f"training needs {', '.join(missing)}; install: pip install 'meshd[train]'"
        )
    if board and not importlib.util.find_spec("tensorboardX"):
        raise NotConfiguredError(
            "--tensorboard needs tensorboardX; install: pip install 'meshd[board]'"
        )


@contextmanager
def last_state_named(run: Alone) -> Iterator[None]:
    """Add to an error about the model file where the trained state is, if it is on disk."""
    from meshd.net.local import FailureError, MeshdError

    try:
        yield
    except MeshdError as error:
        if not run.is_saved:
            raise
        raise FailureError(
            f"{error}; the trained state is kept: mend that and go on with --resume"
        ) from None


def refuse_unwritable(model: Path, inputs: dict[str, Path], folder: Path) -> None:
    """Find out before hours of training that the model has no place, or would take another's.

    Raises:
        UsageError: it is a folder or an input, lies in the folder of checkpoints, or its own folder
            is not there or not ours to write in.
    """
    from meshd.net.local import UsageError

    target = Path(os.path.realpath(model))
    if not model.name or target.is_dir():
        raise UsageError(f"-o {model or chr(39) * 2}: is a folder; name a file in it")
    for what, path in inputs.items():
        if target == Path(os.path.realpath(path)):
            raise UsageError(f"-o {model}: is {what}; name another file for the model")
    if target.parent == Path(os.path.realpath(folder)):
        raise UsageError(f"-o {model}: lies among the checkpoints; name another place")
    if not target.parent.is_dir():
        raise UsageError(f"-o {model}: there is no folder {target.parent}")
    if not os.access(target.parent, os.W_OK):
        raise UsageError(f"-o {model}: we may not write in {target.parent}")


def final_figures(
    run: Alone, data: Dataset, outcome: Outcome, trained_before: tuple[int, float]
) -> dict[str, Any]:
    """What `--json` prints but the model's path; times are of this part of the run."""
    progress, spec = run.progress, run.trainer.spec
    steps, seconds = progress.step - trained_before[0], progress.seconds - trained_before[1]
    samples = steps / run.trainer.per_epoch * len(data.y_train)
    return {
        "name": spec.name,
        "accuracy": outcome.accuracy,
        "best": outcome.best,
        "best_accuracy": progress.best,
        "best_step": progress.best_step,
        "weight_hash": outcome.weight_hash,
        "steps": progress.step,
        "epochs": -(-progress.step // run.trainer.per_epoch),
        "stopped_early": progress.step < run.trainer.steps,
        "seconds": progress.seconds,
        "seconds_per_step": seconds / steps if steps else None,
        "samples_per_second": samples / seconds if seconds else None,
        "parameters": run.trainer.parameters.slice_map.parameters,
        "seed": spec.training.seed,
        "exchange": spec.exchange.kind,
    }
