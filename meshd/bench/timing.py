"""Interleaved timing: every competitor takes its turn, round after round, so that whatever disturbs
the machine for a while disturbs all of them alike, and ratios hold where seconds do not."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)

# A turn repeats a short call until the clock's resolution and the cost of reading it are nothing.
TURN_S = 2e-3
# Others have used the caches since the last turn: a short call runs once untimed. A longer one has
# its data from memory anyway.
WARM_BELOW_S = 20e-3


def nothing() -> None:
    """Prepare nothing."""


@dataclass(frozen=True)
class Turn:
    """One competitor: `call` is timed, `before` runs untimed ahead of every turn.

    once: a second call without `before` would do something else, so a turn is a single call.
    """

    call: Callable[[], object]
    before: Callable[[], object] = nothing
    once: bool = False


@dataclass
class Times:
    """Seconds of one call, one figure a turn."""

    seconds: list[float] = field(default_factory=list)

    @property
    def best(self) -> float:
        """The least disturbed turn."""
        return min(self.seconds)

    @property
    def median(self) -> float:
        """The usual turn."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Effort:
    """How long a contest may take, and how often each competitor runs within it.

    clock: what seconds are read from, None: `time.perf_counter`. Where all run on one thread,
    `time.process_time` leaves out what others compute on the same core meanwhile.
    """

    seconds: float
    least_turns: int = 3
    most_turns: int = 40
    clock: Callable[[], float] | None = None


def interleave(turns: Mapping[Name, Turn], effort: Effort) -> dict[Name, Times]:
    """Time all competitors, A B C A B C ...; each gets an equal share of the effort's seconds.

    least_turns to most_turns, spread evenly over the rounds. One whose single call takes more than
    its share and an eighth of the effort runs once.
    """
    clock = effort.clock or time.perf_counter
    share_s = effort.seconds / max(len(turns), 1)
    longest_s = max(share_s, effort.seconds / 8)
    times = {name: Times() for name in turns}
    first = {name: first_call(turn, clock) for name, turn in turns.items()}
    wanted: dict[Name, int] = {}
    for name, call_s in first.items():
        if call_s > longest_s:
            times[name].seconds.append(call_s)
            wanted[name] = 0
        else:
            affordable = int(share_s / max(call_s * sum(calls(turns[name], call_s)), TURN_S))
            wanted[name] = max(effort.least_turns, min(effort.most_turns, affordable))
    for name in schedule(wanted):
        times[name].seconds.append(one_turn(turns[name], first[name], clock))
    return times


def schedule(wanted: Mapping[Name, int]) -> Iterator[Name]:
    """Names in the order of their turns: in rounds, each name evenly over all of them."""
    rounds = max(wanted.values(), default=0)
    for i in range(rounds):
        for name, turns in wanted.items():
            if (i + 1) * turns // rounds > i * turns // rounds:
                yield name


def first_call(turn: Turn, clock: Callable[[], float]) -> float:
    """Seconds of a call; of the second one, unless it is long: the first may set something up."""
    seconds = one_call(turn, clock)
    return seconds if seconds > 1 else one_call(turn, clock)


def one_call(turn: Turn, clock: Callable[[], float]) -> float:
    """Seconds of one call."""
    turn.before()
    start = clock()
    turn.call()
    return clock() - start


def one_turn(turn: Turn, call_s: float, clock: Callable[[], float]) -> float:
    """Seconds of one call, averaged over the turn of a call that takes about `call_s`."""
    turn.before()
    call = turn.call
    warming, timed = calls(turn, call_s)
    for _ in range(warming):
        call()
    start = clock()
    for _ in range(timed):
        call()
    return (clock() - start) / timed


def calls(turn: Turn, call_s: float) -> tuple[int, int]:
    """How many calls, untimed and timed, make a turn."""
    if turn.once:
        return 0, 1
    return int(call_s < WARM_BELOW_S), max(1, math.ceil(TURN_S / max(call_s, 1e-9)))
