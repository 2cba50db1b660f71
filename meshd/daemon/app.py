"""Wiring only: builds the parts of a daemon, starts them in order, and ends them in reverse.

Order matters at two points: nothing listens before the authenticator runs (meshd.net.control), and
the node takes over its records before the first message.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import signal
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meshd import __version__
from meshd.core.errors import FailureError, MeshdError
from meshd.core.node import Node
from meshd.core.relay import LEAVE_S
from meshd.core.site import Identity
from meshd.core.types import MachineKey
from meshd.daemon import clock
from meshd.daemon.blobs import CACHE_BYTES, BlobStore
from meshd.daemon.disk import Disk
from meshd.daemon.driver import Driver
from meshd.daemon.fetcher import Fetcher
from meshd.daemon.local_api import LocalApi
from meshd.daemon.state import StateFolder, open_state
from meshd.daemon.supervisor import Supervisor, WorkerSettings
from meshd.net.control import ControlLinks
from meshd.net.discovery import WILDCARDS, Discovery, Found
from meshd.net.interfaces import machine_addresses
from meshd.net.keys import KeyPair, load_or_create_keys
from meshd.net.local import SOCKET_NAME
from meshd.net.local_server import LocalServer
from meshd.net.roster import ROSTER_FILE, RosterFile
from meshd.wire.limits import PROTOCOL

log = logging.getLogger(__name__)

DEFAULT_PORT = 7419
"""One fixed port, so that a firewall needs one rule; not assigned by IANA."""


LEAVE_MARGIN_S = 0.5
"""Beyond `LEAVE_S`, for a machine that is busy: the daemon ends all the same."""


@dataclass(frozen=True)
class Options:
    """A daemon's command line."""

    state: Path
    name: str | None = None
    host: str = "0.0.0.0"  # noqa: S104 - only handshakes with keys on the roster get in
    port: int = DEFAULT_PORT
    threads: int = 1
    peers: tuple[Found, ...] = ()
    mdns: bool = True
    cache_bytes: int = CACHE_BYTES
    worker: tuple[str, ...] = field(default_factory=lambda: WorkerSettings.command)
    """The worker's program, so that tests can put a failing one in its place."""


class App:
    """One daemon from start to end."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._ended = asyncio.Event()
        self._why = "was shut down"
        self._failure: MeshdError | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._driver: Driver | None = None
        """Once it serves, until it ends."""

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT.

        Raises:
            MeshdError: it could not start, or could not go on.
        """
        state = open_state(self._options.state)
        try:
            await self._run_in(state)
        finally:
            state.close()
        if self._failure is not None:
            raise self._failure

    def _link_changed(self, key: MachineKey, is_up: bool) -> None:
        """Later: it may be the driver itself that just opened the link."""
        if self._driver is not None:
            asyncio.get_running_loop().call_soon(self._tell_link, key, is_up)

    def _tell_link(self, key: MachineKey, is_up: bool) -> None:
        if self._driver is not None:
            self._driver.link_changed(key, is_up)

    async def _run_in(self, state: StateFolder) -> None:
        options = self._options
        name = state.name(options.name)
        keys = load_or_create_keys(state.path)
        roster = RosterFile(state.path / ROSTER_FILE)
        links = ControlLinks(keys, roster, options.host, options.port, self._link_changed)
        disk = Disk()
        await links.start()
        try:
            driver = self._build(state, name, keys, links, roster, disk)
            server = LocalServer(state.path / SOCKET_NAME, LocalApi(driver).handle)
            await server.start()
            try:
                await self._serve(driver, keys, name)
            finally:
                await server.close()
                await self._end(driver)
        finally:
            await links.close()
            disk.close()

    def _build(
        self,
        state: StateFolder,
        name: str,
        keys: KeyPair,
        links: ControlLinks,
        roster: RosterFile,
        disk: Disk,
    ) -> Driver:
        options = self._options
        me = Identity(
            key=keys.public,
            name=name,
            host=_reachable(options.host),
            port=links.port,
            boot=clock.boot_number(),
            version=__version__,
            protocol=PROTOCOL,
            unable=_unable(),
        )
        node = Node(me, clock.now())
        driver = Driver(node, links, roster, state, disk)
        store = BlobStore(state.blobs, options.cache_bytes)
        store.scan()
        state.clear_scratch()
        fetcher = Fetcher(store, links.send, node.site.name)

        def on_event(job: Any, generation: Any, event: object) -> None:
            with driver.feeding() as now:
                node.worker_event(job, generation, event, now)

        def write_log(job: Any, text: str) -> None:
            disk.later(state.append_log, job, text)

        settings = WorkerSettings(keys.public, options.host, options.threads, options.worker)
        driver.attach(store, fetcher, Supervisor(state, store, settings, on_event, write_log))
        with driver.feeding() as now:
            node.restore(state.records(), now)
        return driver

    async def _serve(self, driver: Driver, keys: KeyPair, name: str) -> None:
        """Everything is built: go, until it ends."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ended.set)
        driver.on_defect = self._fail
        driver.start()
        self._driver = driver
        self._spawn(driver.receive_messages())
        for peer in self._options.peers:
            driver.seen(peer)
        if self._options.mdns:
            self._spawn(self._discover(driver, keys.public, name))
        links = driver.links
        print(f"ready: {name} listens on {links.host}, port {links.port}", flush=True)
        log.info("%s listens on %s, port %d; key %s", name, links.host, links.port, keys.public)
        await self._ended.wait()

    async def _discover(self, driver: Driver, key: MachineKey, name: str) -> None:
        """Announce and browse; a machine that cannot multicast still has its static peers."""
        discovery = Discovery(key, name, self._options.host, driver.links.port)
        try:
            await discovery.start()
            while True:
                driver.seen(await discovery.receive())
        except FailureError as error:
            log.warning("%s", error)
        finally:
            await discovery.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run beside; a failure of it ends the daemon."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """End the daemon with this error; the first one counts."""
        if self._failure is not None:
            return
        known = isinstance(error, MeshdError)
        log.error("%s", error, exc_info=None if known else error)
        self._failure = error if isinstance(error, MeshdError) else _defect(error)
        self._why = "ended with an error"
        self._ended.set()

    async def _end(self, driver: Driver) -> None:
        """Hand over and say goodbye while the links are up, then stop what runs. What failed once
        fails again: then there is nothing to hand over with."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(LEAVE_S + LEAVE_MARGIN_S):
                await driver.leave(self._why)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._driver = None
        await driver.close()
        await driver.supervisor.close()
        await driver.disk.flush()


def _reachable(host: str) -> str:
    """The address that others are told: the one we listen on, or of a wildcard the best one."""
    return machine_addresses()[0] if host in WILDCARDS else host


def _unable() -> str:
    """Why this machine cannot train; found without loading anything."""
    for library in ("torch", "numpy", "safetensors"):
        if importlib.util.find_spec(library) is None:
            return f"has no {library} installed"
    return ""


def _defect(error: BaseException) -> FailureError:
    return FailureError(f"internal error ({type(error).__name__}: {error}); see the lines above")
