"""How far `meshd train` is, on stderr: a bar on a terminal, a line an evaluation elsewhere."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING

from meshd.cli.figures import duration_text, percent_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from meshd.train.alone import Alone, Happening

SMOOTHING = 0.98  # the loss shown is an average over about 1 / (1 - SMOOTHING) steps


class Lines(AbstractContextManager["Lines"]):
    """Says in lines what is worth one; a terminal's bar is drawn below them."""

    def __init__(self, run: Alone, samples: int, quiet: bool, console: Console) -> None:
        self._run, self._samples, self._quiet, self._console = run, samples, quiet, console
        self._loss = math.nan

    def show(self, happening: Happening) -> None:
        """Say it, if it is worth a line."""
        from meshd.train.alone import Interrupted, NoEvents, NotSaved, StoppedEarly
        from meshd.train.trainer import Evaluated, Stepped

        if isinstance(happening, Stepped):
            self._stepped(happening.loss)
        elif isinstance(happening, Evaluated):
            epochs = self._run.trainer.spec.training.epochs
            self._say(
                f"epoch {happening.epoch}/{epochs}  step {happening.step}"
                f"  loss {self._loss:.4f}  accuracy {percent_text(happening.accuracy)}"
                f"  {self._speed()}  {duration_text(self._run.progress.seconds)}"
            )
        elif isinstance(happening, NotSaved):
            self._say(f"no checkpoint at step {happening.step}: {happening.reason}", always=True)
        elif isinstance(happening, NoEvents):
            self._say(f"no more events for TensorBoard: {happening.reason}", always=True)
        elif isinstance(happening, StoppedEarly):
            best = self._run.progress
            self._say(
                f"stopped after step {happening.step}: {best.waited} evaluations were no better"
                f" than {percent_text(best.best)} after step {best.best_step}"
            )
        elif isinstance(happening, Interrupted):
            kept = "a checkpoint is written" if happening.saved else "nothing could be written"
            self._say(f"interrupted after step {happening.step}; {kept}", always=True)

    def _stepped(self, loss: float) -> None:
        if math.isfinite(loss):
            old = self._loss
            self._loss = loss if math.isnan(old) else SMOOTHING * old + (1 - SMOOTHING) * loss

    def _speed(self) -> str:
        progress = self._run.progress
        if not progress.seconds:
            return ""
        per_step = self._samples / self._run.trainer.per_epoch
        return f"{progress.step * per_step / progress.seconds:,.0f} samples/s"

    def _say(self, line: str, always: bool = False) -> None:
        if always or not self._quiet:
            self._console.print(line, soft_wrap=True, markup=False)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is left open."""


class Bar(Lines):
    """A bar with epoch, step, loss, accuracy, speed and what remains, below the lines."""

    def __init__(self, run: Alone, samples: int, console: Console) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        super().__init__(run, samples, False, console)
        self._bar: Progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task: TaskID = self._bar.add_task(
            self._facts(), total=run.trainer.steps, completed=run.progress.step
        )

    def __enter__(self) -> Bar:
        """Draw."""
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the bar as it stands."""
        self._bar.stop()

    def _stepped(self, loss: float) -> None:
        super()._stepped(loss)
        step = self._run.progress.step + 1
        self._bar.update(self._task, completed=step, description=self._facts())

    def _facts(self) -> str:
        run = self._run
        epoch = min(
            run.progress.step // run.trainer.per_epoch + 1, run.trainer.spec.training.epochs
        )
        facts = [
            f"epoch {epoch}/{run.trainer.spec.training.epochs}",
            f"step {run.progress.step}/{run.trainer.steps}",
        ]
        if not math.isnan(self._loss):
            facts.append(f"loss {self._loss:.3f}")
        if run.progress.accuracy >= 0:
            facts.append(percent_text(run.progress.accuracy))
        facts.append(self._speed())
        return "  ".join(fact for fact in facts if fact)


def make_screen(run: Alone, samples: int, quiet: bool) -> Lines:
    """What suits stderr."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    if console.is_terminal and not quiet:
        return Bar(run, samples, console)
    return Lines(run, samples, quiet, console)
