"""`meshd submit`: start a job."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import IO, Any

import click

from meshd.cli.files import chunks, open_data, read_job_file
from meshd.cli.settings import Settings


@click.command(help="Start the job that JOB.toml describes; its data travels with it.")
@click.argument("job_file", metavar="JOB.toml", type=click.Path(path_type=Path))
@click.option(
    "--data",
    "data_file",
    metavar="FILE",
    required=True,
    type=click.Path(path_type=Path),
    help="What to train on: a NumPy .npz file with x_train, y_train, x_test, y_test.",
)
@click.option("--watch", is_flag=True, help="Stay and show progress until the job ends.")
@click.pass_obj
def command(settings: Settings, job_file: Path, data_file: Path, watch: bool) -> None:
    """Print the job's id; with --watch, fail if the job does."""
    spec = read_job_file(job_file)
    refuse_folder(data_file)
    file, size = open_data(data_file, "data file")
    with file:
        try:
            answer = submit(settings, spec, file, size)
        except KeyboardInterrupt:
            if not file.tell():  # the data is read once the request is on its way
                raise
            message = f"interrupted; the job may have been submitted: see {settings.program} status"
            raise Interrupted(message) from None
    click.echo(f"submitted {answer['name']}; see: {settings.program} status", err=True)
    click.echo(answer["job"])
    if watch:
        from meshd.cli.follow import follow, refuse_unfinished

        refuse_unfinished(follow(settings, answer["job"]), settings.program)


def refuse_folder(path: Path) -> None:
    """A job's data is one file; what else holds data can be made one.

    Raises:
        UsageError: says how.
    """
    if path.is_dir():
        from meshd.net.local import UsageError

        raise UsageError(
            f"data file {path} is a folder; a job takes one .npz file:"
            f" meshd data convert {shlex.quote(str(path))} OUT.npz"
        )


def submit(settings: Settings, spec: str, file: IO[bytes], size: int) -> dict[str, Any]:
    """Hand a job and its data to the daemon; returns `{"job": id, "name": ...}`.

    Raises:
        MeshdError: the daemon's refusal.
    """
    arguments = {"spec": spec, "data_bytes": size}
    return settings.ask("submit", arguments, body=chunks(file), patient=True)


class Interrupted(click.ClickException):
    """Ctrl-C when it can no longer be known whether the daemon took the job."""

    exit_code = 130
