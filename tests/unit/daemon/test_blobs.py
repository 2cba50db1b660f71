"""The store keeps what its names promise: whole, verified, under the cap, or nothing at all."""

from __future__ import annotations

import errno
import os
import random
import stat

import pytest

from meshd.core.blobs import BLOCK_BYTES, block_digest
from meshd.core.errors import FailureError
from meshd.daemon.blobs import BlobStore, Partial, disk_error, seal

KIB = 1024


@pytest.fixture
def store(tmp_path):
    (tmp_path / "blobs").mkdir()
    store = BlobStore(tmp_path / "blobs", 10 * BLOCK_BYTES)
    store.scan()
    return store


def content(size, seed=0):
    return random.Random(seed).randbytes(size)


async def put(store, data):
    upload = store.begin_upload(len(data))
    upload.write(data)
    return await upload.finish(upload.close())


def names(store):
    return sorted(path.name for path in store.folder.iterdir())


def test_an_upload_becomes_a_blob_with_its_blocks(store, run_async):
    data = content(2 * BLOCK_BYTES + 5)
    blob = run_async(put(store, data))
    assert store.held(blob) and store.size(blob) == len(data)
    assert store.path(blob).read_bytes() == data
    assert stat.S_IMODE(store.path(blob).stat().st_mode) == 0o600
    manifest = store.manifest(blob)
    blocks = [store.read_block(blob, index) for index in range(3)]
    assert b"".join(blocks) == data
    assert [block_digest(block) for block in blocks] == list(manifest.digests)
    assert store.read_block(blob, 3) is None and store.read_block(blob, -1) is None
    assert names(store) == [blob, f"{blob}.manifest"]


def test_the_same_content_is_one_blob(store, run_async):
    first, second = run_async(put(store, b"same")), run_async(put(store, b"same"))
    assert first == second and store.used_bytes == 4
    assert len(names(store)) == 2


@pytest.mark.parametrize("data", [b"too long by far", b"short"])
def test_an_upload_of_another_size_leaves_nothing(store, data):
    upload = store.begin_upload(10)
    with pytest.raises(FailureError, match="10 bytes announced"):
        upload.write(data)
        upload.close()
    upload.abandon()
    assert names(store) == [] and store.used_bytes == 0


def test_what_an_earlier_run_left_is_sorted_out(store, run_async):
    good, torn, orphan = (run_async(put(store, content(100, n))) for n in range(3))
    (store.folder / torn).write_bytes(b"torn")
    (store.folder / f"{orphan}.manifest").unlink()
    (store.folder / ".new-abc").write_bytes(b"half an upload")
    (store.folder / ("e" * 64 + ".manifest")).write_bytes(b"rubbish")
    again = BlobStore(store.folder, store.cap_bytes)
    again.scan()
    assert again.held(good) and not again.held(torn) and not again.held(orphan)
    assert names(again) == [good, f"{good}.manifest"]


def test_the_blob_unused_for_longest_goes_first(store, run_async):
    blobs = [run_async(put(store, content(3 * BLOCK_BYTES, n))) for n in range(3)]
    for age, blob in zip((30, 10, 20), blobs, strict=True):
        path = store.folder / blob
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    again = BlobStore(store.folder, store.cap_bytes)
    again.scan()
    again.path(blobs[0])
    run_async(put(again, content(3 * BLOCK_BYTES, 9)))
    assert [again.held(blob) for blob in blobs] == [True, True, False]
    assert again.used_bytes <= again.cap_bytes


def test_pinned_blobs_stay_and_the_refusal_says_what_to_do(store, run_async):
    blobs = [run_async(put(store, content(3 * BLOCK_BYTES, n))) for n in range(3)]
    store.pin(frozenset(blobs), frozenset())
    with pytest.raises(FailureError, match=r"no room for 2097152 bytes.*raise --cache-bytes"):
        store.begin_upload(2 * BLOCK_BYTES)
    assert all(store.held(blob) for blob in blobs)
    store.pin(frozenset(blobs[:2]), frozenset(blobs[2:]))
    assert all(store.held(blob) for blob in blobs)
    store.begin_upload(2 * BLOCK_BYTES).abandon()
    assert [store.held(blob) for blob in blobs] == [True, True, False]


