"""Link rates: reading them, and the token bucket that makes a link of one.

The kernel's `tbf` counts Ethernet frames without preamble, checksum and gap: 1514 bytes for 1448 of
TCP payload, so a plain TCP stream reaches at most 95.6 % of the rate.

burst   1 ms of the rate, but at least 16 KiB: a link that lets 64 KiB pass at once is none of
        100 Mbit. Measured, one TCP stream, on two cores: at 1 Gbit 16 KiB gives 859 Mbit/s, 64 KiB
        942, 128 KiB 955; at 100 Mbit 4, 16 and 64 KiB all give 95.6.
packet  what the stack hands over as one, to be cut into frames later (`gso_max_size`): no more than
        the bucket holds. A larger one the bucket would cut itself, and wake for every frame, at a
        cost of processor time that the hosts, which share the processor, then lack. Measured, a
        ring of 8 hosts that all send at 100 Mbit: 14 ns a byte, against 2 with packets that fit. A
        connection keeps the size that was there when it was made: after a change of the rate old
        connections cost more, and are as fast.
limit   what waits before packets are dropped: 20 ms of the rate, within 256 KiB and 1 MiB, as a
        switch of an office has it. Measured: a stream of CUBIC leaves 0.15 MB waiting at 100 Mbit,
        0.3 MB at 1 Gbit, in the sender's own queue, and nothing at the switch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from meshd.core.errors import UsageError

UNITS = {"kbit": 1_000, "mbit": 1_000_000, "gbit": 1_000_000_000}
LEAST_RATE, MOST_RATE = 64_000, 100_000_000_000  # bits per second

BURST_S, LEAST_BURST_BYTES = 1e-3, 16 << 10
MOST_PACKET_BYTES = 65_536  # the kernel's own choice
QUEUE_S, LEAST_QUEUE_BYTES, MOST_QUEUE_BYTES = 20e-3, 256 << 10, 1 << 20


@dataclass(frozen=True)
class Bucket:
    """One direction of a link: rate in bits per second, sizes in bytes."""

    rate: int
    burst_bytes: int
    queue_bytes: int

    @property
    def packet_bytes(self) -> int:
        """What the stack may hand over as one. Its frames' own headers, 1/20 more, fit too."""
        return min(self.burst_bytes * 9 // 10, MOST_PACKET_BYTES)

    def arguments(self) -> list[str]:
        """As `tc qdisc` wants them."""
        sizes = ["burst", f"{self.burst_bytes}b", "limit", f"{self.queue_bytes}b"]
        return ["tbf", "rate", f"{self.rate}bit", *sizes]


def parse_rate(text: str) -> int:
    """`100mbit`, `2.5gbit` -> bits per second.

    Raises:
        UsageError: not a rate, or none of a link.
    """
    match = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?)(kbit|mbit|gbit)", text.strip().lower())
    if match is None:
        raise UsageError(f"{text!r} is no rate; write it as 100mbit or 1gbit")
    rate = round(float(match[1]) * UNITS[match[2]])
    if not LEAST_RATE <= rate <= MOST_RATE:
        raise UsageError(f"a rate of {text}: must be 64kbit to 100gbit")
    return rate


def rate_text(rate: int) -> str:
    """Bits per second -> `100mbit`."""
    for unit, size in reversed(UNITS.items()):
        if rate >= size:
            return f"{rate / size:g}{unit}"
    return f"{rate / 1000:g}kbit"


def bucket_of(rate: int) -> Bucket:
    """The bucket of a link of so many bits per second."""
    burst = max(round(rate / 8 * BURST_S), LEAST_BURST_BYTES)
    queue = round(rate / 8 * QUEUE_S)
    queue = min(max(queue, LEAST_QUEUE_BYTES), MOST_QUEUE_BYTES)
    return Bucket(rate, burst, max(queue, 2 * burst))
