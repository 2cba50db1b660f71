"""The bulk header: 28 bytes that survive, and nothing else that is taken."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.errors import LocalProtocolError, RemoteProtocolError
from meshd.wire.bulk import BULK_HEADER_BYTES, BulkHeader, pack, unpack
from meshd.wire.limits import MAX_BULK_PAYLOAD_BYTES, MAX_INT

RANGES = {
    "phase": 255,
    "generation": 2**32 - 1,
    "step": MAX_INT,
    "chunk": 2**32 - 1,
    "hop": 65_535,
    "payload_bytes": MAX_BULK_PAYLOAD_BYTES,
}
HEADERS = st.builds(
    BulkHeader, **{name: st.integers(0, high) | st.just(high) for name, high in RANGES.items()}
)


@given(HEADERS)
def test_every_header_survives(header: BulkHeader) -> None:
    data = pack(header)
    assert len(data) == BULK_HEADER_BYTES == 28
    assert unpack(memoryview(data)) == header


@given(st.binary(max_size=40) | st.binary(max_size=28).map(lambda b: b"mB\x01" + b))
def test_random_bytes_raise_nothing_else(data: bytes) -> None:
    try:
        header = unpack(data)
    except RemoteProtocolError:
        return
    assert pack(header) == data


@pytest.mark.parametrize("name", RANGES)
def test_out_of_range_is_our_mistake(name: str) -> None:
    good = BulkHeader(0, 0, 0, 0, 0, 0)
    for value in (-1, RANGES[name] + 1):
        with pytest.raises(LocalProtocolError, match="out of range"):
            pack(dataclasses.replace(good, **{name: value}))
