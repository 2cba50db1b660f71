"""The lab itself: hosts hear whom they should and nobody else, links have their rate, all ends.

That a datagram does not arrive is known without waiting: a second one, of a host that is heard, is
sent after it, and the listener stops there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd.core.errors import FailureError, NotRunningError
from meshd.lab.command import main
from meshd.lab.network import Lab
from meshd.lab.rates import bucket_of
from meshd.lab.tools import call, ip_json, tc_json

LIMIT_S = 60
PORT = 5353
GROUP = "224.0.0.251"  # mDNS (RFC 6762)

LISTEN = """
import json, socket, sys
group, mine = sys.argv[1:]
listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
listener.settimeout(60)
listener.bind(("", 5353))
member = socket.inet_aton(group) + socket.inet_aton(mine)
listener.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
print("ready", flush=True)
heard = []
while not heard or heard[-1] != "end":
    heard.append(listener.recv(64).decode())
print(json.dumps(heard))
"""
SAY = """
import socket, sys
word, *targets = sys.argv[1:]
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
for target in targets:
    sender.sendto(word.encode(), (target, 5353))
"""
SERVE = """
import socket
server = socket.create_server(("", 5000))
server.settimeout(60)
print("ready", flush=True)
link, _ = server.accept()
link.settimeout(60)
count = 0
while data := link.recv(1 << 16):
    count += len(data)
print(count)
"""
SEND = """
import socket, sys
with socket.create_connection((sys.argv[1], 5000), 60) as link:
    link.sendall(bytes(int(sys.argv[2])))
