"""A sentence for a person, whatever it quotes: one printable line of bounded length."""

from __future__ import annotations

MAX_LINE_BYTES = 1000  # of UTF-8: a few lines of a terminal; the wire's limit for a reason


def one_line(text: str) -> str:
    """The text with control characters as spaces, cut to `MAX_LINE_BYTES`.

    Applied where a sentence enters a record, so that all replicas hold the same bytes.
    """
    line = "".join(char if char.isprintable() else " " for char in text)
    raw = line.encode(errors="replace")
    if len(raw) <= MAX_LINE_BYTES:
        return raw.decode()
    return raw[: MAX_LINE_BYTES - 3].decode(errors="ignore") + "..."
