"""What members gather from all others between two steps; the numbers are on the wire."""

from __future__ import annotations

from enum import IntEnum
from typing import Protocol


class Kind(IntEnum):
    """What the payloads of one gathering are."""

    TALLY = 1
    """Correct answers and samples of an evaluation."""
    STATISTICS = 2
    """Running statistics of normalisation."""
    PACE = 3
    """Seconds that a member's share took."""
    HASH = 4
    """What a member holds, digested."""
    END = 5
    """The last step is committed."""


class Gatherer(Protocol):
    """The part of a `Collective` that gathers."""

    def gather(self, kind: int, payload: bytes) -> tuple[bytes, ...]:
        """Every member's payload of this kind, by rank."""
        ...
