"""What takes part in a contest of exchanges: one object in each member's process."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from meshd.core.messages import RingMember

EXCHANGES = ("votes", "direct", "onebit")
"""meshd's own."""

WIDTH = 1024
"""Columns of the networks that are exchanged."""


def whole_rows(params: int) -> int:
    """So many parameters, rounded up to whole rows: what every contestant exchanges."""
    return -(-params // WIDTH) * WIDTH


@dataclass(frozen=True)
class Place:
    """One member's place. `params`: whole rows; `folder`: its own, 0700."""

    rank: int
    size: int
    address: str
    interface: str
    params: int
    gamma: int
    folder: Path


@dataclass(frozen=True)
class Neighbourhood:
    """What members learn of each other before they begin. `store_port`: of the first member's."""

    members: tuple[RingMember, ...]
    """By rank; the port is the first contestant's."""
    ports: list[dict[str, int]]
    """Of each member: contestant -> port."""
    first_address: str
    store_port: int

    def at(self, name: str) -> tuple[RingMember, ...]:
        """The members where they listen for one contestant."""
        return tuple(
            replace(member, port=ports[name])
            for member, ports in zip(self.members, self.ports, strict=True)
        )


class Contestant(Protocol):
    """One way to exchange `params` parameters."""

    def prepare(self) -> None:
        """Untimed, before each turn: lay out what is exchanged."""
        ...

    def exchange(self) -> None:
        """The turn: every member calls it at the same moment."""
        ...

    def digest(self) -> str:
        """Untimed, after each turn: of what must be alike in all members.

        Raises:
            ValueError: the result is wrong.
        """
        ...

    def close(self) -> None:
        """Leave."""
        ...
