"""The only clock and the only chance of the daemon; the core gets both from here."""

from __future__ import annotations

import datetime
import secrets
import time


def now() -> float:
    """Monotonic seconds in which suspended time counts: a machine that slept notices."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def unix_time() -> float:
    """Seconds since 1970, to show and to order jobs by; never to measure with."""
    return time.time()


def iso_time() -> str:
    """Local date and time with its offset, to the second, for lines that people read."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def boot_number() -> int:
    """A number that no other run of a daemon has: as many random bits as the wire carries."""
    return secrets.randbits(53)
