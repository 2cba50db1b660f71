"""Frames that came before their time: kept in order, and no more of one sender than is plausible.

A limit for each sender, so that one that floods takes nobody else's room.
"""

from __future__ import annotations

from meshd.core.ring.effects import FrameHead
from meshd.core.ring.replica import Payload
from meshd.core.types import MachineKey

EARLY_FRAMES_MAX = 8192
"""Frames of one sender, of a step or ring that this member has not reached. A neighbour is at most
a step ahead, and a step has two frames for each of a few hundred chunks."""

EARLY_BYTES_MAX = 256 << 20
"""Bytes of them, unless the caller says otherwise: a step of 64 million parameters in float32."""


class EarlyFrames:
    """What one member keeps for later."""

    def __init__(self, most_bytes: int = EARLY_BYTES_MAX) -> None:
        """`most_bytes`: of one sender."""
        self._most_bytes = most_bytes
        self._frames: list[tuple[MachineKey, FrameHead, Payload]] = []
        self._of: dict[MachineKey, tuple[int, int]] = {}
        """Sender -> its frames and bytes in `_frames`."""

    def keep(self, sender: MachineKey, head: FrameHead, payload: Payload) -> bool:
        """Keep a frame; False if this sender's are too many already."""
        frames, size = self._of.get(sender, (0, 0))
        frames, size = frames + 1, size + memoryview(payload).nbytes
        if frames > EARLY_FRAMES_MAX or size > self._most_bytes:
            return False
        self._of[sender] = frames, size
        self._frames.append((sender, head, payload))
        return True

    def take(self) -> list[tuple[MachineKey, FrameHead, Payload]]:
        """All of them in the order in which they came; none is kept any more."""
        frames, self._frames = self._frames, []
        self._of.clear()
        return frames
