"""Content addressing: a blob is named by the digest of its manifest, and every block by its own.

    manifest = magic, size (u64, big-endian), BLAKE2b-256 of each block of BLOCK_BYTES
    blob id  = BLAKE2b-256 of the manifest's bytes, as hexadecimal digits

(BLAKE2b: RFC 7693.) Two levels rather than one digest of the whole: a block from any machine can be
checked by itself and at once, so one bad source costs one block, and several can be asked together.
"""

from __future__ import annotations

import hashlib

from meshd.core.errors import RemoteProtocolError
from meshd.core.messages import Manifest
from meshd.core.types import BlobId

MAGIC = b"meshd blob manifest 1\n"
BLOCK_BYTES = 1 << 20  # as `meshd.wire.limits`, which says why; a test holds the two together
DIGEST_BYTES = 32


def block_digest(data: bytes | memoryview) -> bytes:
    """BLAKE2b-256 of one block."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def block_count(size: int) -> int:
    """Blocks of a blob of so many bytes; the last one may be shorter."""
    return -(-size // BLOCK_BYTES)


def block_bytes(size: int, index: int) -> int:
    """Length of one block of a blob of `size` bytes."""
    return min(BLOCK_BYTES, size - index * BLOCK_BYTES)


def manifest_bytes(size: int, digests: tuple[bytes, ...]) -> bytes:
    """The manifest's canonical form: what lies on disk and what the id is the digest of."""
    return MAGIC + size.to_bytes(8, "big") + b"".join(digests)


def make_manifest(size: int, digests: tuple[bytes, ...]) -> Manifest:
    """The manifest of a blob, with the id that follows from it."""
    digest = hashlib.blake2b(manifest_bytes(size, digests), digest_size=DIGEST_BYTES)
    return Manifest(BlobId(digest.hexdigest()), size, digests)


def parse_manifest(data: bytes) -> Manifest:
    """Read the canonical form back.

    Raises:
        RemoteProtocolError: code `bad-manifest`.
    """
    start = len(MAGIC) + 8
    size = int.from_bytes(data[len(MAGIC) : start], "big")
    rest = data[start:]
    if (
        len(data) < start
        or data[: len(MAGIC)] != MAGIC
        or len(rest) != DIGEST_BYTES * block_count(size)
    ):
        raise RemoteProtocolError("bad-manifest", "not a manifest, or cut off")
    digests = tuple(rest[i : i + DIGEST_BYTES] for i in range(0, len(rest), DIGEST_BYTES))
    return make_manifest(size, digests)


def check_manifest(manifest: Manifest) -> None:
    """Check that a manifest is whole and is the one that its id names.

    Raises:
        RemoteProtocolError: code `bad-manifest`.
    """
    whole = len(manifest.digests) == block_count(manifest.size)
    if not whole or make_manifest(manifest.size, manifest.digests).blob != manifest.blob:
        raise RemoteProtocolError("bad-manifest", "a manifest that is not of the blob it names")


class Hasher:
    """Makes a manifest from a stream of pieces of any size."""

    def __init__(self) -> None:
        self._block = hashlib.blake2b(digest_size=DIGEST_BYTES)
        self._digests: list[bytes] = []
        self.size = 0

    def update(self, data: bytes | memoryview) -> None:
        """The stream's next bytes."""
        view = memoryview(data)
        while view:
            room = BLOCK_BYTES - self.size % BLOCK_BYTES
            piece = view[:room]
            self._block.update(piece)
            self.size += len(piece)
            view = view[room:]
            if self.size % BLOCK_BYTES == 0:
                self._end_block()

    def finish(self) -> Manifest:
        """The manifest of all that came."""
        if self.size % BLOCK_BYTES:
            self._end_block()
        return make_manifest(self.size, tuple(self._digests))

    def _end_block(self) -> None:
        self._digests.append(self._block.digest())
        self._block = hashlib.blake2b(digest_size=DIGEST_BYTES)