def test_a_superseded_checkpoint_goes_at_once_and_cached_data_stays(store, run_async):
    """Seven minutes of checkpoints were 21,000 files of ended jobs, 1 kB of memory each."""
    data, old = run_async(put(store, content(100, 0))), run_async(put(store, content(100, 1)))
    store.pin(frozenset({data, old}), frozenset({data}))
    new = run_async(put(store, content(100, 2)))
    store.pin(frozenset({new}), frozenset({data}))
    assert [store.held(blob) for blob in (data, old, new)] == [True, False, True]
    assert sorted(names(store)) == sorted([data, f"{data}.manifest", new, f"{new}.manifest"])


def test_what_an_earlier_run_left_behind_goes_at_the_first_pin(store, run_async):
    data, slice_blob, orphan = [run_async(put(store, content(9, n))) for n in range(3)]
    again = BlobStore(store.folder, store.cap_bytes)
    again.scan()
    fresh = run_async(put(again, content(100, 7)))
    again.pin(frozenset({slice_blob, fresh}), frozenset({data}))
    assert [again.held(b) for b in (data, slice_blob, orphan, fresh)] == [True, True, False, True]
    later = run_async(put(again, content(100, 8)))  # on its way to becoming part of a record
    again.pin(frozenset({slice_blob}), frozenset({data}))
    assert again.held(later)


def test_room_is_promised_only_once(store):
    store.begin_upload(6 * BLOCK_BYTES)
    with pytest.raises(FailureError, match="no room"):
        store.begin_upload(6 * BLOCK_BYTES)


def test_a_full_disk_is_one_line_and_leaves_nothing(store, monkeypatch):
    upload = store.begin_upload(100)

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("meshd.daemon.blobs.os.fsync", full)
    upload.write(content(100))
    with pytest.raises(FailureError, match="the disk is full: the data could not be written"):
        upload.close()
    upload.abandon()
    assert names(store) == [] and store.used_bytes == 0
    assert "Permission denied" in str(disk_error(PermissionError(13, "Permission denied"), "x"))


def test_a_really_full_disk(store):
    """/dev/full answers every write with ENOSPC (full(4))."""
    upload = store.begin_upload(1 << 20)
    upload._file.close()
    with open("/dev/full", "wb", buffering=0) as full:
        upload._file = full
        with pytest.raises(FailureError, match="the disk is full"):
            upload.write(content(1 << 20))
    upload.abandon()
    assert names(store) == []


def test_a_fetch_resumes_what_is_right_and_drops_what_is_not(store, run_async, tmp_path):
    data = content(3 * BLOCK_BYTES + 7)
    source = tmp_path / "source"
    source.write_bytes(data)
    manifest = seal(source)
    partial = Partial(store, manifest)
    for index in (0, 1, 3):
        block = data[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES]
        partial.write(index, block if index != 1 else b"\0" * BLOCK_BYTES)
    partial.suspend()
    assert not store.held(manifest.blob)

    again = BlobStore(store.folder, store.cap_bytes)
    again.scan()
    assert not again.held(manifest.blob)
    partial = Partial(again, manifest)
    assert partial.present() == {0, 3}
    for index in (1, 2):
        partial.write(index, data[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES])
    run_async(partial.finish())
    assert again.path(manifest.blob).read_bytes() == data
    assert names(again) == [manifest.blob, f"{manifest.blob}.manifest"]


def test_a_block_of_another_length_is_refused(store, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(content(10))
    partial = Partial(store, seal(source))
    with pytest.raises(FailureError, match="lies about its size"):
        partial.write(0, content(11))
    partial.abandon()
    assert names(store) == [] and store.used_bytes == 0


def test_idle_parts_make_room_for_what_is_wanted_now(store, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(content(6 * BLOCK_BYTES))
    Partial(store, seal(source)).suspend()
    assert store.used_bytes == 6 * BLOCK_BYTES
    store.begin_upload(8 * BLOCK_BYTES)
    assert not any(name.endswith(".part") for name in names(store))


def test_bad_bits_on_the_disk_are_found(store, run_async):
    blob = run_async(put(store, content(2 * BLOCK_BYTES)))
    path = store.path(blob)
    raw = bytearray(path.read_bytes())
    raw[BLOCK_BYTES + 5] ^= 1
    path.write_bytes(raw)
    assert store.verify(store.manifest(blob), path) == {0}
