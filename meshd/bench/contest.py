"""What is timed against what: a contest is one problem, the references that others would solve it
with, and our kernels. Pure data: `results` times it and makes its rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from meshd.bench.timing import Turn


@dataclass(frozen=True)
class Entry:
    """One competitor.

    ceiling: the name of the one that bounds it; None when none was found to.
    bytes_moved: of a kernel that is bound by memory; its contest's times then give bytes a second.
    error: takes the float64 error of one more call, as a share of the largest true value.
    one_thread: the same on one thread, where `threads` are more.
    via: the function that does it, where the kernel's name does not say.
    """

    kernel: str
    turn: Turn
    coding: str
    isa: str
    threads: int
    beta: int | None = None
    ceiling: str | None = None
    bytes_moved: float | None = None
    error: Callable[[], float] | None = None
    one_thread: Turn | None = None
    via: str | None = None


@dataclass(frozen=True)
class Contest:
    """One problem, m x k x n; operations are 2 m k n, None where a rate of them says nothing.

    family: "forward", "backward", "conv" or "stream"; within one, every problem has its own size.
    """

    family: str
    m: int
    k: int
    n: int
    entries: list[Entry]
    references: list[Entry]
    operations: float | None
    unavailable: dict[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """`forward 256 x 256 x 256`."""
        return f"{self.family} {self.m} x {self.k} x {self.n}"
