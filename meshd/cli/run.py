"""`meshd run`: become the daemon."""

from __future__ import annotations

import os

import click

from meshd.cli.daemon_process import DaemonOptions, daemon_environment
from meshd.cli.settings import Settings


@click.command(help="Run this machine's daemon in the foreground; Ctrl-C or SIGTERM ends it.")
@click.option("--name", help="What others call this machine.  [default: the host's name]")
@click.option("--host", metavar="ADDRESS", help="Listen on this address only.")
@click.option("--port", type=click.IntRange(0, 65535), help="Control port; 0 takes a free one.")
@click.option("--threads", type=click.IntRange(1, 1024), help="CPU threads that training may use.")
@click.option(
    "--peer",
    "peers",
    multiple=True,
    metavar="KEY@HOST:PORT",
    help="A machine's address, where mDNS does not reach; may be repeated.",
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
    no_mdns: bool,
) -> None:
    """Replace this process by the daemon's, so that a service manager sees the daemon itself."""
    options = DaemonOptions(settings.state, name, host, port, threads, peers, mdns=not no_mdns)
    arguments = options.arguments()
    os.execve(arguments[0], arguments, daemon_environment(os.environ))  # noqa: S606 (no shell)
