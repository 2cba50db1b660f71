"""Manifests, and the plan by which a blob is fetched: bad sources, lost ones, lost messages."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.blobs import (
    BLOCK_BYTES,
    Hasher,
    block_bytes,
    block_count,
    block_digest,
    check_manifest,
    make_manifest,
    manifest_bytes,
    parse_manifest,
)
from meshd.core.errors import RemoteProtocolError
from meshd.core.fetch import ANSWER_S, STRIKES, WINDOW, Fetch
from meshd.core.messages import Block, BlockRequest, Manifest, ManifestRequest
from meshd.core.types import MachineKey
from meshd.wire import limits

A, B, C = (MachineKey(f"{n:02d}" * 20) for n in range(3))
BLOCKS = [bytes([n]) * 10 for n in range(9)]
# The plan never looks at a block's length: ten bytes stand for a MiB in these tests.
MANIFEST = make_manifest(8 * BLOCK_BYTES + 10, tuple(block_digest(block) for block in BLOCKS))


def test_block_size_is_the_wires():
    assert BLOCK_BYTES == limits.BLOCK_BYTES
    assert block_count(limits.MAX_BLOB_BYTES) == limits.MAX_BLOCKS


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3000000])
def test_a_stream_in_any_pieces_gives_the_manifest_of_its_blocks(size):
    rng = random.Random(size)
    data = rng.randbytes(size)
    hasher, position = Hasher(), 0
    while position < size:
        step = rng.randint(1, 700_000)
        hasher.update(data[position : position + step])
        position += step
    manifest = hasher.finish()
    blocks = [data[i : i + BLOCK_BYTES] for i in range(0, size, BLOCK_BYTES)]
    assert manifest == make_manifest(size, tuple(block_digest(block) for block in blocks))
    assert block_count(size) == len(blocks)
    assert [block_bytes(size, i) for i in range(len(blocks))] == [len(block) for block in blocks]
    check_manifest(manifest)
    assert parse_manifest(manifest_bytes(size, manifest.digests)) == manifest


@given(st.binary(max_size=200))
def test_any_bytes_are_a_manifest_in_canonical_form_or_refused(data):
    try:
        manifest = parse_manifest(data)
    except RemoteProtocolError:
        return
    assert manifest_bytes(manifest.size, manifest.digests) == data


def test_a_manifest_of_another_blob_is_refused():
    for wrong in (
        Manifest(MANIFEST.blob, MANIFEST.size + 1, MANIFEST.digests),
        Manifest(MANIFEST.blob, MANIFEST.size, MANIFEST.digests[:-1]),
        Manifest(MANIFEST.blob, MANIFEST.size, MANIFEST.digests[::-1]),
    ):
        with pytest.raises(RemoteProtocolError) as caught:
            check_manifest(wrong)
        assert caught.value.code == "bad-manifest"


def started(*holders, size=-1, most=2**30):
    fetch = Fetch(MANIFEST.blob, holders, size, most)
    fetch.start(0.0)
    return fetch


def with_manifest(*holders, have=()):
    fetch = started(*holders)
    ((asked, request),) = fetch.drain()
    assert (asked, request) == (holders[0], ManifestRequest(MANIFEST.blob))
    assert fetch.on_manifest(asked, MANIFEST, 0.0)
    fetch.resume(frozenset(have), 0.0)
    return fetch


def block(index, data=None):
    return Block(MANIFEST.blob, index, BLOCKS[index] if data is None else data)


def run(fetch, answers, now=0.0):
    """Serve requests until nothing is asked; `answers(key, index)` gives bytes or None."""
    written, asked = {}, []
    while requests := fetch.drain():
        for key, request in requests:
            assert isinstance(request, BlockRequest)
            asked.append((key, request.index))
            data = answers(key, request.index)
            if data is None:
                fetch.on_missing(key, now)
            elif fetch.on_block(key, block(request.index, data), now):
                assert request.index not in written
                written[request.index] = data
    return written, asked


def test_blocks_come_from_all_holders_with_a_bounded_window():
    fetch = with_manifest(A, B)
    requests = fetch.drain()
    assert [sum(key == who for key, _ in requests) for who in (A, B)] == [WINDOW, WINDOW]
    for key, request in requests:
        assert fetch.on_block(key, block(request.index), 0.0)
    written, _ = run(fetch, lambda key, index: BLOCKS[index])
    assert len(written) == len(BLOCKS) - 2 * WINDOW
    assert fetch.complete and not fetch.failure


def test_what_lies_here_already_is_not_asked_for():
    fetch = with_manifest(A, have={0, 1, 2, 3})
    written, _ = run(fetch, lambda key, index: BLOCKS[index])
    assert set(written) == {4, 5, 6, 7, 8}
    assert fetch.complete
    assert with_manifest(A, have=range(9)).complete


def test_a_bad_block_costs_its_sender_and_comes_from_another():
    fetch = with_manifest(A, B)
    written, asked = run(
        fetch, lambda key, index: b"forged" if key == A and index == 2 else BLOCKS[index]
    )
    assert [written[i] for i in range(9)] == BLOCKS
    assert fetch.troubles == {A: "sent a block that is not the blob's"}
    assert (B, 2) in asked


def test_a_holder_without_it_is_not_asked_again():
    fetch = with_manifest(A, B, C)
    written, asked = run(fetch, lambda key, index: None if key == B else BLOCKS[index])
    assert len(written) == 9
    assert 0 < sum(key == B for key, _ in asked) <= WINDOW


def test_nobody_left_is_a_failure_with_the_reason():
    fetch = with_manifest(A, B)
    run(fetch, lambda key, index: None)
    assert fetch.failure == "no machine that is here has it"
    assert set(fetch.troubles) == {A, B}
    alone = Fetch(MANIFEST.blob, (), -1, 10)
    alone.start(0.0)
    assert alone.failure


def test_a_wrong_manifest_is_asked_of_the_next():
    fetch = started(A, B)
    fetch.drain()
    assert not fetch.on_manifest(A, Manifest(MANIFEST.blob, 5, ()), 0.0)
    assert fetch.drain() == [(B, ManifestRequest(MANIFEST.blob))]
    assert not fetch.on_manifest(C, MANIFEST, 0.0), "nobody asked it"
    assert fetch.on_manifest(B, MANIFEST, 0.0)


@pytest.mark.parametrize(
    ("limits_", "what"),
    [({"size": 99}, "but 99 were announced"), ({"most": 99}, "but 99 fit here")],
)
def test_a_blob_of_another_size_or_too_large_is_refused_before_any_block(limits_, what):
    fetch = started(A, B, **limits_)
    fetch.drain()
    assert not fetch.on_manifest(A, MANIFEST, 0.0)
    assert what in fetch.failure
    assert fetch.drain() == []


def test_what_is_not_answered_is_asked_again_and_then_of_others():
    fetch = with_manifest(A, B)
    assert fetch.next_timer() == ANSWER_S
    for key, request in fetch.drain():
        if key == B:
            fetch.on_block(B, block(request.index), 0.0)
    now = 0.0
    for _ in range(STRIKES):
        for key, request in fetch.drain():
            if key == B:
                fetch.on_block(B, block(request.index), now)
        now += ANSWER_S
        fetch.handle_timer(now)
    run(fetch, lambda key, index: BLOCKS[index], now)
    assert fetch.troubles == {A: "does not answer"}
    assert fetch.complete


def test_a_lost_holders_blocks_go_to_the_others():
    fetch = with_manifest(A, B)
    fetch.drain()
    fetch.lost(A, 0.0)
    fetch.handle_timer(ANSWER_S)
    _, asked = run(fetch, lambda key, index: BLOCKS[index])
    assert fetch.complete and {key for key, _ in asked} == {B}


def test_late_foreign_and_double_blocks_are_not_written():
    fetch = with_manifest(A, B)
    fetch.drain()
    assert not fetch.on_block(C, block(0), 0.0)
    assert not fetch.on_block(B, block(0), 0.0), "asked of A"
    assert fetch.on_block(A, block(0), 0.0)
    assert not fetch.on_block(A, block(0), 0.0)
    assert not fetch.on_block(A, Block(MANIFEST.blob, -1, b""), 0.0)
    assert not fetch.on_block(A, Block(MANIFEST.blob, 10**6, b""), 0.0)


@given(st.randoms(use_true_random=False))
def test_one_honest_holder_is_enough(rng):
    """Any mixture of forged, missing, late and lost answers of the others."""
    fetch = with_manifest(A, B, C)
    written, now = {}, 0.0
    for _ in range(200):
        for key, request in fetch.drain():
            what = "good" if key == C else rng.choice(["good", "bad", "missing", "none", "lost"])
            if what in ("good", "bad"):
                data = BLOCKS[request.index] if what == "good" else b"forged"
                if fetch.on_block(key, block(request.index, data), now):
                    written[request.index] = data
            elif what == "missing":
                fetch.on_missing(key, now)
            elif what == "lost":
                fetch.lost(key, now)
        if fetch.complete:
            break
        now = max(now, fetch.next_timer())
        fetch.handle_timer(now)
    assert fetch.complete
    assert [written[i] for i in range(9)] == BLOCKS
