"""`meshd cancel`: end a job."""

from __future__ import annotations

import click

from meshd.cli.settings import Settings


@click.command(help="End JOB (its name, its id, or the id's beginning) for good, on all machines.")
@click.argument("job", metavar="JOB")
@click.pass_obj
def command(settings: Settings, job: str) -> None:
    """Ask the daemon; the tombstone travels to the other machines from there."""
    answer = settings.ask("cancel", {"job": job})
    click.echo(f"{job} is {answer['state']}; see: {settings.program} status", err=True)
