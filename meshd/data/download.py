"""Known data sets fetched into a cache: from any mirror, verified, whole or not at all.

A file is written under a temporary name in its own folder and takes its name once its size and
SHA-256 are right; so a file that has its name is a file that was verified, and two processes can
fetch at once. What lies in the cache is verified again before it is used, wherever it came from.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import ssl
import tarfile
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

from meshd.data.catalogue import CATALOGUE, RemoteFile, RemoteSet
from meshd.data.errors import DataError, DownloadError
from meshd.data.source import BROKEN, open_regular

LOOPBACK = ("127.0.0.1", "::1", "localhost")
SILENCE_S = 30.0  # a mirror that sends nothing for so long is given up
LIMIT_S = 1800.0  # of one file from one mirror: 100 kB/s for the largest
CHUNK_BYTES = 1 << 18

Say = Callable[[str], None]


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """`$XDG_CACHE_HOME/meshd/data`; relative values are ignored, as the XDG specification says."""
    base = Path(environment.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "meshd" / "data"


def fetch(
    name: str,
    cache: Path | None = None,
    say: Say = lambda _: None,
    catalogue: Mapping[str, RemoteSet] = CATALOGUE,
) -> Path:
    """The folder that holds a known data set; downloads what is not there.

    Args:
        name: a key of the catalogue.
        cache: where the folder is; `cache_folder()` by default.
        say: is told, in a line each, what is downloaded.
        catalogue: the known data sets.

    Raises:
        DataError: no data set of this name is known.
        DownloadError: no mirror gave the file, or the cache cannot be written.
    """
    if name not in catalogue:
        raise DataError(f"{name}: not known; known are {', '.join(catalogue)}")
    known = catalogue[name]
    folder = (cache or cache_folder()) / name
    if known.members and all(_has_size(folder / path, size) for path, size in known.members):
        return folder / Path(known.members[0][0]).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in known.files:
            if not _is_verified(folder / file.name, file):
                _download(known, file, folder, say)
        if known.members:
            _unpack(folder / known.files[0].name, known, folder)
            return folder / Path(known.members[0][0]).parent
    except OSError as error:
        reason = error.strerror or error
        raise DownloadError(f"{name}: cannot write into {folder}: {reason}") from None
    return folder


def is_cached(known: RemoteSet, cache: Path | None = None) -> bool:
    """Whether all files are there in their sizes; their content is looked at by `fetch`."""
    folder = (cache or cache_folder()) / known.name
    wanted = known.members or tuple((file.name, file.size_bytes) for file in known.files)
    return all(_has_size(folder / path, size) for path, size in wanted)


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_size == size


def _is_verified(path: Path, file: RemoteFile) -> bool:
    """Whether the file is there, and is the one that its author published."""
    if not _has_size(path, file.size_bytes):
        return False
    with open_regular(path, path.name) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == file.sha256


class RefusedError(Exception):
    """Why one mirror's file is not taken; never leaves this module."""


def _download(known: RemoteSet, file: RemoteFile, folder: Path, say: Say) -> None:
    """Try the mirrors in turn.

    Raises:
        DownloadError: none gave the file; says why for each.
    """
    refusals = []
    for url in file.urls:
        host = urllib.parse.urlsplit(url).netloc
        say(f"{file.name}: {file.size_bytes / 1e6:.1f} MB from {host}")
        try:
            with _written_whole(folder / file.name) as out:
                _receive(url, file, out)
            return
        except RefusedError as refused:
            refusals.append(f"{host}: {refused}")
    missing = ", ".join(f.name for f in known.files if not _is_verified(folder / f.name, f))
    where = file.urls[0].removesuffix(file.name)
    raise DownloadError(
        f"{known.name}: {file.name} could not be downloaded ({'; '.join(refusals)}); fetch by hand"
        f" {missing} from {where} and put it into {folder}"
    )


def _receive(url: str, file: RemoteFile, out: IO[bytes]) -> None:
    """Copy what the address gives, bounded in size and time, and verify it."""
    digest = hashlib.sha256()
    left, end = file.size_bytes, time.monotonic() + LIMIT_S
    try:
        with _opener(url).open(url, timeout=SILENCE_S) as answer:
            while data := answer.read(min(CHUNK_BYTES, left + 1)):
                left -= len(data)
                if left < 0:
                    raise RefusedError(f"more than the {file.size_bytes} bytes of the file")
                if time.monotonic() > end:
                    raise RefusedError(f"not done after {LIMIT_S / 60:.0f} minutes")
                digest.update(data)
                _write(out, data)
    except http.client.IncompleteRead as error:
        left -= len(error.partial)
    except urllib.error.HTTPError as error:
        error.close()
        raise RefusedError(f"{error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        reason = error.reason
        raise RefusedError(getattr(reason, "strerror", None) or str(reason)) from None
    except (http.client.HTTPException, ssl.SSLError, OSError) as error:
        raise RefusedError(str(error) or type(error).__name__) from None
    if left:
        raise RefusedError(f"{left} of {file.size_bytes} bytes are missing")
    if digest.hexdigest() != file.sha256:
        raise RefusedError("wrong checksum: it is another file")


def _write(out: IO[bytes], data: bytes) -> None:
    """A full disk is ours, not the mirror's."""
    try:
        out.write(data)
    except OSError as error:
        raise DownloadError(f"cannot write {out.name}: {error.strerror}") from None


class OnlySafely(urllib.request.HTTPRedirectHandler):
    """Follows a redirection only to where we would have gone ourselves."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """As the base class, after a look at the new address."""
        refuse_unsafe(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def refuse_unsafe(url: str) -> None:
    """https everywhere, plain http only to this machine.

    Raises:
        RefusedError: neither.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise RefusedError(f"{parts.scheme}://{parts.netloc} is not https")


def _opener(url: str) -> urllib.request.OpenerDirector:
    """What opens an address; the environment's proxies are for other machines, not for this one."""
    refuse_unsafe(url)
    local = urllib.parse.urlsplit(url).hostname in LOOPBACK
    proxies = urllib.request.ProxyHandler({} if local else None)
    return urllib.request.build_opener(proxies, OnlySafely)


def _unpack(archive: Path, known: RemoteSet, folder: Path) -> None:
    """Write the wanted members of a verified .tar.gz, and drop it.

    Raises:
        DownloadError: a member is not there.
    """
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for path, size in known.members:
                member = tar.getmember(path)
                stream = tar.extractfile(member) if member.isreg() else None
                if stream is None or member.size != size:
                    raise KeyError(f"{path} is not a file of {size} bytes")
                (folder / path).parent.mkdir(exist_ok=True)
                with _written_whole(folder / path) as out:
                    while data := stream.read(CHUNK_BYTES):
                        _write(out, data)
    except (tarfile.TarError, *BROKEN) as error:
        reason = str(error.args[0]) if error.args else type(error).__name__
        raise DownloadError(f"{known.name}: {archive} cannot be unpacked: {reason}") from None
    archive.unlink()


@contextlib.contextmanager
def _written_whole(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes `path`'s place when the block ends well, and else vanishes."""
    number, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(number, "wb") as out:
            yield out
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
