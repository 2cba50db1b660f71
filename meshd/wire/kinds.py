"""What a field may hold, and how it looks on the wire: one small class for each kind of value.

`dump` turns Python into what msgpack writes, `load` turns what msgpack read into Python; both
check the same limits and raise `Violation`, which the codec turns into the error that says whose
fault it is. `largest_bytes` bounds the encoding, so a message's own size cap follows from its
fields. `describe` is the field's entry in `proto/messages.toml`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Protocol

from meshd.wire.limits import MAX_INT

Z85 = r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]"
"""The alphabet of ZeroMQ RFC 32."""

SHAPES: dict[str, re.Pattern[str]] = {
    "text": re.compile(r"[^\x00]*"),
    "line": re.compile(r".*"),  # and printable: checked by str.isprintable
    "path": re.compile(r"(/[^\x00]*)?"),
    "word": re.compile(r"[a-z][a-z-]*"),
    "name": re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*"),
    # No '/', ';' or '*': the host becomes part of a ZeroMQ endpoint.
    "host": re.compile(r"[0-9A-Za-z.:%_-]*"),
    "key": re.compile(Z85 + r"{40}"),
    "key-or-empty": re.compile(rf"({Z85}{{40}})?"),
    "job": re.compile(r"[0-9a-f]{32}"),
    "blob": re.compile(r"[0-9a-f]{64}"),
    "blob-or-empty": re.compile(r"([0-9a-f]{64})?"),
    "state": re.compile("waiting|forming|training|stopped|failed|done|cancelled"),
    "hex": re.compile(r"([0-9a-f]{2})*"),
}
"""Shapes of text. A line is text that a terminal may show as it is: no control characters."""


class Violation(Exception):
    """A value breaks its field's limits. `code` as in `RemoteProtocolError`."""

    def __init__(self, code: str, path: str, what: str) -> None:
        super().__init__(f"{path}: {what}")
        self.code = code


class Kind(Protocol):
    """One kind of value. `path` names the field in errors."""

    def load(self, value: object, path: str) -> Any:
        """From what msgpack read; raises Violation."""

    def dump(self, value: object, path: str) -> Any:
        """To what msgpack writes; raises Violation."""

    def describe(self) -> dict[str, Any]:
        """The entry in `proto/messages.toml`."""

    @property
    def largest_bytes(self) -> int:
        """No valid value's encoding is longer."""


def _wrong_type(value: object, path: str, wanted: str) -> Violation:
    return Violation("wrong-type", path, f"{type(value).__name__} where {wanted} belongs")


@dataclass(frozen=True)
class Flag:
    """true or false."""

    largest_bytes: int = 1

    def load(self, value: object, path: str) -> bool:
        """A bool and nothing like it."""
        if not isinstance(value, bool):
            raise _wrong_type(value, path, "a bool")
        return value

    dump = load

    def describe(self) -> dict[str, Any]:
        """No limits."""
        return {"type": "bool"}


@dataclass(frozen=True)
class Whole:
    """A whole number, low <= value <= high. A bool is none, though Python's is a subclass."""

    low: int = 0
    high: int = MAX_INT
    largest_bytes: int = 9

    def load(self, value: object, path: str) -> int:
        """An int within bounds."""
        if isinstance(value, bool) or not isinstance(value, int):
            raise _wrong_type(value, path, "a whole number")
        if not self.low <= value <= self.high:
            bounds = f"{self.low} to {self.high}"
            raise Violation("out-of-bounds", path, f"{value} is out of bounds, {bounds}")
        return int(value)

    dump = load

    def describe(self) -> dict[str, Any]:
        """With both bounds."""
        return {"type": "int", "min": self.low, "max": self.high}


@dataclass(frozen=True)
class Real:
    """A finite float64, low <= value <= high."""

    low: float = -1e300
    high: float = 1e300
    largest_bytes: int = 9

    def load(self, value: object, path: str) -> float:
        """A float: a whole number is another type on the wire."""
        if not isinstance(value, float):
            raise _wrong_type(value, path, "a float")
        if not (math.isfinite(value) and self.low <= value <= self.high):
            bounds = f"{self.low:g} to {self.high:g}"
            raise Violation("out-of-bounds", path, f"{value!r} is out of bounds, {bounds}")
        return value

    def dump(self, value: object, path: str) -> float:
        """Our own code may say 0 for 0.0."""
        whole = isinstance(value, int) and not isinstance(value, bool)
        return self.load(float(value) if whole else value, path)  # type: ignore[arg-type]

    def describe(self) -> dict[str, Any]:
        """With both bounds."""
        return {"type": "float", "min": self.low, "max": self.high}


