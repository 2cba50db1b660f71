"""`meshd fetch`: save a model."""

from __future__ import annotations

from pathlib import Path

import click

from meshd.cli.figures import bytes_text
from meshd.cli.files import STDOUT, opened_output
from meshd.cli.settings import Settings


@click.command(help="Save the model of finished JOB (its name, its id, or the id's beginning).")
@click.argument("job", metavar="JOB")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    required=True,
    type=click.Path(path_type=Path),
    help="Where to save it, as safetensors. An existing file is replaced; - is stdout.",
)
@click.pass_obj
def command(settings: Settings, job: str, output: Path) -> None:
    """Write the file whole or not at all; into a device, a pipe or stdout as it comes."""
    from meshd.net.local import FailureError

    received = 0
    with opened_output(output) as write:

        def take(piece: bytes) -> None:
            nonlocal received
            write(piece)
            received += len(piece)

        answer = settings.ask("fetch", {"job": job}, sink=take, patient=True)
        if received != answer["bytes"]:
            raise FailureError(f"the daemon sent {received} of {answer['bytes']} bytes; try again")
    where = "stdout" if output == STDOUT else output
    click.echo(f"{answer['name']}: {bytes_text(answer['bytes'])} in {where}", err=True)
