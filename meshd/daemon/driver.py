"""The loop where the node meets clock, sockets and files: feed, drain, perform, re-arm one timer.

    an input ----> node ----> drain() ----> each effect performed, in order
                     ^                          |
                     +---- what came of it -----+      (blob held, worker said, timer due)

Everything runs on the event loop's thread; what takes long runs elsewhere and comes back as input.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

from meshd.core import effects as fx
from meshd.core.errors import LocalProtocolError, MeshdError
from meshd.core.messages import (
    Abort,
    CheckpointPart,
    Finished,
    Propose,
    Ready,
    Refuse,
)
from meshd.core.node import Node
from meshd.core.types import BlobId, MachineKey
from meshd.daemon import clock
from meshd.daemon.blobs import BlobStore
from meshd.daemon.disk import Disk
from meshd.daemon.fetcher import Fetcher
from meshd.daemon.state import StateFolder
from meshd.daemon.supervisor import Supervisor
from meshd.net.control import ControlLinks
from meshd.net.discovery import Found
from meshd.net.roster import ROSTER_FILE, RosterFile

log = logging.getLogger(__name__)

MATTERS = (Propose, Ready, Refuse, Abort, CheckpointPart, Finished)
"""Messages whose loss would leave an attempt hanging: a link that does not take one counts as
broken. All others are repeated anyway."""

MAX_SIGHTINGS = 1024
"""Machines that were found but are not trusted yet; more on one LAN is a flood."""


class Driver:
    """Drives one node."""

    def __init__(
        self, node: Node, links: ControlLinks, roster: RosterFile, state: StateFolder, disk: Disk
    ) -> None:
        self.node = node
        self.links = links
        self.state = state
        self.disk = disk
        self.store: BlobStore
        self.fetcher: Fetcher
        self.supervisor: Supervisor
        self.on_defect: Callable[[Exception], None] = lambda error: None
        """Told of an error that is a defect of ours: half an effect may have been performed, so the
        daemon must end rather than go on with a node and a world that differ."""
        self._roster = roster
        self._names: dict[MachineKey, str] = {}
        self._trouble = ""
        self._sightings: dict[MachineKey, Found] = {}
        self._fetches: dict[BlobId, asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._left = asyncio.Event()
        self._alive: frozenset[MachineKey] = frozenset()
        self._perform: dict[type, Callable[[Any], None]] = {
            fx.Send: self._send,
            fx.Connect: lambda e: links.connect(e.key, e.host, e.port),
            fx.Disconnect: lambda e: links.disconnect(e.key),
            fx.SaveRecord: lambda e: disk.later(state.save, e.record),
            fx.ForgetJob: lambda e: disk.later(state.forget, e.job),
            fx.FetchBlob: self._fetch,
            fx.StopFetch: self._stop_fetch,
            fx.PinBlobs: lambda e: self.store.pin(e.blobs, e.cached),
            fx.StartWorker: lambda e: self.supervisor.start(e),
            fx.TellWorker: lambda e: self.supervisor.tell(e),
            fx.StopWorker: lambda e: self.supervisor.stop(e),
            fx.LogJob: lambda e: disk.later(state.append_log, e.job, e.text),
            fx.Note: lambda e: log.info("%s", e.text),
        }

    def attach(self, store: BlobStore, fetcher: Fetcher, supervisor: Supervisor) -> None:
        """The parts that need the driver themselves."""
        self.store, self.fetcher, self.supervisor = store, fetcher, supervisor

    # --- inputs ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def feeding(self) -> Iterator[float]:
        """Give the node inputs inside; the effects are performed at the end. Yields the time."""
        self.node.count_control_bytes(self.links.bytes_sent)
        try:
            yield clock.now()
            self._pump()
        except MeshdError:
            raise
        except Exception as error:
            self.on_defect(error)
            raise

    async def receive_messages(self) -> None:
        """All messages of peers, for ever.

        Raises:
            FailureError: the authenticator died: the daemon must not go on listening.
        """
        while True:
            sender, message = await self.links.receive()
            self.check_roster()
            if sender in self._names and self.fetcher.receive(sender, message):
                with self.feeding() as now:
                    self.node.heard(sender, now)
                continue
            with self.feeding() as now:
                self.node.receive(sender, message, now)

    def seen(self, found: Found) -> None:
        """Discovery found a machine; it may be trusted only later, and mDNS says it only once."""
        if found.key in self._sightings or len(self._sightings) < MAX_SIGHTINGS:
            self._sightings[found.key] = found
        with self.feeding() as now:
            self.node.seen(found.key, found.host, found.port, now)

    def link_changed(self, key: MachineKey, is_up: bool) -> None:
        """A control link came up or broke."""
        with self.feeding() as now:
            self.node.link(key, is_up, now)

    def check_roster(self) -> None:
        """Take over the roster if it changed; a trouble with it is logged when it changes."""
        names, trouble = self._roster.names(), self._roster.trouble
        if (names, trouble) == (self._names, self._trouble):
            return
        if trouble != self._trouble:
            log.error("%s", trouble) if trouble else log.info("%s is usable again", ROSTER_FILE)
        new = names.keys() - self._names.keys()
        self._names, self._trouble = names, trouble
        with self.feeding() as now:
            self.node.roster(names, now, trouble)
            for key in new & self._sightings.keys():
                found = self._sightings[key]
                self.node.seen(key, found.host, found.port, now)

    def on_timer(self) -> None:
        """The node's time has come."""
        self.check_roster()
        with self.feeding() as now:
            self.node.handle_timer(now)

    def start(self) -> None:
        """The first roster, and the first timer."""
        self.check_roster()
        self.on_timer()

    async def leave(self, why: str) -> None:
        """Hand over what trains here, while messages and time go on, and say goodbye."""
        with self.feeding() as now:
            self.node.leave(why, now)
        await self._left.wait()

    async def close(self) -> None:
        """Stop the timer and the fetches."""
        if self._timer is not None:
            self._timer.cancel()
        self.fetcher.close()
        for task in list(self._fetches.values()):
            task.cancel()
        await asyncio.gather(*self._fetches.values(), return_exceptions=True)

    # --- effects ---------------------------------------------------------------------------------

    def _pump(self) -> None:
        while wanted := self.node.drain():
            for effect in wanted:
                self._perform[type(effect)](effect)
        self._tell_fetcher()
        if self.node.left:
            self._left.set()
        if self._timer is not None:
            self._timer.cancel()
        now = clock.now()
        delay = max(0.0, self.node.next_timer(now) - now)
        self._timer = asyncio.get_running_loop().call_later(delay, self.on_timer)

    def _send(self, effect: fx.Send) -> None:
        try:
            sent = self.links.send(effect.key, effect.message)
        except LocalProtocolError as error:
            log.error("a message that may not be sent: %s", error)  # a defect of ours
            sent = False
        if not sent and isinstance(effect.message, MATTERS):
            asyncio.get_running_loop().call_soon(self._unreachable, effect.key)

    def _unreachable(self, key: MachineKey) -> None:
        with self.feeding() as now:
            self.node.unreachable(key, now)

    def _tell_fetcher(self) -> None:
        alive = frozenset(self.node.site.peers.alive())
        for key in self._alive - alive:
            self.fetcher.lost(key)
        self._alive = alive

    def _fetch(self, effect: fx.FetchBlob) -> None:
        task = self._fetches.get(effect.blob)
        if task is not None:
            task.cancel()
        task = asyncio.create_task(self._fetched(effect, task))
        self._fetches[effect.blob] = task

    async def _fetched(self, effect: fx.FetchBlob, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.gather(before, return_exceptions=True)
        try:
            await self.fetcher.fetch(effect.blob, effect.holders, effect.size)
        except (MeshdError, OSError) as error:
            with self.feeding() as now:
                self.node.blob_missing(effect.blob, str(error), now)
        else:
            with self.feeding() as now:
                self.node.blob_held(effect.blob, now)
        finally:
            if self._fetches.get(effect.blob) is asyncio.current_task():
                del self._fetches[effect.blob]

    def _stop_fetch(self, effect: fx.StopFetch) -> None:
        task = self._fetches.get(effect.blob)
        if task is not None and task is not asyncio.current_task():
            task.cancel()
