"""`meshd resume`: go on with a stopped job."""

from __future__ import annotations

import click

from meshd.cli.settings import Settings


@click.command(
    help="Go on with stopped JOB (its name, its id, or the id's beginning) from its checkpoint."
)
@click.argument("job", metavar="JOB")
@click.pass_obj
def command(settings: Settings, job: str) -> None:
    """Ask the daemon; the job waits until enough machines are free."""
    answer = settings.ask("resume", {"job": job})
    click.echo(f"{job} is {answer['state']}; see: {settings.program} status", err=True)
