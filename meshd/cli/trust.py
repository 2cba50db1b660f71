"""`meshd trust`: let a machine in."""

from __future__ import annotations

import click

from meshd.cli.settings import Settings

KEY_CHARACTERS = 40  # 32 bytes as z85 (ZeroMQ RFC 32)


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
    check_key(key)
    settings.ask("trust", {"name": name, "key": key})
    click.echo(
        f"{name} is trusted here; let this machine in there too: {settings.program} key", err=True
    )


def check_key(key: str) -> None:
    """Say about a wrong key what a person can see: its length, and that the shell may have cut it.

    Raises:
        UsageError: it cannot be a key.
    """
    from meshd.net.local import UsageError, has_shape

    quote = "quote it, for the shell changes keys without quotes: 'KEY'"
    if len(key) != KEY_CHARACTERS:
        raise UsageError(f"the key has {len(key)} characters, not {KEY_CHARACTERS}; {quote}")
    if not has_shape("key", key):
        raise UsageError(f"the key has a character that no key has; {quote}")
