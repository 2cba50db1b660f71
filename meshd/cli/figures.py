"""Numbers and foreign text as a person reads them. Pure functions, no library."""

from __future__ import annotations

NONE = "-"


def bytes_text(count: int) -> str:
    """Bytes with a decimal unit and three digits: `512 B`, `12.3 kB`, `1.20 MB`."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{count} B" if unit == "B" else f"{value:.{_decimals(value)}f} {unit}"
        value /= 1000
    return f"{value:.{_decimals(value)}f} TB"


def _decimals(value: float) -> int:
    """How many digits after the point give three digits in all."""
    return 2 if value < 9.995 else 1 if value < 99.95 else 0


def ratio_text(whole: int | None, part: int) -> str:
    """How many times `part` goes into `whole`: `21x`; one decimal below ten."""
    if not whole or part <= 0:
        return NONE
    ratio = whole / part
    return f"{ratio:.1f}x" if ratio < 10 else f"{ratio:.0f}x"


def duration_text(seconds: float) -> str:
    """A time span in its two largest units: `41 s`, `2 min 5 s`, `1 h 4 min`, `3 d 2 h`."""
    left = max(0, round(seconds))
    parts = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        parts.append((count, unit))
    while len(parts) > 1 and parts[0][0] == 0:
        parts.pop(0)
    return " ".join(f"{count} {unit}" for count, unit in parts[:2] if count or len(parts) == 1)


def age_text(seconds: float | None) -> str:
    """How long ago something was heard: `now`, `8 s ago`, `3 min ago`, or `never`."""
    if seconds is None or seconds < 0:
        return "never"
    if seconds < 2:
        return "now"
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return f"{seconds:.0f} s ago"


def percent_text(share: float | None) -> str:
    """A share of 1 as `96.1 %`; a negative one stands for "not known yet"."""
    return NONE if share is None or share < 0 else f"{100 * share:.1f} %"


def count_text(count: int, noun: str) -> str:
    """`1 machine`, `3 machines`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def printable(text: str) -> str:
    """Text of another machine without what could steer our terminal: control and format characters
    (Unicode Cc, Cf: escape sequences, right-to-left marks) become `?`."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)
