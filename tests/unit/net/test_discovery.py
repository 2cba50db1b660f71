"""Discovery over real multicast on loopback: several daemons share port 5353 of one machine."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import zmq
from zeroconf import IPVersion
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from meshd.core.errors import FailureError, UsageError
from meshd.core.types import MachineKey
from meshd.net.discovery import SERVICE, Discovery, Found

HOST = "127.0.0.1"


def new_key() -> MachineKey:
    return MachineKey(zmq.curve_keypair()[0].decode())


def daemon(name: str, port: int, host: str = HOST) -> Discovery:
    return Discovery(new_key(), name, host, port)


@asynccontextmanager
async def started(*all_of_them: Discovery) -> AsyncIterator[None]:
    await asyncio.gather(*(one.start() for one in all_of_them))
    try:
        yield
    finally:
        await asyncio.gather(*(one.close() for one in all_of_them))


async def others(one: Discovery, keys: set[MachineKey]) -> dict[MachineKey, Found]:
    """Receive until these were found; other meshes on this machine may be found as well."""
    found: dict[MachineKey, Found] = {}
    while not keys <= found.keys():
        new = await one.receive()
        found[new.key] = new
    return found


async def test_three_daemons_on_one_machine_find_each_other() -> None:
    three = [daemon("ada", 4001), daemon("bob", 4002), daemon("bob", 4003)]  # two of one name
    async with started(*three):
        for me in three:
            rest = [one for one in three if one is not me]
            found = await others(me, {one._key for one in rest})
            for one in rest:
                assert found[one._key] == Found(one._key, HOST, one._port, one._name)
            assert me._key not in found


async def test_a_restarted_daemon_is_found_at_its_new_port() -> None:
    ada, bob = daemon("ada", 4001), daemon("bob", 4002)
    async with started(ada):
        async with started(bob):
            assert (await others(ada, {bob._key}))[bob._key].port == 4002
        again = Discovery(bob._key, "bob", HOST, 4009)
        async with started(again):
            found = await ada.receive()
            while (found.key, found.port) != (bob._key, 4009):
                found = await ada.receive()


CHILD = """
import asyncio, sys
from meshd.net.discovery import Discovery
async def main():
    one = Discovery(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
    await one.start()
    wanted = set(sys.argv[5:])
    async for found in one.found():
        if found.key in wanted:
            print(found.name, found.host, found.port, flush=True)
            wanted.remove(found.key)
        if not wanted:
            break
    sys.stdin.read()
    await one.close()
asyncio.run(asyncio.wait_for(main(), 60))
"""


def in_two_processes(host: str) -> None:
    """Two processes that must find each other; each stays until both have."""
    keys = [new_key(), new_key()]
    children = []
    for i in range(2):
        arguments = [keys[i], f"m{i}", host, str(4000 + i), keys[1 - i]]
        command = [sys.executable, "-c", CHILD, *arguments]
        pipe = subprocess.PIPE
        children.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True))
    try:
        for i, child in enumerate(children):
            assert child.stdout is not None
            name, _, port = child.stdout.readline().split()
            assert (name, port) == (f"m{1 - i}", str(4001 - i))
    finally:
        for child in children:
            child.communicate(timeout=30)


def test_two_processes_find_each_other() -> None:
    in_two_processes(HOST)


def can_make_a_namespace() -> bool:
    if not (shutil.which("unshare") and shutil.which("ip")):
        return False
    try_it = ["unshare", "--user", "--map-root-user", "--net", "ip", "link", "set", "lo", "up"]
    return subprocess.run(try_it, capture_output=True).returncode == 0


@pytest.mark.skipif(not can_make_a_namespace(), reason="network namespaces are not allowed here")
@pytest.mark.parametrize("host", [HOST, "0.0.0.0"])
def test_with_loopback_alone(host: str) -> None:
    """A machine without any network: only lo is up."""
    code = (
        "import runpy, sys; module = runpy.run_path(sys.argv[1]);"
        " module['in_two_processes'](sys.argv[2])"
    )
    inside = f'ip link set lo up && exec {sys.executable} -c "$0" "$@"'
    subprocess.run(
        ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", inside, code, __file__, host],
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )


@pytest.mark.skipif(not can_make_a_namespace(), reason="network namespaces are not allowed here")
def test_without_any_interface_it_is_one_line() -> None:
    code = (
        "import asyncio\nfrom meshd.net.discovery import Discovery\n"
        "asyncio.run(Discovery('k' * 40, 'ada', '0.0.0.0', 1).start())"
    )
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    assert done.stderr.splitlines()[-1].endswith("--peer"), done.stderr


GOOD: dict[str, Any] = {"v": "1", "name": "eve", "key": "k" * 40}
MALFORMED: dict[str, tuple[dict[Any, Any], str]] = {
    "nothing": ({}, "no-version"),
    "no version": ({"name": "eve", "key": "k" * 40}, "no-version"),
    "odd version": (GOOD | {"v": "one"}, "no-version"),
    "no key": ({"v": "1", "name": "eve"}, "bad-identity"),
    "short key": (GOOD | {"key": "k" * 39}, "bad-identity"),
    "a name for the terminal": (GOOD | {"name": "\x1b[2J"}, "bad-identity"),
    "a name that is none": (GOOD | {"name": ""}, "bad-identity"),
    "not text": (GOOD | {"name": b"\xff\xfe"}, "unreadable"),
    "keys not text": ({b"\xff": b"\xff"} | GOOD, "unreadable"),
}


async def test_malformed_services_are_ignored_and_the_browser_lives(net_log: Any) -> None:
    ada, bob = daemon("ada", 4001), daemon("bob", 4002)
    other = AsyncZeroconf(interfaces=[HOST], ip_version=IPVersion.V4Only)
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    print("seed", seed)
    async with started(ada):
        expected = [(reason, properties) for properties, reason in MALFORMED.values()]
        expected.append(("no-address", GOOD))
        infos = []
        for number, (reason, properties) in enumerate(expected):
            address = "0.0.0.0" if reason == "no-address" else HOST
            info = AsyncServiceInfo(
                SERVICE,
                f"odd {number} \u202e\xe9 {chance.randrange(2**32)}.{SERVICE}",
                port=9,
                properties=properties,
                server=f"odd{number}-{chance.randrange(2**32)}.local.",
                parsed_addresses=[address],
            )
            infos.append(info)
        announced = await asyncio.gather(*map(other.async_register_service, infos))
        await asyncio.gather(*announced)
        flood(chance)
        async with started(bob):
            found = await others(ada, {bob._key})
            assert found[bob._key].name == "bob"
            assert MachineKey("k" * 40) not in found
        for number, (reason, _) in enumerate(expected):
            line = await net_log.wait_for(f"ignored 'odd {number} ")
            assert line.endswith(f": {reason}"), line
    await other.async_close()


def flood(chance: random.Random) -> None:
    """Bytes that are no DNS at all, and some that begin as an answer, to the mDNS group."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(HOST))
        for size in (0, 1, 11, 12, 13, 100, 1400):
            for head in (b"", b"\0\0\x84\0\0\0\0\x09\0\0\0\0"):
                link.sendto(head + chance.randbytes(size), ("224.0.0.251", 5353))


async def test_an_interface_that_is_not_there_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no interface nonesuch0"):
        await Discovery(new_key(), "ada", HOST, 1, ("nonesuch0",)).start()


async def test_no_multicast_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise OSError(19, "No such device")

    monkeypatch.setattr("meshd.net.discovery.AsyncZeroconf", refuse)
    one = daemon("ada", 1)
    with pytest.raises(FailureError, match="--peer"):
        await one.start()
    await one.close()
    await one.close()


async def test_only_what_anybody_may_know_is_announced() -> None:
    one = Discovery(new_key(), "a" * 63, "0.0.0.0", 4001)
    info = one._info()
    assert info.properties.keys() == {b"v", b"name", b"key"}
    assert len(info.name.removesuffix("." + SERVICE).encode()) <= 63
