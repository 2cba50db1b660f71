"""Blobs from other machines: performs the plans of `meshd.core.fetch`, and serves what others ask.

At most `ACTIVE` blobs are fetched at a time; the others wait their turn, so the requests on their
way, and with them memory, are bounded whatever a checkpoint's number of slices is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from meshd.core.errors import FailureError
from meshd.core.fetch import Fetch
from meshd.core.messages import (
    BlobMissing,
    Block,
    BlockRequest,
    Manifest,
    ManifestRequest,
)
from meshd.core.types import BlobId, MachineKey
from meshd.daemon import clock
from meshd.daemon.blobs import BlobStore, Partial

log = logging.getLogger(__name__)

ACTIVE = 2
"""The second one keeps the links busy while the first one is checked and synced."""

Send = Callable[[MachineKey, object], bool]


@dataclass
class _Active:
    plan: Fetch
    done: asyncio.Event = field(default_factory=asyncio.Event)
    partial: Partial | None = None
    preparing: asyncio.Task[None] | None = None
    failure: str = ""


class Fetcher:
    """All fetches of this daemon, and its answers to those of others."""

    def __init__(self, store: BlobStore, send: Send, name: Callable[[MachineKey], str]) -> None:
        self._store = store
        self._send = send
        self._name = name
        self._slots = asyncio.Semaphore(ACTIVE)
        self._active: dict[BlobId, _Active] = {}
        self._turns: dict[BlobId, asyncio.Event] = {}
        """Set when a fetch is over: who wanted the same blob finds it here, or tries again."""
        self._timer: asyncio.TimerHandle | None = None

    async def fetch(self, blob: BlobId, holders: tuple[MachineKey, ...], size: int) -> None:
        """Return when the blob lies here, verified. Safe to cancel: what came is kept.

        Args:
            blob: what is wanted.
            holders: machines that may have it; empty looks on this disk only.
            size: bytes that it must have; -1 where unknown.

        Raises:
            FailureError: it cannot be had; one line says why.
        """
        while blob in self._turns:
            await self._turns[blob].wait()
        self._turns[blob] = asyncio.Event()
        try:
            if not await self._lies_here(blob):
                await self._fetch(blob, holders, size)
        finally:
            self._turns.pop(blob).set()

    async def _fetch(self, blob: BlobId, holders: tuple[MachineKey, ...], size: int) -> None:
        async with self._slots:
            active = _Active(Fetch(blob, holders, size, self._store.cap_bytes))
            self._active[blob] = active
            try:
                active.plan.start(clock.now())
                self._pump(active)
                await active.done.wait()
                if active.failure:
                    raise FailureError(active.failure)
                assert active.partial is not None  # noqa: S101 - done without failure
                await active.partial.finish()
            finally:
                self._forget(blob, active)

    async def _lies_here(self, blob: BlobId) -> bool:
        """Whether the blob is held, and its bytes are still those that were checked once."""
        manifest = self._store.manifest(blob)
        if manifest is None:
            return False
        path = self._store.path(blob)
        good = await asyncio.to_thread(self._store.verify, manifest, path)
        if len(good) == len(manifest.digests):
            return True
        log.warning("blob %s was damaged on disk; it is fetched again", blob[:12])
        self._store.drop(blob)
        return False

    def _forget(self, blob: BlobId, active: _Active) -> None:
        del self._active[blob]
        if active.preparing is not None:
            active.preparing.cancel()
        if active.partial is not None and not self._store.held(blob):
            active.partial.suspend()

    # --- messages --------------------------------------------------------------------------------

    def receive(self, sender: MachineKey, message: object) -> bool:
        """Take a message about blobs; False if it is about something else."""
        if isinstance(message, ManifestRequest):
            manifest = self._store.manifest(message.blob)
            self._send(sender, manifest or BlobMissing(message.blob))
        elif isinstance(message, BlockRequest):
            data = self._store.read_block(message.blob, message.index)
            answer = BlobMissing(message.blob) if data is None else None
            self._send(sender, answer or Block(message.blob, message.index, data or b""))
        elif isinstance(message, Manifest | Block | BlobMissing):
            self._answered(sender, message)
        else:
            return False
        return True

    def lost(self, key: MachineKey) -> None:
        """A machine is gone: its requests go to others."""
        for active in list(self._active.values()):
            active.plan.lost(key, clock.now())
            self._pump(active)

    def _answered(self, sender: MachineKey, message: Manifest | Block | BlobMissing) -> None:
        active = self._active.get(message.blob)
        if active is None or active.done.is_set():
            return
        now = clock.now()
        if isinstance(message, BlobMissing):
            active.plan.on_missing(sender, now)
        elif isinstance(message, Manifest):
            if active.plan.on_manifest(sender, message, now):
                active.preparing = asyncio.create_task(self._prepare(active, message))
        elif active.plan.on_block(sender, message, now) and active.partial is not None:
            try:
                active.partial.write(message.index, message.data)
            except FailureError as error:
                active.partial.abandon()
                self._end(active, str(error))
        self._pump(active)

    # --- steps -----------------------------------------------------------------------------------

    async def _prepare(self, active: _Active, manifest: Manifest) -> None:
        """Make room, and find out which blocks an earlier try left here."""
        try:
            active.partial = Partial(self._store, manifest)
            have = await asyncio.to_thread(active.partial.present)
        except (FailureError, OSError) as error:
            self._end(active, str(error))
            return
        active.plan.resume(have, clock.now())
        self._pump(active)

    def _pump(self, active: _Active) -> None:
        """Send what the plan asks, and see whether it is over."""
        for key, request in active.plan.drain():
            self._send(key, request)
        if active.plan.failure:
            told = "; ".join(
                f"{self._name(key)} {what}" for key, what in active.plan.troubles.items()
            )
            self._end(active, f"{active.plan.failure} ({told})" if told else active.plan.failure)
        elif active.plan.complete and active.partial is not None:
            self._end(active, "")
        self._arm()

    def _end(self, active: _Active, failure: str) -> None:
        if not active.done.is_set():
            active.failure = failure
            active.done.set()

    def _arm(self) -> None:
        """One timer, for the request that becomes late first."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        times = [a.plan.next_timer() for a in self._active.values() if not a.done.is_set()]
        when = min(times, default=float("inf"))
        if when < float("inf"):
            delay = max(0.0, when - clock.now())
            self._timer = asyncio.get_running_loop().call_later(delay, self._late)

    def _late(self) -> None:
        now = clock.now()
        for active in list(self._active.values()):
            if not active.done.is_set():
                active.plan.handle_timer(now)
                self._pump(active)
        self._arm()

    def close(self) -> None:
        """Stop the timer; the fetches themselves are cancelled by whoever awaits them."""
        if self._timer is not None:
            self._timer.cancel()
