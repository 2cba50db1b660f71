"""The network between the machines of a world: what it does to frames and to control messages.

Frames on one link arrive in order or not at all; different links know nothing of each other.
Control messages, between daemons, come late, twice, out of order, or not.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from meshd.core.ring.effects import FrameHead


@dataclass
class Weather:
    """How bad the network is: probabilities for one message, and seconds."""

    frame_loss: float = 0.0
    control_loss: float = 0.0
    copies: float = 0.0
    delay_s: float = 0.002
    control_delay_s: float = 0.02


Hook = Callable[[str, str, str, FrameHead | None], str | None]
"""Asked before anything is handed over: (what, from, to, a frame's head) -> None, or "lose",
or "twice". What: a phase's name, or PROPOSE, ACK, COMMIT, COMPLAINT."""


class Links:
    """Delivery under a virtual clock: `after(seconds, act)` runs what is due."""

    def __init__(
        self,
        chance: random.Random,
        weather: Weather,
        after: Callable[[float, Callable[[], None]], None],
        now: Callable[[], float],
    ) -> None:
        self.weather = weather
        self.hook: Hook | None = None
        self.cuts: set[frozenset[str]] = set()
        """Sides that hear nothing of the others."""
        self.lost: Counter[str] = Counter()
        self._random = chance
        self._after = after
        self._now = now
        self._free: dict[tuple[str, str], float] = {}
        """When a link has handed over all that is on it."""
        self._held: dict[tuple[str, str], float] = {}
        self._epoch: Counter[tuple[str, str]] = Counter()

    def cut(self, a: str, b: str) -> bool:
        """Whether nothing passes between two machines."""
        return any((a in side) != (b in side) for side in self.cuts)

    def drop(self, a: str, b: str) -> None:
        """What is on the link from a to b never arrives."""
        self._epoch[a, b] += 1

    def hold(self, a: str, b: str, seconds: float) -> None:
        """What is on the link from a to b, and what follows, comes so much later, in order."""
        self._held[a, b] = self._now() + seconds

    def control(self, what: str, a: str, b: str, act: Callable[[], None]) -> None:
        """A message between two daemons. To itself: at once."""
        if a == b:
            self._after(0.0, lambda: self._hand_over(what, a, b, None, act))
            return
        weather = self.weather
        for _ in range(1 + (self._random.random() < weather.copies)):
            if self._random.random() < weather.control_loss:
                self.lost["control"] += 1
                continue
            delay = self._random.uniform(0.0001, weather.control_delay_s)
            self._after(delay, lambda: self._arrive(what, a, b, act))

    def _arrive(self, what: str, a: str, b: str, act: Callable[[], None]) -> None:
        if not self.cut(a, b):
            self._hand_over(what, a, b, None, act)

    def frame(self, a: str, b: str, head: FrameHead, act: Callable[[], None]) -> None:
        """A frame on the link from a to b."""
        link, weather, epoch = (a, b), self.weather, self._epoch[a, b]
        at = max(self._free.get(link, 0.0), self._now() + self._random.uniform(0, weather.delay_s))
        self._free[link] = at
        if self._random.random() < weather.frame_loss:
            self.lost["frame"] += 1
            return

        def arrive() -> None:
            until = self._held.get(link, 0.0)
            if self._now() < until:
                self._after(until - self._now(), arrive)
            elif self._epoch[link] == epoch and not self.cut(*link):
                self._hand_over(head.phase.name, a, b, head, act)

        for _ in range(1 + (self._random.random() < weather.copies)):
            self._after(at - self._now(), arrive)

    def _hand_over(
        self, what: str, a: str, b: str, head: FrameHead | None, act: Callable[[], None]
    ) -> None:
        fate = self.hook(what, a, b, head) if self.hook else None
        if fate == "lose":
            self.lost["by hand"] += 1
            return
        act()
        if fate == "twice":
            act()
