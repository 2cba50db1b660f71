"""`meshd fetch`: save a model."""

from __future__ import annotations

from pathlib import Path

import click

from meshd.cli.figures import bytes_text
from meshd.cli.files import written_whole
from meshd.cli.settings import Settings


@click.command(help="Save the model of finished JOB (its name, its id, or the id's beginning).")
@click.argument("job", metavar="JOB")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    required=True,
    type=click.Path(path_type=Path),
    help="Where to save it, as safetensors. An existing file is replaced.",
)
@click.pass_obj
def command(settings: Settings, job: str, output: Path) -> None:
    """Write the file whole or not at all."""
    from meshd.net.local import FailureError

    with written_whole(output) as file:

        def write(piece: bytes) -> None:
            try:
                file.write(piece)
            except OSError as error:  # our disk's fault, not the link's
                raise FailureError(f"{output}: {error.strerror}") from None

        answer = settings.ask("fetch", {"job": job}, sink=write)
        if file.tell() != answer["bytes"]:
            raise FailureError(
                f"the daemon sent {file.tell()} of {answer['bytes']} bytes; try again"
            )
    click.echo(f"{answer['name']}: {bytes_text(answer['bytes'])} in {output}", err=True)
