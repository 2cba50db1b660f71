"""`meshd key`: this machine's public key."""

from __future__ import annotations

import shlex
import sys

import click

from meshd.cli.settings import Settings


@click.command(help="Show this machine's public key; with `meshd trust` others let it in.")
@click.pass_obj
def command(settings: Settings) -> None:
    """The key alone on stdout; on a terminal also the line to type on the other machine.

    A key may hold any of `.-:+=^!/*?&<>()[]{}@%$#`, hence the quotes.
    """
    answer = settings.ask("key")
    if sys.stdout.isatty():
        trust = f"meshd trust {shlex.quote(answer['name'])} '{answer['key']}'"
        click.echo(f"on each machine that shall trust this one: {trust}", err=True)
    click.echo(answer["key"])
