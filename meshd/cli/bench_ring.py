"""`meshd bench ring`: exchanges beside Gloo's, on links of a given rate."""

from __future__ import annotations

import json

import click

EXCHANGES = ("votes", "direct", "onebit")


@click.command(
    name="ring",
    help=(
        "Measure exchanges beside Gloo's all-reduce, every member a process in a host of its own. "
        "As root on Linux: hosts in network namespaces, on links of the given rate. Elsewhere all "
        "members share this machine's loopback, which has no rate."
    ),
)
@click.option("--members", type=click.IntRange(2, 64), default=8, show_default=True)
@click.option(
    "--rate",
    "rates",
    multiple=True,
    default=("100mbit",),
    show_default=True,
    help="Of every link, each way; give it again for one measurement more.",
)
@click.option(
    "--params", type=click.IntRange(1, 1_000_000_000), default=10_000_000, show_default=True
)
@click.option(
    "--gamma",
    type=click.IntRange(64, 65_536),
    default=64,
    show_default=True,
    help="Elements of a gradient segment that share one scale.",
)
@click.option(
    "--exchange",
    "exchanges",
    type=click.Choice(EXCHANGES),
    multiple=True,
    default=EXCHANGES,
    show_default=True,
)
@click.option(
    "--rounds", type=click.IntRange(1, 100), default=3, show_default=True, help="Turns of each."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def command(
    members: int,
    rates: tuple[str, ...],
    params: int,
    gamma: int,
    exchanges: tuple[str, ...],
    rounds: int,
    as_json: bool,
) -> None:
    """Measure and print."""
    from meshd.cli.bench import refuse_missing_libraries, refuse_unknown_set

    refuse_missing_libraries(None)
    refuse_unknown_set()
    from rich.console import Console

    from meshd.bench.ring.run import Settings, measure

    settings = Settings(members, rates, params, gamma, exchanges, rounds)
    words = Console(stderr=True, highlight=False)
    with words.status("measuring: leave the machine alone") as status:
        report = measure(settings, lambda what: status.update(f"measuring: {what}"))
    why = report["network"]["why"]
    if why:
        words.print(f"measured on this machine's loopback, without links: {why}", style="yellow")
    if as_json:
        click.echo(json.dumps(report))
        return
    from meshd.cli.bench_ring_report import print_report

    print_report(report)
