"""`meshd bench`: the figures that the docs show, measured on the machine at hand.

Law: what measures is loaded when a measurement begins, not before; it needs torch, meshd does not.
"""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import click

from meshd.cli.bench_ring import command as ring_command
from meshd.cli.figures import count_text

LIBRARIES = {"numpy": "numpy", "torch": "torch"}
PLOT_LIBRARIES = {"matplotlib": "matplotlib"}


@click.group(
    name="bench",
    help="Measure this machine: kernels beside torch, and beside the processor's limits.",
    invoke_without_command=True,
)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Show the help when it is not said what to measure."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(2)


command.add_command(ring_command)


@command.command(help="Measure the kernels: packed products, and what the ring does to bits.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@click.option("--quick", is_flag=True, help="Less of everything: within 45 seconds.")
@click.option(
    "--plot",
    metavar="OUT.svg",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw time against size, and a roofline.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Cores to run on, one thread each.",
)
def kernels(as_json: bool, quick: bool, plot: Path | None, threads: int) -> None:
    """Measure, print, draw."""
    refuse_more_threads_than_cores(threads)
    refuse_unwritable(plot)
    refuse_missing_libraries(plot)
    refuse_unknown_set()
    from rich.console import Console

    from meshd.bench import plans, run

    words = Console(stderr=True, highlight=False)
    with words.status("measuring: leave the machine alone") as status:

        def say(what: str) -> None:
            status.update(f"measuring: {what}")

        report = run.measure(plans.QUICK if quick else plans.FULL, threads, say)
    if plot is not None:
        from meshd.bench.plot import draw

        draw(report, plot)
    if as_json:
        click.echo(json.dumps(report))
        return
    from meshd.cli.bench_report import print_report

    print_report(report)


@command.command(help="Measure a training step and inference, beside float32 in torch.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@click.option(
    "--quick", is_flag=True, help="A small network, in seconds: the same code, no figure."
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Cores to run on, one thread each.",
)
def train(as_json: bool, quick: bool, threads: int) -> None:
    """Measure and print."""
    refuse_more_threads_than_cores(threads)
    refuse_missing_libraries(None)
    # A thread of torch's that has finished its share would else wait in a loop, for milliseconds,
    # on the core where another program's thread has work. Read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    refuse_unknown_set()
    from rich.console import Console

    from meshd.bench import train as bench

    words = Console(stderr=True, highlight=False)
    with words.status("measuring: leave the machine alone") as status:

        def say(what: str) -> None:
            status.update(f"measuring: {what}")

        report = bench.measure(bench.QUICK if quick else bench.FULL, threads, say)
    if as_json:
        click.echo(json.dumps(report))
        return
    from meshd.cli.bench_train_report import print_report

    print_report(report)


def refuse_missing_libraries(plot: Path | None) -> None:
    """Look for the libraries without loading them.

    Raises:
        NotConfiguredError: names what is missing and how to install it.
    """
    needed = LIBRARIES | (PLOT_LIBRARIES if plot else {})
    missing = [name for module, name in needed.items() if not importlib.util.find_spec(module)]
    if missing:
        from meshd.net.local import NotConfiguredError

        raise NotConfiguredError(
            f"this measurement needs {', '.join(missing)}; install: pip install 'meshd[bench]'"
        )


def refuse_unknown_set() -> None:
    """The kernels are chosen when they are loaded: here, so that a wrong name is one line.

    Raises:
        UsageError: MESHD_FORCE_ISA names no set that runs here.
    """
    from meshd.net.local import UsageError

    try:
        import meshd.bench.run  # noqa: F401
    except ImportError as error:
        if not str(error).startswith("MESHD_FORCE_ISA"):
            raise
        raise UsageError(str(error)) from None


def refuse_more_threads_than_cores(threads: int) -> None:
    """A core a thread, or the figures are the scheduler's.

    Raises:
        UsageError: says how many cores this process may run on.
    """
    cores = len(os.sched_getaffinity(0))
    if threads > cores:
        from meshd.net.local import UsageError

        raise UsageError(
            f"--threads {threads}: this process may run on {count_text(cores, 'core')}"
        )


def refuse_unwritable(plot: Path | None) -> None:
    """Find out before minutes of measuring that the plot has no place.

    Raises:
        UsageError: the name is no SVG's, or its folder is not there.
    """
    if plot is None:
        return
    from meshd.net.local import UsageError

    if plot.suffix.lower() != ".svg":
        raise UsageError(f"--plot {plot}: the name must end in .svg")
    if not plot.absolute().parent.is_dir():
        raise UsageError(f"--plot {plot}: there is no folder {plot.parent}")
