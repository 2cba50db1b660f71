"""Which interfaces and addresses are used."""

from __future__ import annotations

from collections.abc import Sequence

import ifaddr
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.errors import UsageError
from meshd.net.interfaces import LOOPBACK, choose, machine_addresses


def adapter(name: str, *addresses: str) -> ifaddr.Adapter:
    ips = [ifaddr.IP(address, 24, name) for address in addresses]
    six = ifaddr.IP(("fe80::1", 0, 0), 64, name)
    return ifaddr.Adapter(name, name, [*ips, six])


def having(monkeypatch: pytest.MonkeyPatch, adapters: Sequence[ifaddr.Adapter]) -> None:
    monkeypatch.setattr("meshd.net.interfaces.ifaddr.get_adapters", lambda: adapters)


OFFICE = [
    adapter("lo", "127.0.0.1"),
    adapter("eno1", "192.0.2.10"),
    adapter("wlp3s0", "198.51.100.7"),
    adapter("docker0", "172.17.0.1"),
    adapter("br-3f2a", "172.18.0.1"),
    adapter("veth12ab", "172.19.0.1"),
    adapter("virbr0", "192.168.122.1"),
    adapter("tun0", "10.8.0.2"),
    adapter("tap0", "10.9.0.2"),
    adapter("wg0", "10.7.0.2"),
    adapter("tailscale0", "100.64.0.5"),
]


def test_virtual_interfaces_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    having(monkeypatch, OFFICE)
    assert machine_addresses() == ["192.0.2.10", "198.51.100.7", LOOPBACK]


def test_unless_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    having(monkeypatch, OFFICE)
    assert machine_addresses(("wg0",)) == ["10.7.0.2", LOOPBACK]


def test_an_unknown_interface_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    having(monkeypatch, OFFICE)
    with pytest.raises(UsageError, match="no interface eth9 here; there are br-3f2a"):
        machine_addresses(("eth9",))


def test_an_interface_without_an_address_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    having(monkeypatch, [*OFFICE, adapter("eno2")])
    with pytest.raises(UsageError, match="eno2 has no IPv4 address"):
        machine_addresses(("eno2",))


def test_loopback_is_there_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    having(monkeypatch, [adapter("lo", "127.0.0.1")])
    assert machine_addresses() == [LOOPBACK]
    having(monkeypatch, [])
    assert machine_addresses() == [LOOPBACK]


def test_this_machine_has_addresses() -> None:
    assert machine_addresses()[-1] == LOOPBACK


def test_the_nearest_address_is_chosen() -> None:
    own = ["192.0.2.10", LOOPBACK]
    assert choose(["127.0.0.1", "10.0.0.5", "192.0.2.77"], own) == "192.0.2.77"
    assert choose(["127.0.0.1", "10.0.0.5"], own) == "10.0.0.5"
    assert choose(["127.0.0.1", "2001:db8::1"], own) == "2001:db8::1"
    assert choose(["127.0.0.1"], own) == "127.0.0.1"
    assert choose([], own) is None


@given(st.lists(st.ip_addresses().map(str), min_size=1), st.randoms(use_true_random=False))
def test_the_choice_depends_on_no_order(addresses: list[str], chance: object) -> None:
    shuffled = sorted(addresses, key=lambda _: chance.random())  # type: ignore[attr-defined]
    assert choose(addresses, ["192.0.2.1"]) == choose(shuffled, ["192.0.2.1"])
