"""Finding each other by mDNS (RFC 6762) and DNS-SD (RFC 6763): announce, browse, "perhaps there".

Service `_meshd._tcp.local.`, one instance a daemon. Its TXT record says what anybody on the LAN may
know: v (protocol), name, key (public, z85). Nothing that is found is trusted: only a CURVE
handshake with a key on the roster makes a peer, so a false announcement costs one failed
connection.

The instance's name carries a hash of the key, so two machines of one name do not fight over it.
Whatever another program announces under our type, it is one ignored entry: a browser here never
dies of a record.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import socket
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

from zeroconf import Error as ZeroconfError
from zeroconf import IPVersion, ServiceInfo, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from meshd.core.errors import FailureError
from meshd.core.types import MachineKey
from meshd.net.interfaces import LOOPBACK, choose, machine_addresses
from meshd.net.keys import is_key
from meshd.net.roster import is_name
from meshd.wire.limits import PROTOCOL

log = logging.getLogger(__name__)

SERVICE = "_meshd._tcp.local."
RESOLVE_MS = 3_000
"""For the answers to a found instance's SRV, TXT and A questions."""

RETRY_S = (5.0, 20.0, 60.0)
"""Pauses before asking again an instance that did not answer."""

MAX_RESOLVING = 8
"""Instances asked about at once: a storm of announcements becomes a queue."""

MAX_INSTANCES = 1024
"""Instance names remembered, and finds that wait. More on one LAN is a flood, and is ignored."""

WILDCARDS = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - recognised, not bound


@dataclass(frozen=True)
class Found:
    """A daemon that says it is there. Nothing of it is proved."""

    key: MachineKey
    host: str
    port: int
    name: str


