"""`meshd run`: become the daemon."""

from __future__ import annotations

import os

import click

from meshd.cli.daemon_process import DaemonOptions, daemon_environment
from meshd.cli.settings import Settings
from meshd.cli.trust import KEY_CHARACTERS

MAX_PORT = 65_535


@click.command(help="Run this machine's daemon in the foreground; Ctrl-C or SIGTERM ends it.")
@click.option("--name", help="What others call this machine.  [default: the host's name]")
@click.option("--host", metavar="ADDRESS", help="Listen on this address only.")
@click.option("--port", type=click.IntRange(0, MAX_PORT), help="Control port; 0 takes a free one.")
@click.option("--threads", type=click.IntRange(1, 1024), help="CPU threads that training may use.")
@click.option(
    "--peer",
    "peers",
    multiple=True,
    metavar="KEY@HOST:PORT",
    help="A machine's address, where mDNS does not reach; may be repeated.",
)
@click.option(
    "--cache-bytes",
    type=click.IntRange(1 << 20, 1 << 50),
    metavar="BYTES",
    help="Cap on the data and checkpoints that are kept.",
)
@click.option("--no-mdns", is_flag=True, help="Neither announce this machine nor look for others.")
@click.pass_obj
def command(
    settings: Settings,
    name: str | None,
    host: str | None,
    port: int | None,
    threads: int | None,
    peers: tuple[str, ...],
    cache_bytes: int | None,
    no_mdns: bool,
) -> None:
    """Replace this process by the daemon's, so that a service manager sees the daemon itself."""
    check_name(name)
    for peer in peers:
        check_peer(peer)
    options = DaemonOptions(
        settings.state, name, host, port, threads, peers, not no_mdns, cache_bytes
    )
    arguments = options.arguments()
    os.execve(arguments[0], arguments, daemon_environment(os.environ))  # noqa: S606 (no shell)


def check_name(name: str | None) -> None:
    """Refuse what the daemon would refuse, before it starts.

    Raises:
        UsageError: it cannot be a machine's name.
    """
    from meshd.net.local import UsageError, has_shape

    if name is not None and not has_shape("name", name):
        raise UsageError(
            f"--name {name!r}: a name is 1 to 63 letters, digits, dots, dashes or underscores,"
            " a letter or digit first"
        )


def check_peer(peer: str) -> None:
    """Refuse what is not KEY@HOST:PORT; a key may hold an @, so it is cut by its length.

    Raises:
        UsageError: says which part is wrong.
    """
    from meshd.net.local import UsageError, has_shape

    key, at, address = peer[:KEY_CHARACTERS], peer[KEY_CHARACTERS:][:1], peer[KEY_CHARACTERS + 1 :]
    host, colon, port = address.rpartition(":")
    problem = ""
    if at != "@" or not has_shape("key", key):
        problem = f"it must begin with a key of {KEY_CHARACTERS} characters and an @; quote it"
    elif not colon or not host or not has_shape("host", host.strip("[]")):
        problem = "after the @ it must say HOST:PORT"
    elif not (port.isascii() and port.isdecimal() and 1 <= int(port) <= MAX_PORT):
        problem = f"the port must be a whole number from 1 to {MAX_PORT}"
    if problem:
        raise UsageError(f"--peer {peer!r} is not KEY@HOST:PORT: {problem}")
