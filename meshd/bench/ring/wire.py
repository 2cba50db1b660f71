"""What the hosts carry at best: every member sends to its successor and takes from its predecessor,
one byte a parameter, and nothing is computed. On plain TCP, and on the encrypted links that
meshd's rings use. Where these stay below the link rate, it is the processor that is measured."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

from meshd.bench.ring.contestant import Neighbourhood, Place
from meshd.core.errors import FailureError
from meshd.core.messages import RingMember
from meshd.net.bulk import BulkLinks, Received
from meshd.wire.bulk import BulkHeader

CURVE = "curve"
CEILINGS = ("tcp", CURVE)
PORT = 29_400  # of the first member; the next has the next, for members that share one address
PIECE_BYTES = 1 << 20
AHEAD = 4  # pieces that are sent before the first is awaited: the link is never without any
TIMEOUT_S = 60.0


class PlainRing:
    """TCP without anything on it; a thread sends while another receives."""

    def __init__(self, place: Place, around: Neighbourhood) -> None:
        self._left = place.params
        self._piece = memoryview(bytearray(PIECE_BYTES))
        self._space = bytearray(PIECE_BYTES)
        after = (place.rank + 1) % place.size
        with socket.create_server((place.address, PORT + place.rank), reuse_port=True) as server:
            server.settimeout(TIMEOUT_S)
            self._out = _connect(around.members[after].host, PORT + after)
            self._in, _ = server.accept()
        self._in.settimeout(TIMEOUT_S)

    def prepare(self) -> None:
        """Nothing changes."""

    def exchange(self) -> None:
        """Send all, receive as much."""
        sender = threading.Thread(target=self._send)
        sender.start()
        left = self._left
        while left:
            got = self._in.recv_into(self._space, min(left, PIECE_BYTES))
            if not got:
                raise FailureError("the predecessor is gone")
            left -= got
        sender.join()

    def _send(self) -> None:
        for start in range(0, self._left, PIECE_BYTES):
            self._out.sendall(self._piece[: min(PIECE_BYTES, self._left - start)])

    def digest(self) -> str:
        """Zeros."""
        return ""

    def close(self) -> None:
        """Hang up."""
        self._out.close()
        self._in.close()


def _connect(host: str, port: int) -> socket.socket:
    """Until the successor listens."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection((host, port), TIMEOUT_S)
        if time.monotonic() > deadline:
            raise FailureError(f"nobody listens on {host}, port {port}")
        time.sleep(0.02)


class CurveRing:
    """The same over links as meshd's rings have, in messages of 1 MiB."""

    def __init__(self, place: Place, links: BulkLinks, members: tuple[RingMember, ...]) -> None:
        self._links = links
        after = members[(place.rank + 1) % place.size]
        self._successor = after.key
        links.expect({members[(place.rank - 1) % place.size].key})
        links.reach([after])
        count, rest = divmod(place.params, PIECE_BYTES)
        self._sizes = [PIECE_BYTES] * count + ([rest] if rest else [])
        self._piece = memoryview(bytes(PIECE_BYTES))
        self._came = 0

    def prepare(self) -> None:
        """Nothing changes."""
        self._came = 0

    def exchange(self) -> None:
        """Send each, some ahead of what is awaited."""
        for number, size in enumerate(self._sizes):
            header = BulkHeader(0, 1, 0, 0, 0, size)
            self._links.send(self._successor, header, self._piece[:size])
            self._receive(number - AHEAD)
        self._receive(len(self._sizes))

    def _receive(self, count: int) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while self._came < count:
            if time.monotonic() > deadline:
                raise FailureError("the predecessor sends nothing")
            events = self._links.wait(1.0)
            self._came += sum(isinstance(event, Received) for event in events)

    def digest(self) -> str:
        """Zeros."""
        return ""

    def close(self) -> None:
        """The links are the member's."""
