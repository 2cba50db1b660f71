"""The command `lab`: one line for every mistake, stdout for data, exit codes as meshd's."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from meshd.core.errors import ExitCode, MeshdError, NotRunningError, UsageError
from meshd.lab.network import Lab
from meshd.lab.rates import parse_rate, rate_text
from meshd.lab.record import FOLDER


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    asked = parser().parse_args(arguments)
    try:
        run(asked)
    except MeshdError as error:
        print(f"lab: {error}", file=sys.stderr)
        return error.exit_code
    return ExitCode.OK


def parser() -> argparse.ArgumentParser:
    """All commands and their words."""
    top = argparse.ArgumentParser("lab", description="Hosts on one switch, in network namespaces.")
    top.add_argument("--prefix", default="lab", help="which lab; others may have theirs (lab)")
    top.add_argument("--state", type=Path, default=FOLDER, help=f"folder of records ({FOLDER})")
    commands = top.add_subparsers(dest="command", required=True)

    def command(name: str, words: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=words, description=words)
        # After the command's name too; there it must not undo what stood before it.
        one.add_argument("--prefix", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        return one

    up = command("up", "make HOSTS hosts, h1 to hN")
    up.add_argument("hosts", type=int)
    up.add_argument("--rate", default="1gbit", help="of every link, each way (1gbit)")
    down = command("down", "remove the lab")
    down.add_argument("--kill", action="store_true", help="end what still runs in its hosts")
    run_in = command("exec", "run a command in a host: lab exec h1 -- COMMAND...")
    run_in.add_argument("host")
    run_in.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND")
    link = command("link", "pull a host's cable, or put it in")
    link.add_argument("host")
    link.add_argument("state_wanted", choices=("up", "down"))
    rate = command("rate", "change the rate of a host's link")
    rate.add_argument("host")
    rate.add_argument("rate")
    part = command("partition", "part hosts: lab partition h1,h2 / h3,h4; the rest stays together")
    part.add_argument("groups", nargs="+")
    command("heal", "end the partition")
    status = command("status", "show the hosts")
    status.add_argument("--json", action="store_true", dest="as_json")
    return top


def run(asked: argparse.Namespace) -> None:
    """Do what is asked."""
    if asked.command == "up":
        lab = Lab.up(asked.hosts, parse_rate(asked.rate), asked.prefix, asked.state)
        print(f"{len(lab.hosts)} hosts, {lab.hosts[0]} to {lab.hosts[-1]}", file=sys.stderr)
        return
    try:
        lab = Lab.find(asked.prefix, asked.state)
    except NotRunningError:
        if asked.command == "down":  # as often as one likes
            return
        raise
    if asked.command == "down":
        lab.down(asked.kill)
    elif asked.command == "exec":
        execute(lab, asked.host, asked.words)
    elif asked.command == "link":
        lab.set_link(asked.host, asked.state_wanted == "up")
    elif asked.command == "rate":
        lab.set_rate(asked.host, parse_rate(asked.rate))
    elif asked.command == "partition":
        lab.partition(parse_groups(asked.groups))
    elif asked.command == "heal":
        lab.heal()
    else:
        show(lab, asked.as_json)


def execute(lab: Lab, host: str, words: list[str]) -> None:
    """Become the command, in the host."""
    command = words[1:] if words[:1] == ["--"] else words
    if not command:
        raise UsageError("say what to run: lab exec h1 -- COMMAND...")
    full = lab.command(host, command)
    os.execvp(full[0], full)  # noqa: S606 - an argument list, and no shell


def parse_groups(words: Sequence[str]) -> list[list[str]]:
    """`h1,h2 / h3` -> [[h1, h2], [h3]]."""
    groups = " ".join(words).split("/")
    return [[host.strip() for host in group.split(",") if host.strip()] for group in groups]


def show(lab: Lab, as_json: bool) -> None:
    """All hosts, one a line or one JSON object."""
    states = lab.status()
    if as_json:
        print(json.dumps({"hosts": [asdict(state) for state in states]}))
        return
    print(f"{'HOST':<6}{'ADDRESS':<13}{'RATE':<9}{'LINK':<6}{'GROUP':<7}{'DROPPED':<9}NAMESPACE")
    for one in states:
        link = "up" if one.link_up else "down"
        print(
            f"{one.name:<6}{one.address:<13}{rate_text(one.rate):<9}{link:<6}{one.group:<7}"
            f"{one.dropped_packets:<9}{one.namespace}"
        )
