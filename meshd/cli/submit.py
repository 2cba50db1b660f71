"""`meshd submit`: start a job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
    answer = submit(settings, read_job_file(job_file), data_file)
    click.echo(f"submitted {answer['name']}; see: {settings.program} status", err=True)
    click.echo(answer["job"])
    if watch:
        from meshd.cli.follow import follow, refuse_unfinished

        refuse_unfinished(follow(settings, answer["job"]), settings.program)


def submit(settings: Settings, spec: str, data_path: Path) -> dict[str, Any]:
    """Hand a job and its data to the daemon; returns `{"job": id, "name": ...}`.

    Raises:
        MeshdError: the file cannot be read, or the daemon's refusal.
    """
    file, size = open_data(data_path, "data file")
    with file:
        return settings.ask("submit", {"spec": spec, "data_bytes": size}, body=chunks(file))