class Discovery:
    """Announces this daemon and browses for others, on all suitable interfaces and loopback."""

    def __init__(
        self,
        key: MachineKey,
        name: str,
        host: str,
        port: int,
        interfaces: tuple[str, ...] = (),
    ) -> None:
        """Nothing is sent before `start`.

        Args:
            key: our public key.
            name: our machine's name.
            host: where the control links listen: an address is announced alone, a wildcard as
                all suitable addresses.
            port: where the control links listen.
            interfaces: names of the interfaces to use; empty chooses (see `net.interfaces`).
        """
        self.ignored: Counter[str] = Counter()
        """Announcements that were not used, by reason."""
        self._key = key
        self._name = name
        self._host = host
        self._port = port
        self._interfaces = interfaces
        self._own: list[str] = []
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._found: asyncio.Queue[Found] = asyncio.Queue(MAX_INSTANCES)
        self._resolving: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._slots = asyncio.Semaphore(MAX_RESOLVING)

    async def start(self) -> None:
        """Announce and browse. Probing for the name takes most of a second (RFC 6762, 8.1).

        Raises:
            FailureError: this machine cannot do multicast at all; static peers work without.
            UsageError: an interface that was asked for is not there.
        """
        self._own = machine_addresses(self._interfaces)
        self._zeroconf = self._open()
        self._browser = AsyncServiceBrowser(
            self._zeroconf.zeroconf, SERVICE, handlers=[self._on_change]
        )
        try:
            # The name is not our identity: should it be taken, another one does as well.
            announced = await self._zeroconf.async_register_service(
                self._info(), allow_name_change=True
            )
            await announced
        except (ZeroconfError, OSError) as error:
            await self.close()
            raise FailureError(
                f"cannot announce by mDNS: {error or type(error).__name__}"
            ) from None

    def _open(self) -> AsyncZeroconf:
        """Sockets on the chosen addresses; if one of them cannot do multicast, on loopback."""
        wanted = [LOOPBACK] if self._host.startswith("127.") or self._host == "::1" else self._own
        for addresses in (wanted, [LOOPBACK]):
            try:
                return AsyncZeroconf(interfaces=addresses, ip_version=IPVersion.V4Only)
            except OSError as error:
                log.warning("mDNS on %s: %s", ", ".join(addresses), error)
        raise FailureError("cannot do multicast here; name the other machines with --peer")

    def _info(self) -> AsyncServiceInfo:
        tag = hashlib.blake2b(self._key.encode(), digest_size=6).hexdigest()
        label = f"{self._name[:40]}-{tag}"  # one DNS label: at most 63 bytes
        addresses = [self._host]
        if self._host in WILDCARDS:
            # Loopback is wrong for every other machine, and needless here where there is another.
            addresses = [a for a in self._own if a != LOOPBACK] or [LOOPBACK]
        return AsyncServiceInfo(
            SERVICE,
            f"{label}.{SERVICE}",
            port=self._port,
            properties={"v": str(PROTOCOL), "name": self._name, "key": self._key},
            server=f"meshd-{tag}.local.",
            parsed_addresses=addresses,
        )

    async def receive(self) -> Found:
        """The next daemon that was found or has changed its address; safe to cancel."""
        return await self._found.get()

    async def found(self) -> AsyncIterator[Found]:
        """All of them, without end."""
        while True:
            yield await self.receive()

    async def close(self) -> None:
        """Say goodbye on the network and stop. Twice is once."""
        tasks = list(self._resolving.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        browser, self._browser = self._browser, None
        if browser is not None:
            await browser.async_cancel()
        link, self._zeroconf = self._zeroconf, None
        if link is not None:
            with contextlib.suppress(ZeroconfError, OSError):
                await link.async_close()

    def _on_change(
        self,
        zeroconf: Zeroconf,
        service_type: str,
        name: str,
        state_change: ServiceStateChange,
    ) -> None:
        """The browser's callback, on the event loop. zeroconf calls it by these keyword names."""
        del service_type
        running = self._resolving.get(name)
        if state_change is ServiceStateChange.Removed:
            # Whether a peer is gone the control links know; a goodbye is not proved either.
            if running is not None and not running.done():
                running.cancel()
            self._resolving.pop(name, None)
        elif running is not None and not running.done():
            self._again.add(name)  # the answer that is on its way may be the old one
        elif running is None and len(self._resolving) >= MAX_INSTANCES:
            self.ignored["too-many"] += 1
        else:
            task = asyncio.get_running_loop().create_task(self._resolve(zeroconf, name))
            self._resolving[name] = task

    async def _resolve(self, zeroconf: Zeroconf, name: str) -> None:
        """Find out an instance's details and hand them on; ask again if nothing answers, since
        the browser reports an instance only once."""
        pauses = iter(RETRY_S)
        while True:
            self._again.discard(name)
            async with self._slots:
                outcome = await self._ask(zeroconf, name)
            if outcome == "no-answer" and (pause := next(pauses, None)) is not None:
                await asyncio.sleep(pause)
            elif name not in self._again:
                break
        if isinstance(outcome, str):
            self.ignored[outcome] += 1
            log.debug("mDNS: ignored %r: %s", name, outcome)
        elif outcome.key != self._key:
            if self._found.full():
                self.ignored["too-many"] += 1
            else:
                self._found.put_nowait(outcome)

    async def _ask(self, zeroconf: Zeroconf, name: str) -> Found | str:
        """An instance's details, or why it is ignored. Whatever it answers, nothing is raised: the
        names and records are anybody's, and libraries have met their match in them before."""
        try:
            info = AsyncServiceInfo(SERVICE, name)
            if not await info.async_request(zeroconf, RESOLVE_MS):
                return "no-answer"
            return self._read(info)
        except Exception as error:
            log.debug("mDNS: %r cannot be read: %s", name, error)
            return "unreadable"

    def _read(self, info: ServiceInfo) -> Found | str:
        """What an announcement says, or why it is ignored."""
        text = {
            key.decode(): value.decode()
            for key, value in info.properties.items()
            if value is not None
        }
        if not text.get("v", "").isdecimal():
            return "no-version"
        key, name = text.get("key", ""), text.get("name", "")
        if not is_key(key) or not is_name(name):
            return "bad-identity"
        addresses = [a for a in info.parsed_addresses() if _can_be_peer(a)]
        host = choose(addresses, self._own)
        if host is None or not info.port:
            return "no-address"
        return Found(MachineKey(key), host, info.port, name)


def _can_be_peer(address: str) -> bool:
    """An address that one can connect to; link-local IPv6 would need an interface."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            raw = socket.inet_pton(family, address)
            return any(raw) and not address.lower().startswith("fe80")
    return False
