"""How one blob is fetched from several machines: what to ask whom next, and when to give up.

    manifest  <- one holder after the other, until one sends the manifest that the id names
    blocks    <- all holders at once, each with a few requests on their way, lowest index first

Every block is checked against the manifest before it counts. A holder that does not have the blob,
sends something else, or does not answer `STRIKES` times is not asked again; its blocks go to the
others. The fetch fails when nobody is left, and says what was wrong with each. No other deadline:
a large blob on a slow link takes its time.
"""

from __future__ import annotations

from collections import deque

from meshd.core.blobs import block_digest, check_manifest
from meshd.core.errors import RemoteProtocolError
from meshd.core.messages import Block, BlockRequest, Manifest, ManifestRequest
from meshd.core.types import BlobId, MachineKey

WINDOW = 2
"""Requests on their way to one holder: 2 MiB, which fills 1 Gbit/s at 16 ms and delays the
heartbeats behind them on 100 Mbit/s by a sixth of a second. The holder keeps so much in memory for
each machine that fetches from it, and may weigh 60 MB with all of them."""

ANSWER_S = 10.0
"""A request unanswered for so long is a strike: WINDOW blocks then took more than 5 s each, 0.2
MB/s, or the message was lost."""

STRIKES = 3


class Fetch:
    """One wanted blob. The daemon performs `drain`, feeds the answers and writes the blocks."""

    def __init__(self, blob: BlobId, holders: tuple[MachineKey, ...], size: int, most: int) -> None:
        """Nothing is asked before `start`.

        Args:
            blob: what is wanted.
            holders: machines that may have it, the likeliest first.
            size: bytes that it must have; -1 where unknown.
            most: bytes that it may have.
        """
        self.blob = blob
        self.manifest: Manifest | None = None
        self.failure = ""
        """Why it cannot be had; empty while it can."""
        self._size = size
        self._most = most
        self._holders = list(holders)
        self._troubles: dict[MachineKey, str] = {}
        self._strikes: dict[MachineKey, int] = {}
        self._todo: deque[int] = deque()
        self._asked: dict[int, tuple[MachineKey, float]] = {}
        """Block -> (who was asked, when); -1 stands for the manifest."""
        self._missing = 0
        self._out: list[tuple[MachineKey, ManifestRequest | BlockRequest]] = []

    @property
    def complete(self) -> bool:
        """Whether every block was accepted."""
        return self.manifest is not None and self._missing == 0

    @property
    def troubles(self) -> dict[MachineKey, str]:
        """What was wrong with each holder that is not asked any more."""
        return dict(self._troubles)

    def start(self, now: float) -> None:
        """Ask for the manifest."""
        self._ask(now)

    def on_manifest(self, sender: MachineKey, manifest: Manifest, now: float) -> bool:
        """A holder's manifest; True if it was awaited and is right: then call `resume`."""
        asked = self._asked.get(-1)
        if self.manifest is not None or asked is None or asked[0] != sender:
            return False
        del self._asked[-1]
        try:
            check_manifest(manifest)
        except RemoteProtocolError as error:
            self._give_up_on(sender, str(error), now)
            return False
        if manifest.size > self._most or self._size not in (-1, manifest.size):
            # The id is right, so everybody's manifest is this one.
            wanted = f"{self._size} were announced" if self._size >= 0 else f"{self._most} fit here"
            self.failure = f"the blob has {manifest.size} bytes, but {wanted}"
            return False
        self.manifest = manifest
        self._missing = len(manifest.digests)
        return True

    def resume(self, have: frozenset[int], now: float) -> None:
        """After the manifest: these blocks lie here from an earlier try, and are checked."""
        assert self.manifest is not None  # noqa: S101 - the order of calls is the caller's duty
        self._todo = deque(i for i in range(len(self.manifest.digests)) if i not in have)
        self._missing = len(self._todo)
        self._ask(now)

    def on_block(self, sender: MachineKey, block: Block, now: float) -> bool:
        """A block; True if it is right and new: then write it."""
        asked = self._asked.get(block.index)
        if self.manifest is None or asked is None or asked[0] != sender or block.index < 0:
            return False
        del self._asked[block.index]
        if block_digest(block.data) != self.manifest.digests[block.index]:
            self._todo.appendleft(block.index)
            self._give_up_on(sender, "sent a block that is not the blob's", now)
            return False
        self._strikes[sender] = 0
        self._missing -= 1
        self._ask(now)
        return True

    def on_missing(self, sender: MachineKey, now: float) -> None:
        """A holder says that it does not have it."""
        if sender in self._holders:
            self._give_up_on(sender, "does not have it", now)

    def lost(self, key: MachineKey, now: float) -> None:
        """A holder is gone."""
        if key in self._holders:
            self._give_up_on(key, "was lost", now)

    def handle_timer(self, now: float) -> None:
        """Ask again what was not answered."""
        late = {key for key, at in self._asked.values() if now - at >= ANSWER_S}
        for key in sorted(late):
            self._strikes[key] = self._strikes.get(key, 0) + 1
            if self._strikes[key] >= STRIKES:
                self._give_up_on(key, "does not answer", now)
            else:
                self._take_back(key)
                # The others first: what was asked of it comes behind their turns.
                self._holders.remove(key)
                self._holders.append(key)
                self._ask(now)

    def next_timer(self) -> float:
        """When a request becomes late."""
        return min((at for _, at in self._asked.values()), default=float("inf")) + ANSWER_S

    def drain(self) -> list[tuple[MachineKey, ManifestRequest | BlockRequest]]:
        """The requests to send."""
        out, self._out = self._out, []
        return out

    def _ask(self, now: float) -> None:
        """Fill every holder's window, one request in turn."""
        if not self._holders:
            if not self.complete:
                self.failure = self.failure or "no machine that is here has it"
            return
        if self.manifest is None:
            if -1 not in self._asked:
                self._asked[-1] = (self._holders[0], now)
                self._out.append((self._holders[0], ManifestRequest(self.blob)))
            return
        load = dict.fromkeys(self._holders, 0)
        for key, _ in self._asked.values():
            load[key] = load.get(key, 0) + 1
        while self._todo:
            key = min(self._holders, key=lambda holder: load[holder])
            if load[key] >= WINDOW:
                return
            index = self._todo.popleft()
            load[key] += 1
            self._asked[index] = (key, now)
            self._out.append((key, BlockRequest(self.blob, index)))

    def _take_back(self, key: MachineKey) -> None:
        """What was asked of this holder is to be asked again."""
        mine = sorted(index for index, (who, _) in self._asked.items() if who == key)
        for index in reversed(mine):
            del self._asked[index]
            if index >= 0:
                self._todo.appendleft(index)

    def _give_up_on(self, key: MachineKey, trouble: str, now: float) -> None:
        self._troubles[key] = trouble
        self._holders.remove(key)
        self._take_back(key)
        self._ask(now)
