"""`meshd status`: the mesh on one screen, or as the JSON object that scripts read."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

from meshd.cli.settings import Settings

WATCH_PERIOD_S = 1.0


@click.command(help="Show this machine, the machines it trusts, and the jobs.")
@click.option("--json", "as_json", is_flag=True, help="The status object, its version inside.")
@click.option("--watch", is_flag=True, help="Stay and refresh every second, until Ctrl-C.")
@click.pass_obj
def command(settings: Settings, as_json: bool, watch: bool) -> None:
    """One screen, or one object; with --watch one after the other."""
    status = ask_status(settings)
    if as_json:
        _write_json(settings, status, watch)
    elif watch and sys.stdout.isatty():
        _watch_screen(settings, status)
    else:
        _write_screens(settings, status, watch)


def ask_status(settings: Settings, patient: bool = False) -> dict[str, Any]:
    """The daemon's status object, of the version that this program knows.

    Args:
        settings: whose daemon.
        patient: as for `Settings.ask`.

    Raises:
        NotRunningError: no daemon answers.
        FailureError: the daemon speaks another version.
    """
    from meshd.cli.screen import STATUS_VERSION

    status = settings.ask("status", patient=patient)
    if status.get("status_version") != STATUS_VERSION:
        from meshd.net.local import FailureError

        raise FailureError("the daemon is of another version than this program: restart it")
    return status


def _write_json(settings: Settings, status: dict[str, Any], watch: bool) -> None:
    """Indented once; with --watch one object a line."""
    click.echo(json.dumps(status, indent=None if watch else 2, ensure_ascii=False))
    while watch:
        time.sleep(WATCH_PERIOD_S)
        click.echo(json.dumps(ask_status(settings), ensure_ascii=False))


def _write_screens(settings: Settings, status: dict[str, Any], watch: bool) -> None:
    """Without a terminal: the screen, and with --watch each one that differs in more than time."""
    from rich.console import Console
    from rich.text import Text

    from meshd.cli.screen import status_screen

    console = Console(highlight=False)
    width = console.width if console.is_terminal else None
    shown = status_screen(status, width, settings.program)
    console.print(Text("\n").join(shown), soft_wrap=True)
    while watch:
        time.sleep(WATCH_PERIOD_S)
        lines = status_screen(ask_status(settings), width, settings.program)
        if lines[1:] != shown[1:]:  # the first line holds the daemon's age
            console.print(Text("\n").join([Text(), *lines]), soft_wrap=True)
            shown = lines


def _watch_screen(settings: Settings, status: dict[str, Any]) -> None:
    """On a terminal: redraw in place; the last screen stays when the user has seen enough."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from meshd.cli.screen import status_screen

    console = Console(highlight=False)

    def draw(current: dict[str, Any]) -> Text:
        lines = status_screen(current, console.width, settings.program, watching=True)
        return Text("\n").join(lines)

    try:
        with Live(draw(status), console=console, screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(WATCH_PERIOD_S)
                status = ask_status(settings)
                live.update(draw(status), refresh=True)
    finally:
        console.print(draw(status), soft_wrap=True)
