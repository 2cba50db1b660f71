"""A member's process: `python -m meshd.bench.ring.member`, one JSON object a line in, one out.

    {"do": "listen", "place": {...}}                 -> {"key", "ports", "store_port"}
    {"do": "join", "members": [...], ...}            -> {}
    {"do": "prepare", "name": NAME}                  -> {}
    {"do": "turn", "at": SECONDS}                    -> {"end": SECONDS, "cpu": SECONDS}
    {"do": "digest"}                                 -> {"digest": TEXT}

Seconds are of the monotonic clock, which all hosts of a lab share: they are one machine. A turn
begins for all at `at`, so what is measured begins nowhere earlier.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

# Read when the libraries are loaded: a core a member is more than there is.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

from meshd.bench.ring import gloo
from meshd.bench.ring.contestant import EXCHANGES, Contestant, Neighbourhood, Place
from meshd.bench.ring.exchange import ExchangeContestant
from meshd.bench.ring.wire import CURVE, CurveRing, PlainRing
from meshd.core.messages import RingMember
from meshd.net.bulk import BulkLinks
from meshd.net.keys import load_or_create_keys
from meshd.net.roster import ROSTER_FILE, RosterFile, add_to_roster


class Member:
    """Answers one request after the other."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._store = gloo.open_store(place)
        self._keys = load_or_create_keys(place.folder)
        self._roster = place.folder / ROSTER_FILE
        self._links = {
            name: BulkLinks(self._keys, RosterFile(self._roster), place.address)
            for name in (*EXCHANGES, CURVE)
        }
        self._contestants: dict[str, Contestant] = {}
        self._makers: dict[str, Callable[[], Contestant]] = {}
        self._current: Contestant

    def whereabouts(self) -> dict[str, Any]:
        """What the others must know."""
        port = self._store.port if self._store else 0
        ports = {name: links.port for name, links in self._links.items()}
        return {"key": self._keys.public, "ports": ports, "store_port": port}

    def join(self, around: Neighbourhood) -> None:
        """Trust the others and meet them."""
        for member in around.members:
            add_to_roster(self._roster, member.name, member.key)
        gloo.open_group(self._place, around, self._store)
        place = self._place
        for name, links in self._links.items():
            members = around.at(name)
            if name == CURVE:
                self._makers[name] = functools.partial(CurveRing, place, links, members)
            else:
                self._makers[name] = functools.partial(
                    ExchangeContestant, place, name, links, members
                )
        self._makers["tcp"] = lambda: PlainRing(place, around)
        for name, make in gloo.makers().items():
            self._makers[name] = functools.partial(make, place)

    def prepare(self, name: str) -> None:
        """Get ready for a turn of the contestant of that name, made when it is first asked for."""
        if name not in self._contestants:
            self._contestants[name] = self._makers[name]()
        self._current = self._contestants[name]
        self._current.prepare()

    def turn(self, at: float) -> dict[str, float]:
        """One exchange."""
        time.sleep(max(0.0, at - time.monotonic()))
        used = time.process_time()
        self._current.exchange()
        return {"end": time.monotonic(), "cpu": time.process_time() - used}

    def digest(self) -> str:
        """Of what the last turn made."""
        return self._current.digest()

    def close(self) -> None:
        """Leave all rings."""
        for contestant in self._contestants.values():
            contestant.close()
        gloo.close_group()
        for links in self._links.values():
            links.close(0)


def answer(member: Member, request: dict[str, Any]) -> dict[str, Any]:
    """Do what one line asks for."""
    what = request["do"]
    if what == "listen":
        return member.whereabouts()
    if what == "join":
        members = tuple(RingMember(**one) for one in request["members"])
        around = (request["ports"], request["first_address"], request["store_port"])
        member.join(Neighbourhood(members, *around))
    elif what == "prepare":
        member.prepare(request["name"])
    elif what == "turn":
        return member.turn(request["at"])
    else:
        return {"digest": member.digest()}
    return {}


def main(lines: TextIO, out: TextIO) -> None:
    """Serve until the lines end."""
    torch.set_num_threads(1)
    first = json.loads(lines.readline())
    folder = Path(first["place"].pop("folder"))
    member = Member(Place(**first["place"], folder=folder))
    try:
        print(json.dumps(answer(member, first)), file=out, flush=True)
        for line in lines:
            print(json.dumps(answer(member, json.loads(line))), file=out, flush=True)
    finally:
        member.close()


if __name__ == "__main__":
    main(sys.stdin, sys.stdout)