@dataclass(frozen=True)
class Text:
    """A string of low..high bytes of UTF-8 that matches one of SHAPES."""

    shape: str
    high: int
    low: int = 0

    def load(self, value: object, path: str) -> str:
        """Length first, then shape."""
        if not isinstance(value, str):
            raise _wrong_type(value, path, "text")
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            raise Violation("malformed", path, "text with lone surrogates") from None
        if not self.low <= size <= self.high:
            bounds = f"{self.low} to {self.high}"
            raise Violation("out-of-bounds", path, f"text of {size} bytes, allowed {bounds}")
        fits = SHAPES[self.shape].fullmatch(value)
        if not fits or (self.shape == "line" and not value.isprintable()):
            raise Violation("bad-shape", path, f"not of the shape '{self.shape}'")
        return str(value)

    def dump(self, value: object, path: str) -> str:
        """A line, which is only ever shown to people, is made showable rather than refused: it
        often quotes another program's error. Everything else must already be right."""
        if self.shape == "line" and isinstance(value, str):
            value = self._showable(value)
        return self.load(value, path)

    def _showable(self, value: str) -> str:
        line = "".join(c if c.isprintable() else " " for c in value)
        raw = line.encode()
        if len(raw) <= self.high:
            return line
        return raw[: self.high - 3].decode(errors="ignore") + "..."

    def describe(self) -> dict[str, Any]:
        """Shape, and length in bytes of UTF-8."""
        return {"type": "str", "shape": self.shape, "min": self.low, "max": self.high}

    @property
    def largest_bytes(self) -> int:
        """Header of str 32 and the text."""
        return 5 + self.high


@dataclass(frozen=True)
class Raw:
    """low..high bytes."""

    high: int
    low: int = 0

    def load(self, value: object, path: str) -> bytes:
        """Bytes only; a memoryview is for the sending side."""
        if not isinstance(value, bytes):
            raise _wrong_type(value, path, "bytes")
        if not self.low <= len(value) <= self.high:
            bounds = f"{self.low} to {self.high}"
            raise Violation("out-of-bounds", path, f"{len(value)} bytes, allowed {bounds}")
        return value

    def dump(self, value: object, path: str) -> bytes:
        """Takes views and bytearrays as well."""
        return self.load(
            bytes(value) if isinstance(value, (bytearray, memoryview)) else value, path
        )

    def describe(self) -> dict[str, Any]:
        """Length in bytes."""
        return {"type": "bytes", "min": self.low, "max": self.high}

    @property
    def largest_bytes(self) -> int:
        """Header of bin 32 and the bytes."""
        return 5 + self.high


@dataclass(frozen=True)
class Many:
    """A tuple of up to `high` items of one kind; an array on the wire."""

    item: Kind
    high: int

    def load(self, value: object, path: str) -> tuple[Any, ...]:
        """From a list."""
        if not isinstance(value, list):
            raise _wrong_type(value, path, "an array")
        self._check_count(len(value), path)
        return tuple(self.item.load(v, f"{path}[{i}]") for i, v in enumerate(value))

    def dump(self, value: object, path: str) -> list[Any]:
        """To a list."""
        if not isinstance(value, tuple):
            raise _wrong_type(value, path, "a tuple")
        self._check_count(len(value), path)
        return [self.item.dump(v, f"{path}[{i}]") for i, v in enumerate(value)]

    def _check_count(self, count: int, path: str) -> None:
        if count > self.high:
            raise Violation("out-of-bounds", path, f"{count} items, allowed {self.high}")

    def describe(self) -> dict[str, Any]:
        """Items and how many."""
        return {"type": "array", "max": self.high, "items": self.item.describe()}

    @property
    def largest_bytes(self) -> int:
        """Header of array 32 and the items."""
        return 5 + self.high * self.item.largest_bytes


@dataclass(frozen=True)
class Record:
    """A dataclass; a map from field names to values on the wire, with all fields and no others."""

    cls: type[Any]
    fields: dict[str, Kind]

    def load(self, value: object, path: str) -> Any:
        """From a dict."""
        if not isinstance(value, dict):
            raise _wrong_type(value, path, "a map")
        if value.keys() != self.fields.keys():
            self._refuse_names(value, path)
        return self.cls(
            **{name: kind.load(value[name], f"{path}.{name}") for name, kind in self.fields.items()}
        )

    def _refuse_names(self, value: dict[Any, Any], path: str) -> None:
        for name in value:
            if name not in self.fields:
                raise Violation("unknown-field", path, f"unknown field {str(name)[:40]!r}")
        missing = ", ".join(name for name in self.fields if name not in value)
        raise Violation("missing-field", path, f"without {missing}")

    def dump(self, value: object, path: str) -> dict[str, Any]:
        """To a dict, in the order of the fields: equal messages give equal bytes."""
        if type(value) is not self.cls:
            raise _wrong_type(value, path, f"a {self.cls.__name__}")
        return {
            name: kind.dump(getattr(value, name), f"{path}.{name}")
            for name, kind in self.fields.items()
        }

    def describe(self) -> dict[str, Any]:
        """By name: parts have a table of their own in the contract."""
        return {"type": self.cls.__name__}

    @property
    def largest_bytes(self) -> int:
        """Header of map 16, names as str 8, values."""
        return 3 + sum(2 + len(name) + kind.largest_bytes for name, kind in self.fields.items())
