"""The content-addressed store: files named by what is in them, under a size cap.

    blobs/<id>            the content, 0600
    blobs/<id>.manifest   its manifest (meshd.core.blobs), written last: it says that all is there
    blobs/<id>.part       blocks of an incomplete fetch; resumed after a restart, but not trusted
    blobs/.new-*          an upload; of no use after a restart

Nothing gets its name before its bytes are on disk (fsync before rename). When room is needed, blobs
that are not pinned go, the one unused for longest first; what is pinned stays, and whoever needed
the room is told in one line. What was pinned and is no longer of use goes at once. All methods
belong to the event loop's thread except those that say "any thread": they touch files, never the
index.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from meshd.core.blobs import (
    BLOCK_BYTES,
    Hasher,
    block_bytes,
    block_digest,
    manifest_bytes,
    parse_manifest,
)
from meshd.core.errors import FailureError, MeshdError
from meshd.core.messages import Manifest
from meshd.core.types import BlobId
from meshd.net.files import write_atomically

log = logging.getLogger(__name__)

CACHE_BYTES = 8 << 30
"""Default cap: data and checkpoints of some jobs, and small on any disk that holds torch."""

PIECE_BYTES = 1 << 20
BLOB = re.compile(r"[0-9a-f]{64}")


@dataclass
class _Held:
    size: int
    used: float
    """Modification time of the file: when it was last used. Unix seconds."""


class BlobStore:
    """Blobs on disk. Start with `scan`."""

    def __init__(self, folder: Path, cap_bytes: int = CACHE_BYTES) -> None:
        self.folder = folder
        self.cap_bytes = cap_bytes
        self._held: dict[BlobId, _Held] = {}
        self._pinned: frozenset[BlobId] = frozenset()
        self._settled = False
        """Whether `pin` has said what is of use."""
        self._reserved: dict[str, int] = {}
        """Bytes promised to uploads and fetches that are on their way, by temporary name."""
        self._idle: dict[str, int] = {}
        """Parts that nobody fetches now: kept for the next try, and the first to go."""

    @property
    def used_bytes(self) -> int:
        """Bytes of all blobs and of what is on its way."""
        held = sum(held.size for held in self._held.values())
        return held + sum(self._reserved.values()) + sum(self._idle.values())

    def scan(self) -> None:
        """Find out what an earlier run left: whole blobs stay, uploads go, parts wait."""
        for path in sorted(self.folder.iterdir()):
            if path.name.startswith("."):
                path.unlink(missing_ok=True)
            elif path.suffix == ".manifest":
                self._scan_manifest(path)
            elif path.suffix == ".part":
                self._idle[path.name] = path.stat().st_size
        for path in sorted(self.folder.iterdir()):
            if BLOB.fullmatch(path.name) and BlobId(path.name) not in self._held:
                path.unlink(missing_ok=True)

    def _scan_manifest(self, path: Path) -> None:
        blob = BlobId(path.stem)
        content = self.folder / blob
        try:
            manifest = parse_manifest(path.read_bytes())
            status = content.stat()
            if manifest.blob == blob and status.st_size == manifest.size:
                self._held[blob] = _Held(manifest.size, status.st_mtime)
                return
        except (OSError, MeshdError):
            pass
        log.warning("blob %s is not whole; removed", blob[:12])
        path.unlink(missing_ok=True)
        content.unlink(missing_ok=True)

    # --- reading ---------------------------------------------------------------------------------

    def held(self, blob: BlobId) -> bool:
        """Whether all of it lies here."""
        return blob in self._held

    def size(self, blob: BlobId) -> int:
        """Bytes of a blob that is held."""
        return self._held[blob].size

    def path(self, blob: BlobId) -> Path:
        """The file of a blob that is held, to be read only; counts as use."""
        held = self._held[blob]
        path = self.folder / blob
        with contextlib.suppress(OSError):
            os.utime(path)
            held.used = path.stat().st_mtime
        return path

    def manifest(self, blob: BlobId) -> Manifest | None:
        """The manifest of a blob that is held; None if it is not, or not any more."""
        if blob not in self._held:
            return None
        try:
            return parse_manifest((self.folder / f"{blob}.manifest").read_bytes())
        except (OSError, MeshdError) as error:
            log.warning("blob %s cannot be read: %s", blob[:12], error)
            self.drop(blob)
            return None

    def read_block(self, blob: BlobId, index: int) -> bytes | None:
        """One block of a blob that is held; None without it. Whoever asked verifies it."""
        held = self._held.get(blob)
        if held is None or not 0 <= index * BLOCK_BYTES < held.size:
            return None
        try:
            with (self.folder / blob).open("rb") as file:
                file.seek(index * BLOCK_BYTES)
                return file.read(BLOCK_BYTES)
        except OSError as error:
            log.warning("blob %s cannot be read: %s", blob[:12], error.strerror)
            return None

    def verify(self, manifest: Manifest, path: Path) -> frozenset[int]:
        """Which blocks of a file are those of the manifest. Any thread."""
        good = set()
        with contextlib.suppress(OSError), path.open("rb") as file:
            for index, digest in enumerate(manifest.digests):
                data = file.read(block_bytes(manifest.size, index))
                if block_digest(data) == digest:
                    good.add(index)
        return frozenset(good)

    # --- room ------------------------------------------------------------------------------------

    def pin(self, blobs: frozenset[BlobId], cached: frozenset[BlobId]) -> None:
        """From now on `blobs`, and no others, are never evicted.

        What was pinned and is neither pinned nor `cached` now goes at once: a checkpoint every few
        seconds would else fill disk and index with thousands of small files. The first time, after
        `scan`, that is everything else: what an earlier run left behind.
        """
        before = self._pinned if self._settled else frozenset(self._held)
        self._pinned, self._settled = blobs, True
        for blob in before - blobs - cached:
            if blob in self._held:
                self.drop(blob)

    def drop(self, blob: BlobId) -> None:
        """Remove a blob. The manifest goes first: without it the content is nothing."""
        self._held.pop(blob, None)
        (self.folder / f"{blob}.manifest").unlink(missing_ok=True)
        (self.folder / blob).unlink(missing_ok=True)

    def reserve(self, name: str, size: int) -> None:
        """Promise room under a temporary name, evicting what is not pinned.

        Raises:
            FailureError: it does not fit beside what is pinned.
        """
        idle = self._idle.pop(name, None)
        if not self._make_room(size):
            if idle is not None:
                self._idle[name] = idle
            pinned = sum(h.size for b, h in self._held.items() if b in self._pinned)
            raise FailureError(
                f"no room for {size} bytes: the cache holds at most {self.cap_bytes}, of which"
                f" {pinned + sum(self._reserved.values())} belong to unfinished jobs;"
                " cancel some, or raise --cache-bytes"
            )
        self._reserved[name] = size

    def release(self, name: str) -> None:
        """Take a promise back."""
        self._reserved.pop(name, None)

    def keep_idle(self, name: str) -> None:
        """A promise becomes a part that waits for the next try."""
        size = self._reserved.pop(name, None)
        if size is not None:
            self._idle[name] = size

    def _make_room(self, size: int) -> bool:
        order = sorted(self._held, key=lambda blob: (self._held[blob].used, blob))
        loose = [blob for blob in order if blob not in self._pinned]
        pinned = sum(held.size for blob, held in self._held.items() if blob in self._pinned)
        if pinned + sum(self._reserved.values()) + size > self.cap_bytes:
            return False
        while self._idle and self.used_bytes + size > self.cap_bytes:
            name, _ = self._idle.popitem()
            (self.folder / name).unlink(missing_ok=True)
        while self.used_bytes + size > self.cap_bytes:
            blob = loose.pop(0)
            log.info("evicted blob %s, %d bytes", blob[:12], self._held[blob].size)
            self.drop(blob)
        return True

    # --- writing ---------------------------------------------------------------------------------

    def begin_upload(self, size: int) -> Upload:
        """A new blob of exactly so many bytes, piece by piece.

        Raises:
            FailureError: no room.
        """
        name = f".new-{secrets.token_hex(8)}"
        self.reserve(name, size)
        try:
            return Upload(self, name, size)
        except OSError as error:
            self.release(name)
            raise disk_error(error, "the data") from None

    async def adopt(self, path: Path, manifest: Manifest) -> BlobId:
        """Give a synced file of this file system its name here: it becomes the blob.

        Raises:
            FailureError: no room, or the disk.
        """
        blob = manifest.blob
        if blob in self._held:
            path.unlink(missing_ok=True)
            self.path(blob)
            return blob
        self.reserve(f"{blob}.adopt", manifest.size)
        try:
            used = await asyncio.to_thread(self._put, path, manifest)
            self._held[blob] = _Held(manifest.size, used)
        except OSError as error:
            raise disk_error(error, "a blob") from None
        finally:
            self.release(f"{blob}.adopt")
        return blob

    def _put(self, path: Path, manifest: Manifest) -> float:
        """Content, then the manifest, which makes it count; returns when. Any thread."""
        content = self.folder / manifest.blob
        os.chmod(path, 0o600)
        os.utime(path)
        os.replace(path, content)
        data = manifest_bytes(manifest.size, manifest.digests)
        write_atomically(self.folder / f"{manifest.blob}.manifest", data, 0o600)
        return content.stat().st_mtime


class Upload:
    """A blob that is being written. End it with `finish` or `abandon`."""

    def __init__(self, store: BlobStore, name: str, size: int) -> None:
        self.path = store.folder / name
        self._store = store
        self._size = size
        self._hasher = Hasher()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = os.fdopen(descriptor, "wb")

    def write(self, data: bytes) -> None:
        """The next piece. Any thread, one at a time.

        Raises:
            FailureError: more than announced, or the disk is full.
        """
        if self._hasher.size + len(data) > self._size:
            raise FailureError(f"the data is longer than the {self._size} bytes announced")
        try:
            self._file.write(data)
        except OSError as error:
            raise disk_error(error, "the data") from None
        self._hasher.update(data)

    def close(self) -> Manifest:
        """All pieces came: sync the file. Any thread.

        Raises:
            FailureError: less than announced, or the disk is full.
        """
        if self._hasher.size != self._size:
            raise FailureError(
                f"the data ended after {self._hasher.size} of the {self._size} bytes announced"
            )
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        except OSError as error:
            raise disk_error(error, "the data") from None
        return self._hasher.finish()

    async def finish(self, manifest: Manifest) -> BlobId:
        """Make it a blob.

        Raises:
            FailureError: the disk.
        """
        self._store.release(self.path.name)
        return await self._store.adopt(self.path, manifest)

    def abandon(self) -> None:
        """Leave nothing of it; does nothing after `finish`."""
        with contextlib.suppress(OSError):
            self._file.close()
        self.path.unlink(missing_ok=True)
        self._store.release(self.path.name)


class Partial:
    """A blob that is being fetched: blocks in any order, resumed from what lies here."""

    def __init__(self, store: BlobStore, manifest: Manifest) -> None:
        """Reserves the room.

        Raises:
            FailureError: no room, or the disk.
        """
        self.manifest = manifest
        self.path = store.folder / f"{manifest.blob}.part"
        self._store = store
        store.reserve(self.path.name, manifest.size)
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            self._file = os.fdopen(descriptor, "r+b", buffering=0)
        except OSError as error:
            store.release(self.path.name)
            raise disk_error(error, "a blob") from None

    def present(self) -> frozenset[int]:
        """Blocks that an earlier try left here, verified. Any thread."""
        return self._store.verify(self.manifest, self.path)

    def write(self, index: int, data: bytes) -> None:
        """One verified block.

        Raises:
            FailureError: the block is not as long as the manifest says, or the disk is full.
        """
        if len(data) != block_bytes(self.manifest.size, index):
            raise FailureError("the blob's manifest lies about its size")
        try:
            self._file.seek(index * BLOCK_BYTES)
            self._file.write(data)
        except OSError as error:
            raise disk_error(error, "a blob") from None

    async def finish(self) -> None:
        """All blocks are there: make it a blob.

        Raises:
            FailureError: the disk.
        """
        try:
            await asyncio.to_thread(self._close)
        except OSError as error:
            raise disk_error(error, "a blob") from None
        self._store.release(self.path.name)
        await self._store.adopt(self.path, self.manifest)

    def _close(self) -> None:
        self._file.truncate(self.manifest.size)
        os.fsync(self._file.fileno())
        self._file.close()

    def suspend(self) -> None:
        """Keep what came for the next try."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._store.keep_idle(self.path.name)

    def abandon(self) -> None:
        """Leave nothing of it."""
        with contextlib.suppress(OSError):
            self._file.close()
        self.path.unlink(missing_ok=True)
        self._store.release(self.path.name)


def seal(path: Path) -> Manifest:
    """Hash and sync a file that a worker wrote. Any thread.

    Raises:
        FailureError: it cannot be read.
    """
    hasher = Hasher()
    try:
        with path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                hasher.update(piece)
            os.fsync(file.fileno())
    except OSError as error:
        raise disk_error(error, str(path)) from None
    return hasher.finish()


def disk_error(error: OSError, what: str) -> FailureError:
    """One line for what the disk refused."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return FailureError(f"the disk is full: {what} could not be written; nothing was kept")
    return FailureError(f"{what}: {error.strerror or error}")
