"""Who is there. Every statement about another machine's life is made in this file.

A machine is told from the others by its key; only keys on the roster exist here. mDNS and static
addresses say "perhaps there": they lead to a link and a Hello, nothing more. Then, each period:

    to a machine that we do not hear    Hello       "I am here, at this address; I do not hear you"
    to a machine that we hear           Heartbeat   "I hear you; I am free for a job, or not, why"

So a machine counts as alive when its Hello told its boot number and then a Heartbeat came: that
proves both directions. Hellos alone never refresh it, and a link that works one way is lost on both
sides within `LOST_AFTER_S`. A Hello with another boot number is a restart: whatever the machine
took part in is over, even if nobody had time to miss it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from meshd.core.messages import Heartbeat, Hello
from meshd.core.types import MachineKey

HEARTBEAT_S = 1.0
"""Period of Hellos and Heartbeats. About 150 bytes with all framing: nothing to an office network,
and short enough that three may be missed within the 5 s in which status has to be true."""

LOST_AFTER_S = 3.0
"""A machine that was not heard for so long is lost: three periods, so that one lost packet and its
retransmission (a second at most, RFC 6298) are not a death; within the 5 s of a true status."""

ADDRESSES_MAX = 4
"""A machine with cable, Wi-Fi and a virtual network announces about so many."""

HELLO_ANSWER_S = 1.0
"""A Hello is answered with a Hello at most so often, so that two machines cannot echo for ever."""

NOTES_MAX, NOTES_S = 4, 10.0
"""So many lines about one machine's coming and going are logged in so many seconds: one that flips
its boot number fills no disk."""

TWIN_FLIPS, TWINS_S = 3, 30.0
"""A boot number is drawn anew at each start. Earlier ones that come back so often within so many
seconds (one could be a late message) are two daemons with one key: a copied state folder."""

BOOTS_MAX = 8
"""Earlier boot numbers that are remembered."""


@dataclass
class Peer:
    """One machine of the roster, as this machine sees it. Times are monotonic seconds of `now`."""

    key: MachineKey
    name: str
    """The roster's name; what the machine calls itself is its own affair."""
    host: str = ""
    port: int = 0
    """Where our link goes to; one of `addresses`."""
    addresses: list[tuple[str, int]] = field(default_factory=list)
    """Where it was said to be, the latest last; at most `ADDRESSES_MAX`."""
    linked_at: float = 0.0
    version: str = ""
    boot: int = -1
    """-1: no Hello yet."""
    sequence: int = -1
    """Of the last Heartbeat; an older or equal one is a late copy."""
    available: bool = False
    why: str = "not heard yet"
    alive: bool = False
    linked: bool = False
    declared_host: str = ""
    """Where the machine says that others reach it; `host` is where we do."""
    heard: float | None = None
    """When the last message but a Hello came. alive implies now - heard <= LOST_AFTER_S."""
    any_heard: float | None = None
    """When any message came, a Hello too: then we hear the machine, but it perhaps not us."""
    said_hello: float | None = None
    """When we last sent it a Hello."""

    noted: list[float] = field(default_factory=list)
    """When the last lines about it were logged; at most `NOTES_MAX`."""
    boots: list[int] = field(default_factory=list)
    """Earlier boot numbers; at most `BOOTS_MAX`."""
    flips: list[float] = field(default_factory=list)
    """When an earlier boot number came back; the last `TWIN_FLIPS`."""

    def may_note(self, now: float) -> bool:
        """Whether one more line about it may be logged; counts it if so."""
        self.noted = [at for at in self.noted if now - at < NOTES_S]
        if len(self.noted) >= NOTES_MAX:
            return False
        self.noted.append(now)
        return True

    def has_twin(self, now: float) -> bool:
        """Whether two machines use its key."""
        return len(self.flips) == TWIN_FLIPS and now - self.flips[0] <= TWINS_S

    def audible(self, now: float) -> bool:
        """Whether we hear it, and so owe it a Heartbeat and no Hello."""
        return self.any_heard is not None and now - self.any_heard <= LOST_AFTER_S

    def ring_host(self) -> str:
        """The address that other members are told: where our own link to it works, unless that
        is this machine's loopback, which is no address to others; then what it says itself."""
        loopback = self.host.startswith("127.") or self.host == "::1"
        return (self.declared_host or self.host) if loopback else self.host

    def state(self) -> str:
        """The one word that `status` shows."""
        if self.alive:
            return "alive"
        return "not seen" if self.heard is None else "lost"


