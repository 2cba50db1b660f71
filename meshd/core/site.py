"""What every part of the node stands on: who this machine is, its peers, its jobs, its outbox."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from meshd.core.effects import Outbox
from meshd.core.job import onward
from meshd.core.messages import JobRecord, RingMember
from meshd.core.peers import Peers
from meshd.core.registry import Registry
from meshd.core.types import MachineKey


@dataclass(frozen=True)
class Identity:
    """This machine and this run of its daemon."""

    key: MachineKey
    name: str
    host: str
    """Where others reach it: control link on `port`, bulk links beside it."""
    port: int
    boot: int
    version: str
    protocol: int
    unable: str = ""
    """Why this machine can never train ("has no torch installed"); empty if it can."""


@dataclass
class Site:
    """Shared by the parts of one node."""

    me: Identity
    peers: Peers
    registry: Registry
    out: Outbox
    refused: Counter[str] = field(default_factory=Counter)
    """Messages that were dropped, by code."""
    control_bytes: int = 0
    """Bytes that this daemon has put on its control links since it started."""

    def name(self, key: MachineKey) -> str:
        """The name by which people know a machine."""
        if key == self.me.key:
            return self.me.name
        peer = self.peers.get(key)
        return peer.name if peer else f"{key[:8]}..."

    def names(self, keys: list[MachineKey]) -> str:
        """Several names as one clause: "desk-1, desk-2 and desk-3"."""
        names = sorted(self.name(key) for key in keys)
        if len(names) < 2:
            return "".join(names)
        return f"{', '.join(names[:-1])} and {names[-1]}"

    def here(self, key: MachineKey) -> bool:
        """Whether a machine is alive; this one is."""
        return key == self.me.key or self.peers.is_alive(key)

    def alive(self) -> list[MachineKey]:
        """All living machines, this one among them."""
        return [self.me.key, *self.peers.alive()]

    def ring_member(self, key: MachineKey, port: int = 0) -> RingMember:
        """A member where its bulk link listens; without `port`, where its daemon does."""
        peer = self.peers.get(key)
        if peer is None:
            return RingMember(key, self.me.name, self.me.host, port or self.me.port)
        return RingMember(key, peer.name, peer.ring_host(), port or peer.port)

    def resume_hint(self, record: JobRecord, name: str) -> str:
        """The next command to type after a job stopped, and what it does."""
        return f"`meshd resume {name}` {onward(record.checkpoint.step)}"
