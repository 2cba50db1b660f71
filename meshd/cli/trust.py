"""`meshd trust`: let a machine in."""

from __future__ import annotations

import click

from meshd.cli.settings import Settings


# A key may begin with a dash: what is not an option of ours is an argument.
@click.command(
    context_settings={"ignore_unknown_options": True},
    help="Put machine NAME with KEY (40 characters, from `meshd key` there) on this machine's"
    " roster. Quote the key: '...'. Trust is mutual only if the other machine does the same.",
)
@click.argument("name")
@click.argument("key")
@click.pass_obj
def command(settings: Settings, name: str, key: str) -> None:
    """Ask the daemon to write the roster; it connects at once."""
    settings.ask("trust", {"name": name, "key": key})
    click.echo(
        f"{name} is trusted here; let this machine in there too: {settings.program} key", err=True
    )