class Peers:
    """The table of all other machines of the roster."""

    def __init__(self, own_key: MachineKey) -> None:
        self._own_key = own_key
        self._peers: dict[MachineKey, Peer] = {}

    def __iter__(self) -> Iterator[Peer]:
        return iter(self._peers.values())

    def __contains__(self, key: MachineKey) -> bool:
        return key in self._peers

    def get(self, key: MachineKey) -> Peer | None:
        """The peer with this key; None for a stranger and for ourselves."""
        return self._peers.get(key)

    def alive(self) -> list[MachineKey]:
        """Keys of the machines that are alive, sorted; without our own."""
        return sorted(peer.key for peer in self._peers.values() if peer.alive)

    def is_alive(self, key: MachineKey) -> bool:
        """Whether this other machine is alive."""
        peer = self._peers.get(key)
        return peer is not None and peer.alive

    def set_roster(self, roster: Mapping[MachineKey, str]) -> None:
        """Take over the roster: whoever is no longer on it is nobody."""
        for key in [key for key in self._peers if key not in roster]:
            del self._peers[key]
        for key, name in roster.items():
            if key == self._own_key:
                continue
            if key in self._peers:
                self._peers[key].name = name
            else:
                self._peers[key] = Peer(key, name)

    def sighted(self, key: MachineKey, host: str, port: int, now: float, sure: bool) -> bool:
        """Discovery, a static address or a Hello names an address: whether to connect to it.

        A machine that is alive where it is keeps its link: mDNS also announces its other addresses.
        `sure`: it has just restarted and says so itself; nothing older can be right.
        """
        peer = self._peers.get(key)
        if peer is None or not host or not 0 < port < 65_536:
            return False
        address = (host, port)
        peer.addresses = [*(a for a in peer.addresses if a != address), address][-ADDRESSES_MAX:]
        here = peer.linked and (peer.host, peer.port) == address
        if here or (peer.linked and not sure):
            return False
        peer.host, peer.port, peer.linked, peer.linked_at = host, port, True, now
        return True

    def try_others(self, now: float) -> list[Peer]:
        """The machines that do not answer, now to be looked for at another of their addresses."""
        moved = []
        for peer in self._peers.values():
            silent = now - max(peer.linked_at, peer.heard or peer.linked_at) > LOST_AFTER_S
            if peer.linked and not peer.alive and silent and len(peer.addresses) > 1:
                peer.addresses = [*peer.addresses[1:], peer.addresses[0]]
                if peer.addresses[-1] == (peer.host, peer.port):
                    peer.addresses = [*peer.addresses[1:], peer.addresses[0]]
                (peer.host, peer.port), peer.linked_at = peer.addresses[-1], now
                moved.append(peer)
        return moved

    def hello(self, key: MachineKey, hello: Hello, now: float) -> bool:
        """Note who it is; returns whether it restarted since we last heard it.

        Of two machines with one key the one that is alive stays: its boot number is kept.
        """
        peer = self._peers[key]
        restarted = peer.boot not in (-1, hello.boot)
        if restarted and hello.boot in peer.boots:
            peer.flips = [*peer.flips, now][-TWIN_FLIPS:]
            if peer.alive and peer.has_twin(now):
                return False
        peer.any_heard, peer.declared_host = now, hello.host
        if hello.boot != peer.boot:
            peer.boots = [*(b for b in peer.boots if b != peer.boot), peer.boot][-BOOTS_MAX:]
            peer.boot, peer.sequence = hello.boot, -1
            if restarted:
                peer.alive = False
        peer.version = hello.version
        return restarted

    def heartbeat(self, key: MachineKey, beat: Heartbeat, now: float) -> bool:
        """Note a Heartbeat; returns whether the machine came alive by it."""
        peer = self._peers[key]
        if beat.boot != peer.boot or beat.sequence <= peer.sequence:
            return False
        peer.sequence, peer.available, peer.why = beat.sequence, beat.available, beat.why
        if peer.has_twin(now):
            peer.available = False
            peer.why = f"two machines use {peer.name}'s key: was its state folder copied?"
        peer.heard = peer.any_heard = now
        came, peer.alive = not peer.alive, True
        return came

    def heard(self, key: MachineKey, now: float) -> None:
        """Any other message of a machine that is alive says that it still is."""
        peer = self._peers[key]
        peer.any_heard = now
        if peer.alive:
            peer.heard = now

    def leave(self, key: MachineKey) -> bool:
        """It said goodbye, or cannot be reached; returns whether it was alive until now."""
        peer = self._peers[key]
        was, peer.alive, peer.any_heard = peer.alive, False, None
        return was

    def expire(self, now: float) -> list[Peer]:
        """The machines that are lost from now on."""
        lost = []
        for peer in self._peers.values():
            if peer.alive and peer.heard is not None and now - peer.heard > LOST_AFTER_S:
                peer.alive = False
                lost.append(peer)
        return lost

    def forgive(self, seconds: float) -> None:
        """We ourselves slept (suspend, a debugger): silence in that time is nobody's fault."""
        for peer in self._peers.values():
            if peer.heard is not None:
                peer.heard += seconds
            if peer.any_heard is not None:
                peer.any_heard += seconds

    def next_expiry(self) -> float:
        """When the next living machine would be lost; infinity without any."""
        times = [p.heard for p in self._peers.values() if p.alive and p.heard is not None]
        return min(times, default=float("inf")) + LOST_AFTER_S
