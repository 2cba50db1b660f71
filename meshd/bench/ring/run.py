"""One contest at each rate: the exchanges of meshd and Gloo's, turn about, in the same processes.

The report is what `meshd bench ring --json` prints: "machine", "settings", "network" (a lab's, or
why not), "results" (one row an exchange and rate), "ceilings" (what these hosts carry, one row a
kind of link and rate), and "turns": every turn's seconds, processor
seconds of all members, and bits a parameter that each member sent.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from meshd.bench import machine
from meshd.bench.ring.contestant import EXCHANGES, whole_rows
from meshd.bench.ring.crew import Crew, Turn
from meshd.bench.ring.gloo import BUCKETS, TYPES
from meshd.bench.ring.hosts import hosts_for
from meshd.bench.ring.wire import CEILINGS
from meshd.core.errors import UsageError
from meshd.lab.network import unavailable
from meshd.lab.rates import parse_rate

MOST_MEMBERS = 64
MOST_PARAMS = 1_000_000_000

Say = Callable[[str], object]
Turns = dict[str, list[Turn]]


@dataclass(frozen=True)
class Settings:
    """What to measure."""

    members: int = 8
    rates: tuple[str, ...] = ("100mbit",)
    params: int = 10_000_000
    gamma: int = 64
    exchanges: tuple[str, ...] = EXCHANGES
    rounds: int = 3


def measure(settings: Settings, say: Say = lambda words: None) -> dict[str, Any]:
    """Measure; `say` is told what comes next.

    Raises:
        UsageError: a setting is out of its bounds.
        FailureError: a member failed.
    """
    rates = check(settings)
    started = time.monotonic()
    params = whole_rows(settings.params)
    results: list[dict[str, Any]] = []
    ceilings: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    why = unavailable()
    for rate in rates if why is None else [None]:
        held = at_rate(settings, params, rate, say)
        results += rows(held, settings, params, rate)
        ceilings += ceiling_rows(held, rate)
        shown = {name: [turn_row(turn, params) for turn in ts] for name, ts in held.items()}
        turns.append({"rate_mbit": rate and rate / 1e6, "turns": shown})
    about = machine.describe(machine.available_cores())
    about["seconds"] = round(time.monotonic() - started, 1)
    kind = {"kind": "loopback", "why": why} if why else {"kind": "lab", "why": None}
    return {
        **{"machine": about, "settings": asdict(settings), "network": kind},
        **{"results": results, "ceilings": ceilings, "turns": turns},
    }


def at_rate(settings: Settings, params: int, rate: int | None, say: Say) -> Turns:
    """One contest in hosts of its own: a connection keeps packets of the rate it was made at."""
    where = f"{rate / 1e6:g} Mbit, " if rate else ""
    with (
        tempfile.TemporaryDirectory(prefix="meshd-bench-") as folder,
        hosts_for(settings.members, rate) as hosts,
    ):
        say(f"{where}starting the members")
        crew = Crew(hosts, params, settings.gamma, Path(folder))
        try:
            return contest(crew, settings, where, say)
        finally:
            crew.close()


def check(settings: Settings) -> list[int]:
    """The rates in bits per second.

    Raises:
        UsageError: a setting is out of its bounds.
    """
    if not 2 <= settings.members <= MOST_MEMBERS:
        raise UsageError(f"{settings.members} members: a ring has 2 to {MOST_MEMBERS} here")
    if not 1 <= settings.params <= MOST_PARAMS:
        raise UsageError(f"{settings.params} parameters: must be 1 to {MOST_PARAMS}")
    if not 64 <= settings.gamma <= 65_536 or settings.gamma % 64:
        raise UsageError(f"gamma {settings.gamma}: must be a multiple of 64, up to 65536")
    return [parse_rate(rate) for rate in settings.rates]


def contest(crew: Crew, settings: Settings, where: str, say: Say) -> Turns:
    """All exchanges at one rate. The first turn of each warms up and is not kept; of Gloo's ways,
    the one whose first two turns were the fastest goes on."""
    names = dict.fromkeys(settings.exchanges, "")
    for name in settings.exchanges:
        say(f"{where}{name}, warming up")
        names[name] = name
        crew.turn(name)
    for name in CEILINGS:
        names[name] = name
        crew.turn(name)
    for dtype in TYPES:
        say(f"{where}Gloo {dtype}, looking for its best setting")
        ways = [f"gloo/{dtype}/{bucket}" for bucket in BUCKETS]
        crew.turn(ways[0])
        names[f"gloo_{dtype}"] = min(ways, key=lambda way: crew.turn(way).seconds)
    held: Turns = {name: [] for name in names}
    for number in range(settings.rounds):
        say(f"{where}round {number + 1} of {settings.rounds}")
        for name, way in names.items():
            held[name].append(crew.turn(way))
    return held


def rows(held: Turns, settings: Settings, params: int, rate: int | None) -> list[dict[str, Any]]:
    """One row an exchange: each one's best turn, and what was sent in it."""
    best = {name: best_of(turns) for name, turns in held.items()}
    return [
        {
            **{"exchange": name, "members": settings.members, "params": params},
            **{"rate_mbit": rate and rate / 1e6, "seconds": best[name].seconds},
            "bits_per_param": sent_bits(best[name], params),
            "link_share": link_share(best[name], rate),
            **{f"gloo_{dtype}_seconds": best[f"gloo_{dtype}"].seconds for dtype in TYPES},
        }
        for name in settings.exchanges
    ]


def ceiling_rows(held: Turns, rate: int | None) -> list[dict[str, Any]]:
    """What nothing but sending and receiving reaches, on links of each kind."""
    return [
        {
            **{"link": name, "rate_mbit": rate and rate / 1e6},
            "link_share": link_share(best_of(held[name]), rate),
            "cpu_ns_per_byte": best_of(held[name]).cpu_s
            * 1e9
            / sum(best_of(held[name]).sent_bytes),
        }
        for name in CEILINGS
    ]


def best_of(turns: list[Turn]) -> Turn:
    """The least disturbed one."""
    return min(turns, key=lambda turn: turn.seconds)


def link_share(turn: Turn, rate: int | None) -> float | None:
    """Of the bits that the link of the busiest member could have sent meanwhile."""
    return max(turn.sent_bytes) * 8 / turn.seconds / rate if rate else None


def sent_bits(turn: Turn, params: int) -> float:
    """Bits a parameter of the member that sent most."""
    return max(turn.sent_bytes) * 8 / params


def turn_row(turn: Turn, params: int) -> dict[str, Any]:
    """A turn for the report."""
    bits = [count * 8 / params for count in turn.sent_bytes]
    return {"seconds": turn.seconds, "cpu_s": turn.cpu_s, "bits_per_param": bits}
