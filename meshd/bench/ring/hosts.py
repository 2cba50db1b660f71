"""Where members run: hosts of a lab, each with a link of its own; without root, the loopback.

In a lab, what a host sends is counted by its link's own token bucket: whole Ethernet frames, after
large packets are cut, so headers and acknowledgements are in it. (The interface's counters are not
so good here: they count a packet of 64 KiB that the stack has yet to cut as one header.)
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from meshd.lab.network import HOST_INTERFACE, Lab

LOOPBACK = Path("/sys/class/net/lo/statistics/tx_bytes")


class Hosts(Protocol):
    """One host a member."""

    addresses: list[str]
    interface: str

    def command(self, member: int, words: Sequence[str]) -> list[str]:
        """The argument list that runs `words` in a member's host."""
        ...

    def sent_bytes(self) -> list[int]:
        """What each member's host has sent so far."""
        ...


class LabHosts:
    """The hosts of a lab that is up."""

    def __init__(self, lab: Lab) -> None:
        self.interface = HOST_INTERFACE
        self._lab = lab
        self.addresses = [lab.address(host) for host in lab.hosts]

    def command(self, member: int, words: Sequence[str]) -> list[str]:
        """As `Hosts.command`."""
        return self._lab.command(self._lab.hosts[member], words)

    def sent_bytes(self) -> list[int]:
        """As `Hosts.sent_bytes`."""
        return [state.sent_bytes for state in self._lab.status()]


class LoopbackHosts:
    """All members on this machine's loopback, which has no rate. Others' traffic there counts."""

    def __init__(self, members: int) -> None:
        self.interface = "lo"
        self.addresses = ["127.0.0.1"] * members

    def command(self, member: int, words: Sequence[str]) -> list[str]:
        """As `Hosts.command`."""
        return list(words)

    def sent_bytes(self) -> list[int]:
        """An equal share of all that crossed the loopback."""
        members = len(self.addresses)
        return [int(LOOPBACK.read_text()) // members] * members


@contextlib.contextmanager
def hosts_for(members: int, rate: int | None) -> Iterator[Hosts]:
    """A lab's hosts at so many bits per second, and an end to them; without a rate, the loopback.

    Raises:
        FailureError: the lab could not be made although labs can be here.
    """
    if rate is None:
        yield LoopbackHosts(members)
        return
    lab = Lab.up(members, rate, f"bench-{os.getpid()}")
    try:
        yield LabHosts(lab)
    finally:
        lab.down(kill=True)
