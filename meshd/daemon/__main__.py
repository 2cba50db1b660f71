"""`python -m meshd.daemon`: one machine's daemon, in the foreground, logging to stderr.

Exit codes are those of `meshd.core.errors.ExitCode`; SIGTERM and SIGINT end it with 0.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from pathlib import Path

from meshd.core.errors import MeshdError
from meshd.core.types import MachineKey
from meshd.daemon.app import DEFAULT_PORT, App, Options
from meshd.daemon.blobs import CACHE_BYTES
from meshd.net.discovery import Found
from meshd.net.keys import is_key


def main() -> int:
    """Parse, run, and turn an error into one line and an exit code."""
    os.umask(0o077)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname).1s %(message)s"
    )
    try:
        options = parse(sys.argv[1:])
        asyncio.run(_run(options))
    except MeshdError as error:
        print(f"meshd: {error}", file=sys.stderr, flush=True)
        return int(error.exit_code)
    return 0


async def _run(options: Options) -> None:
    await App(options).run()


def parse(arguments: list[str]) -> Options:
    """Read the command line; a wrong one ends the process with 2, as argparse does."""
    parser = argparse.ArgumentParser(prog="python -m meshd.daemon", description=__doc__)
    parser.add_argument("--state", type=Path, default=default_state(), help="state folder")
    parser.add_argument("--name", help="what others call this machine")
    parser.add_argument("--host", default=Options.host, help="address to listen on")
    parser.add_argument("--port", type=_port, default=DEFAULT_PORT, help="0 takes a free one")
    parser.add_argument("--threads", type=_threads, default=os.cpu_count() or 1)
    parser.add_argument("--peer", type=_peer, action="append", default=[], help="KEY@HOST:PORT")
    parser.add_argument("--no-mdns", action="store_true", help="neither announce nor browse")
    parser.add_argument("--cache-bytes", type=_cache, default=CACHE_BYTES, help="cap on blobs")
    got = parser.parse_args(arguments)
    return Options(
        state=got.state,
        name=got.name,
        host=got.host,
        port=got.port,
        threads=got.threads,
        peers=tuple(got.peer),
        mdns=not got.no_mdns,
        cache_bytes=got.cache_bytes,
    )


def default_state() -> Path:
    """MESHD_STATE, or the XDG state folder (XDG Base Directory Specification 0.8)."""
    if chosen := os.environ.get("MESHD_STATE"):
        return Path(chosen)
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local/state") / "meshd"


def _bounded(text: str, low: int, high: int) -> int:
    value = int(text) if text.isascii() and text.isdecimal() else -1
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
    return value


def _port(text: str) -> int:
    return _bounded(text, 0, 65_535)


def _threads(text: str) -> int:
    return _bounded(text, 1, 1024)


def _cache(text: str) -> int:
    return _bounded(text, 1 << 20, 1 << 50)


def _peer(text: str) -> Found:
    """KEY@HOST:PORT; a z85 key may hold '@', so it is cut by its length."""
    key, host_port = text[:40], text[41:]
    host, _, port = host_port.rpartition(":")
    if text[40:41] != "@" or not is_key(key) or not host:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY@HOST:PORT")
    return Found(MachineKey(key), host.strip("[]"), _bounded(port, 1, 65_535), "")


if __name__ == "__main__":
    raise SystemExit(main())
