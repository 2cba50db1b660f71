"""Which of this machine's addresses to announce and browse on.

All interfaces is mDNS libraries' default and the source of most reports against LAN systems:
container bridges that loop packets, VPNs, addresses that nobody else can reach. So what belongs to
containers, virtual machines and tunnels is left out unless it is asked for by name, and loopback
is always in: daemons on one machine find each other, with or without a network.
"""

from __future__ import annotations

import ipaddress
import re

import ifaddr

from meshd.core.errors import UsageError

LOOPBACK = "127.0.0.1"

_VIRTUAL = re.compile(
    r"(docker|br-|veth|virbr|vnet|vmnet|vboxnet|lxc|lxdbr|podman|cni|flannel|cali|kube"
    r"|tun|tap|wg|ppp|tailscale|zt|utun)"
)
"""How interfaces of containers, virtual machines and tunnels are called; from their projects'
defaults."""


def machine_addresses(asked: tuple[str, ...] = ()) -> list[str]:
    """This machine's IPv4 addresses to meet others on; loopback is the last, and always there.

    Args:
        asked: interface names; empty chooses all that are not virtual.

    Raises:
        UsageError: an interface that was asked for does not exist or has no IPv4 address.
    """
    adapters = list(ifaddr.get_adapters())
    if not asked:
        asked = tuple(a.nice_name for a in adapters if not _VIRTUAL.match(a.nice_name))
        return [*_addresses(adapters, asked), LOOPBACK]
    have = sorted(a.nice_name for a in adapters)
    for name in asked:
        if name not in have:
            raise UsageError(f"no interface {name} here; there are {', '.join(have)}")
        if not _addresses(adapters, (name,)):
            raise UsageError(f"interface {name} has no IPv4 address that others could reach")
    return [*_addresses(adapters, asked), LOOPBACK]


def _addresses(adapters: list[ifaddr.Adapter], names: tuple[str, ...]) -> list[str]:
    """IPv4 addresses of these interfaces, without loopback, sorted."""
    ips = [ip for adapter in adapters if adapter.nice_name in names for ip in adapter.ips]
    return sorted({str(ip.ip) for ip in ips if ip.is_IPv4 and usable(str(ip.ip))})


def usable(address: str) -> bool:
    """Whether another machine could connect to an IPv4 address; loopback is added elsewhere."""
    ip = ipaddress.ip_address(address)
    return not (ip.is_loopback or ip.is_unspecified or ip.is_multicast)


def choose(addresses: list[str], own: list[str]) -> str | None:
    """Which of a peer's announced addresses to connect to; None if there is none.

    An address in one of our own networks first (the first three bytes stand for the network: the
    announcement has no mask), then any other, and loopback last: it is right only for a daemon on
    this machine, whose other addresses would do as well.
    """

    def rank(address: str) -> tuple[int, str]:
        if ipaddress.ip_address(address).is_loopback:
            return 2, address
        near = any(address.split(".")[:3] == mine.split(".")[:3] for mine in own)
        return (0 if near else 1), address

    return min(addresses, key=rank, default=None)