"""


def start(lab: Lab, host: str, program: str, *arguments: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-I", "-S", "-c", program, *arguments]
    return subprocess.Popen(lab.command(host, words), stdout=subprocess.PIPE, text=True)


def run(lab: Lab, host: str, program: str, *arguments: str) -> None:
    with start(lab, host, program, *arguments) as process:
        assert process.wait(LIMIT_S) == 0


def ready(process: subprocess.Popen[str]) -> subprocess.Popen[str]:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def heard(lab: Lab, listener: str, sayings: list[tuple[str, str]]) -> list[str]:
    """What `listener` hears of (host, word), said one after the other to all; the last is `end`."""
    with ready(start(lab, listener, LISTEN, GROUP, lab.address(listener))) as process:
        for host, word in sayings:
            run(lab, host, SAY, word, "10.77.0.255", GROUP)
        out, _ = process.communicate(timeout=LIMIT_S)
    return json.loads(out)


@pytest.fixture(scope="module")
def lab(make_lab) -> Lab:
    return make_lab(4)


@pytest.fixture
def healed(lab: Lab) -> Iterator[Lab]:
    yield lab
    lab.heal()
    for host in lab.hosts:
        lab.set_link(host, True)


def test_everyone_hears_broadcast_and_multicast(lab: Lab) -> None:
    assert heard(lab, "h2", [("h1", "a"), ("h3", "b"), ("h4", "end")]) == [
        "a",
        "a",
        "b",
        "b",
        "end",
    ]


def test_a_pulled_cable_silences_and_a_plugged_one_does_not(healed: Lab) -> None:
    healed.set_link("h1", False)
    sight = healed.status()[0]
    assert not sight.link_up
    carrier = call(healed.command("h1", ["cat", "/sys/class/net/eth0/carrier"]))
    assert carrier == "0\n"
    assert heard(healed, "h2", [("h1", "a"), ("h3", "end")]) == ["end"]
    healed.set_link("h1", True)
    assert heard(healed, "h2", [("h1", "a"), ("h3", "end")]) == ["a", "a", "end"]


def test_a_partition_parts_and_heals(healed: Lab) -> None:
    healed.partition([["h1", "h2"], ["h3"]])
    assert [one.group for one in healed.status()] == [0, 0, 1, 2]
    assert heard(healed, "h2", [("h3", "a"), ("h4", "b"), ("h1", "end")]) == ["end"]
    healed.partition([["h1", "h3"]])
    assert heard(healed, "h2", [("h3", "a"), ("h1", "b"), ("h4", "end")]) == ["end"]
    assert heard(healed, "h3", [("h4", "a"), ("h1", "end")]) == ["end"]
    healed.heal()
    assert [one.group for one in healed.status()] == [0] * 4
    assert heard(healed, "h2", [("h3", "a"), ("h4", "end")]) == ["a", "a", "end"]


def test_no_byte_is_faster_than_the_link(make_lab) -> None:
    """A bound that a slow machine cannot break: what is counted took at least its time."""
    rate, size = 4_000_000, 250_000
    lab = make_lab(2, rate)
    with ready(start(lab, "h2", SERVE)) as server:
        sending = start(lab, "h1", SEND, lab.address("h2"), str(size))
        began = time.monotonic()
        out, _ = server.communicate(timeout=LIMIT_S)
        took = time.monotonic() - began
        assert sending.wait(LIMIT_S) == 0
        sending.communicate()
    assert int(out) == size
    bucket = bucket_of(rate)
    # What fits into the first link's bucket may have left before the clock started.
    assert took >= (size - 2 * bucket.burst_bytes) * 8 / rate
    # Every frame of 1448 bytes at most has 66 of headers; what is sent twice is little.
    assert size + 66 * (size // 1448) <= lab.status()[0].sent_bytes <= 1.2 * size


def test_both_ways_of_every_link_are_limited(lab: Lab) -> None:
    lab.set_rate("h3", 10_000_000)
    switch = lab.namespace("h1").removesuffix("h1") + "switch"
    for host in lab.hosts:
        rate = 10_000_000 if host == "h3" else 100_000_000
        ends = [(lab.namespace(host), "eth0"), (switch, host)]
        for namespace, device in ends:
            (queue,) = tc_json(namespace, "qdisc", "show", "dev", device)
            assert (queue["kind"], queue["options"]["rate"] * 8) == ("tbf", rate)
    assert [one.rate for one in lab.status()].count(10_000_000) == 1
    lab.set_rate("h3", 100_000_000)


def test_down_leaves_nothing_and_touches_nothing_else(make_lab, tmp_path: Path) -> None:
    folder = tmp_path / "labs"
    other = make_lab(1)
    links, spaces = call(["ip", "-o", "link"]), call(["ip", "netns", "list"])
    prefix = f"d{os.getpid()}"
    lab = Lab.up(2, 1_000_000, prefix, folder)
    assert call(["ip", "-o", "link"]) == links
    with ready(start(lab, "h1", LISTEN, GROUP, lab.address("h1"))) as process:
        assert lab.processes("h1") == [process.pid]
        with pytest.raises(FailureError, match=str(process.pid)):
            lab.down()
        lab.down(kill=True)
        assert process.wait(LIMIT_S) != 0
    assert (call(["ip", "-o", "link"]), call(["ip", "netns", "list"])) == (links, spaces)
    assert not folder.exists()
    with pytest.raises(NotRunningError):
        Lab.find(prefix, folder)
    assert other.status()[0].link_up
    assert main(["--prefix", prefix, "--state", str(folder), "down"]) == 0


def test_a_namespace_of_somebody_else_is_left_alone(make_lab, tmp_path: Path) -> None:
    folder = tmp_path / "labs"
    make_lab(1)  # skips where there are none
    prefix = f"s{os.getpid()}"
    theirs = f"{prefix}-h2"
    call(["ip", "netns", "add", theirs])
    try:
        before = call(["ip", "netns", "list"])
        with pytest.raises(FailureError, match=theirs):
            Lab.up(3, 1_000_000, prefix, folder)
        assert call(["ip", "netns", "list"]) == before
        assert [one["ifname"] for one in ip_json(theirs, "link", "show")] == ["lo"]
        assert not folder.exists()
    finally:
        call(["ip", "netns", "delete", theirs])


def test_one_name_is_one_lab(make_lab, tmp_path: Path) -> None:
    make_lab(1)
    prefix = f"u{os.getpid()}"
    lab = Lab.up(1, 1_000_000, prefix, tmp_path)
    try:
        with pytest.raises(FailureError, match="is up"):
            Lab.up(1, 1_000_000, prefix, tmp_path)
        assert Lab.find(prefix, tmp_path).status()[0].link_up
    finally:
        lab.down()
