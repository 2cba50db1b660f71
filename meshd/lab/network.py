"""Hosts in network namespaces, each with a link to one switch; every link limited both ways.

    namespace PREFIX-h1            namespace PREFIX-switch              namespace PREFIX-h2
    eth0 10.77.0.1 ===== tbf -> <- tbf ===== h1 [ br0 ] h2 ===== tbf -> <- tbf ===== eth0 10.77.0.2

Law: nothing of the machine's own network is touched, not even for a moment: each pair of interfaces
is made within namespaces of the lab. So names and addresses need to be unique in one lab only, and
labs of different prefixes never meet.

A pulled cable is the switch's end of a link going down: the host sees no carrier, and keeps its
address. A partition gives each group of hosts a bridge of its own. The kernel's congestion control
is CUBIC on these links, what office machines have, whatever the machine at hand prefers.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from meshd.core.errors import (
    FailureError,
    MeshdError,
    NotRunningError,
    PermissionRefusedError,
    UsageError,
)
from meshd.lab import record as records
from meshd.lab.rates import Bucket, bucket_of
from meshd.lab.record import FOLDER, Record
from meshd.lab.tools import call, ip, ip_json, tc, tc_json

MOST_HOSTS = 200
NETWORK = "10.77.0.0/24"
HOST_INTERFACE = "eth0"
PREFIX_RULE = "a prefix is 1 to 20 letters, digits or dashes, a letter first"


@dataclass(frozen=True)
class HostState:
    """One host as it is now. `group`: index of its bridge.

    Bytes are whole Ethernet frames since the lab is up, counted by the link's two buckets: the
    interface's own counters take a packet of 64 KiB that is yet to be cut for one frame.
    """

    name: str
    namespace: str
    address: str
    rate: int
    link_up: bool
    group: int
    sent_bytes: int
    received_bytes: int
    dropped_packets: int
    processes: list[int]


class Lab:
    """A lab that is up. Make one with `up`, find one with `find`; `down` ends it."""

    def __init__(self, record: Record, folder: Path) -> None:
        self._record = record
        self._folder = folder

    @classmethod
    def up(cls, hosts: int, rate: int, prefix: str = "lab", folder: Path = FOLDER) -> Lab:
        """Make `hosts` hosts, h1 to hN, at `rate` bits per second each way.

        Raises:
            UsageError: not a number of hosts, or not a prefix.
            PermissionRefusedError: not root, or namespaces are not allowed.
            NotConfiguredError: `ip` or `tc` is missing.
            FailureError: such a lab is up, or the kernel lacks a part; nothing is left behind.
        """
        if not 1 <= hosts <= MOST_HOSTS:
            raise UsageError(f"{hosts} hosts: a lab has 1 to {MOST_HOSTS}")
        check_prefix(prefix)
        bucket = bucket_of(rate)
        if os.geteuid() != 0:
            raise PermissionRefusedError("a lab needs root: it makes network namespaces")
        names = [f"h{number}" for number in range(1, hosts + 1)]
        lab = cls(Record(prefix, names, groups=[names]), folder)
        records.reserve(folder, lab._record)
        try:
            lab._build(bucket)
        except BaseException:
            lab.down(kill=True)
            raise
        return lab

    @classmethod
    def find(cls, prefix: str = "lab", folder: Path = FOLDER) -> Lab:
        """The lab of that name.

        Raises:
            NotRunningError: there is none.
        """
        check_prefix(prefix)
        return cls(records.load(folder, prefix), folder)

    @property
    def hosts(self) -> list[str]:
        """Their names."""
        return list(self._record.hosts)

    def namespace(self, host: str) -> str:
        """The network namespace of a host.

        Raises:
            UsageError: the lab has no such host.
        """
        self._number(host)
        return f"{self._record.prefix}-{host}"

    def address(self, host: str) -> str:
        """A host's IPv4 address."""
        return f"10.77.0.{self._number(host)}"

    def command(self, host: str, command: Sequence[str]) -> list[str]:
        """The argument list that runs `command` in a host; the process is the command itself."""
        return ["ip", "netns", "exec", self.namespace(host), *command]

    def set_link(self, host: str, up: bool) -> None:
        """Put the cable in, or pull it."""
        self._number(host)
        ip(self._switch, "link", "set", host, "up" if up else "down")

    def set_rate(self, host: str, rate: int) -> None:
        """Limit a host's link, both ways, to so many bits per second."""
        bucket = bucket_of(rate)
        arguments, packet = bucket.arguments(), str(bucket.packet_bytes)
        ip(self.namespace(host), "link", "set", HOST_INTERFACE, "gso_max_size", packet)
        tc(self.namespace(host), "qdisc", "replace", "dev", HOST_INTERFACE, "root", *arguments)
        tc(self._switch, "qdisc", "replace", "dev", host, "root", *arguments)

    def partition(self, groups: Sequence[Sequence[str]]) -> None:
        """Let hosts of different groups not hear each other. Whoever is not named is with the
        others that are not.

        Raises:
            UsageError: a host is unknown or in two groups.
        """
        named = [host for group in groups for host in group]
        for host in named:
            self._number(host)
            if named.count(host) > 1:
                raise UsageError(f"{host} is in two groups")
        rest = [host for host in self._record.hosts if host not in named]
        self._group([list(group) for group in [*groups, rest] if group])

    def heal(self) -> None:
        """One switch for all again. Cables that are pulled stay so."""
        self._group([self.hosts])

    def status(self) -> list[HostState]:
        """All hosts as they are now.

        Raises:
            NotRunningError: the lab was not taken up to the end.
        """
        if self._record.namespaces[:1] != [self._switch]:
            raise NotRunningError(f"the lab {self._record.prefix} is not complete; `lab down`")
        ports = {one["ifname"]: one for one in ip_json(self._switch, "link", "show")}
        queues = {one["dev"]: one for one in tc_json(self._switch, "qdisc", "show")}
        states = []
        for host in self._record.hosts:
            (queue,) = tc_json(self.namespace(host), "qdisc", "show", "dev", HOST_INTERFACE)
            groups = [host in group for group in self._record.groups]
            states.append(
                HostState(
                    host,
                    self.namespace(host),
                    self.address(host),
                    queue["options"]["rate"] * 8,
                    "UP" in ports[host]["flags"],
                    groups.index(True),
                    queue["bytes"],
                    queues[host]["bytes"],
                    queue["drops"] + queues[host]["drops"],
                    self.processes(host),
                )
            )
        return states

    def processes(self, host: str) -> list[int]:
        """Ids of the processes that run in a host."""
        return _processes(self.namespace(host))

    def down(self, kill: bool = False) -> None:
        """Remove what the lab has made, and only that; also what is left of an unfinished one.

        kill: end what runs in its hosts (SIGKILL) rather than refuse.

        Raises:
            FailureError: processes still run in a host, and are not to be killed.
        """
        there = _namespaces() if self._record.namespaces else set()
        mine = [name for name in self._record.namespaces if name in there]
        running = {name: pids for name in mine if (pids := _processes(name))}
        if running and not kill:
            words = ", ".join(f"{name}: {' '.join(map(str, p))}" for name, p in running.items())
            raise FailureError(f"processes still run ({words}); end them, or `lab down --kill`")
        for pid in (pid for pids in running.values() for pid in pids):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        # Links first: they would live on with a namespace that a process holds.
        if self._switch in mine:
            for port in ip_json(self._switch, "link", "show", "type", "veth"):
                ip(self._switch, "link", "delete", port["ifname"])
        for name in reversed(mine):
            call(["ip", "netns", "delete", name])
        records.forget(self._folder, self._record.prefix)

    @property
    def _switch(self) -> str:
        return f"{self._record.prefix}-switch"

    def _number(self, host: str) -> int:
        try:
            return self._record.hosts.index(host) + 1
        except ValueError:
            raise UsageError(
                f"no host {host!r}; this lab has {self._record.hosts[0]}"
                f" to {self._record.hosts[-1]}"
            ) from None

    def _build(self, bucket: Bucket) -> None:
        self._add_namespace(self._switch)
        self._add_bridge(0)
        for host in self._record.hosts:
            self._add_namespace(self.namespace(host))
            self._add_host(host, bucket)

    def _add_namespace(self, name: str) -> None:
        if name in _namespaces():
            raise FailureError(f"a network namespace {name} exists; take another --prefix")
        self._record.namespaces.append(name)
        records.save(self._folder, self._record)
        try:
            call(["ip", "netns", "add", name])
        except BaseException:
            self._record.namespaces.remove(name)
            raise
        ip(name, "link", "set", "lo", "up")

    def _add_bridge(self, number: int) -> None:
        # A frame for a group of receivers goes to every port, as mDNS needs it.
        options = ["stp_state", "0", "forward_delay", "0", "mcast_snooping", "0"]
        ip(self._switch, "link", "add", f"br{number}", "type", "bridge", *options)
        ip(self._switch, "link", "set", f"br{number}", "up")

    def _add_host(self, host: str, bucket: Bucket) -> None:
        home, address = self.namespace(host), self.address(host)
        end = ["type", "veth", "peer", "name", HOST_INTERFACE, "netns", home]
        ip(self._switch, "link", "add", host, *end)
        ip(self._switch, "link", "set", host, "master", "br0", "up")
        ip(home, "address", "add", f"{address}/24", "dev", HOST_INTERFACE, "noprefixroute")
        ip(home, "link", "set", HOST_INTERFACE, "up")
        way = ["dev", HOST_INTERFACE, "src", address]
        ip(home, "route", "add", NETWORK, *way, "congctl", "cubic")
        ip(home, "route", "add", "224.0.0.0/4", *way)
        self.set_rate(host, bucket.rate)

    def _group(self, groups: list[list[str]]) -> None:
        have = {one["ifname"] for one in ip_json(self._switch, "link", "show", "type", "bridge")}
        self._record.groups = groups
        records.save(self._folder, self._record)
        for number, group in enumerate(groups):
            if f"br{number}" not in have:
                self._add_bridge(number)
            for host in group:
                ip(self._switch, "link", "set", host, "master", f"br{number}")
        for bridge in sorted(have):
            if int(bridge.removeprefix("br")) >= len(groups):
                ip(self._switch, "link", "delete", bridge)


def check_prefix(prefix: str) -> None:
    """UsageError unless a namespace's name may begin so."""
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,19}", prefix) is None:
        raise UsageError(f"{prefix!r}: {PREFIX_RULE}")


def unavailable(prefix: str = "lab-try", folder: Path = FOLDER) -> str | None:
    """Why no lab can be had here, in a sentence; None where one can. Found out by making one."""
    try:
        Lab.up(1, 1_000_000, f"{prefix}-{os.getpid()}", folder).down(kill=True)
    except MeshdError as error:
        return str(error)
    return None


def _namespaces() -> set[str]:
    return {line.split()[0] for line in call(["ip", "netns", "list"]).splitlines() if line.strip()}


def _processes(namespace: str) -> list[int]:
    return [int(word) for word in call(["ip", "netns", "pids", namespace]).split()]
