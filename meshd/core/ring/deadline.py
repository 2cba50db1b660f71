"""How long to wait for a member before complaining: learnt from what steps took, never fixed.

    mean      m <- m + (x - m) / 8           deviation   d <- d + (|x - m| - d) / 4
    limit     m + slack,    slack = 4 d, at least FLOOR_S + m / 2, at most max(CEILING_S, m)

These are the retransmission timer's gains (RFC 6298, section 2: the first duration x gives m = x,
d = x / 2). A duration above the limit counts as the limit, so one frozen machine does not make the
ring patient with the next, and a lasting slowdown is still learnt: a tenfold one in 4 steps.
"""

from __future__ import annotations

import math

DEFAULT_S = 30.0
"""Before anything was observed: a first step loads code, draws memory and reads data from disk."""

FLOOR_S = 0.5
"""A scheduler's hiccup, garbage collection or TCP's retransmission (at least 0.2 s on Linux) is no
failure; a pulled cable must be noticed in time for a next step within 3 s."""

CEILING_S = 30.0
"""Nobody waits more than this beyond the usual for a machine that may be gone, unless steps take
longer than this themselves."""

RELAXED_S = 2.0
"""Slack right after a change of members: new links, new shares, cold caches."""


class Deadline:
    """One member's estimate of how long something may take: a step, an answer, a pause.

    first, floor, ceiling: what stands for `DEFAULT_S`, `FLOOR_S` and `CEILING_S`.
    """

    def __init__(
        self, first: float = DEFAULT_S, floor: float = FLOOR_S, ceiling: float = CEILING_S
    ) -> None:
        self._first = first
        self._floor = floor
        self._ceiling = ceiling
        self._mean: float | None = None
        self._deviation = 0.0

    def observe(self, seconds: float) -> None:
        """Take in what a step took.

        Raises:
            ValueError: it is negative or no number.
        """
        if not 0 <= seconds < math.inf:
            raise ValueError(f"a step cannot take {seconds} s")
        if self._mean is None:
            self._mean, self._deviation = seconds, seconds / 2
            return
        off = min(seconds, self.limit()) - self._mean
        self._deviation += (abs(off) - self._deviation) / 4
        self._mean += off / 8

    def relax(self) -> None:
        """The members have changed: what steps take may, too. Wears off as steps are observed."""
        if self._mean is not None:
            self._deviation = max(self._deviation, self._mean / 2, RELAXED_S / 4)

    def limit(self) -> float:
        """Seconds after which whoever is still awaited is worth a complaint."""
        if self._mean is None:
            return self._first
        slack = max(4 * self._deviation, self._floor + self._mean / 2)
        return self._mean + min(slack, max(self._ceiling, self._mean))
