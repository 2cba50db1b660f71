"""`meshd logs`: what a job has said so far."""

from __future__ import annotations

import click

from meshd.cli.figures import printable
from meshd.cli.settings import Settings


@click.command(
    help="Show the log of JOB (its name, its id, or the id's beginning) on this machine."
)
@click.argument("job", metavar="JOB")
@click.pass_obj
def command(settings: Settings, job: str) -> None:
    """Print line by line. The text comes from other machines: no control characters pass."""
    for line in settings.ask("logs", {"job": job})["lines"]:
        click.echo(printable(line))
