"""Blobs between stores: real files and real blocks, links that lose, forge and die."""

from __future__ import annotations

import asyncio
import random

import pytest

from meshd.core.blobs import BLOCK_BYTES
from meshd.core.errors import FailureError
from meshd.core.messages import Block
from meshd.core.types import MachineKey
from meshd.daemon import fetcher as fetcher_module
from meshd.daemon.blobs import BlobStore
from meshd.daemon.fetcher import Fetcher

KEYS = [MachineKey(f"{n:02d}" * 20) for n in range(3)]


class Net:
    """Fetchers that reach each other through the event loop; `tamper` may change or lose."""

    def __init__(self, folder, caps=(2**30,) * 3):
        self.fetchers = {}
        self.stores = {}
        self.tamper = lambda sender, target, message: message
        self.sent = []
        for key, cap in zip(KEYS, caps, strict=True):
            (folder / key).mkdir()
            store = self.stores[key] = BlobStore(folder / key, cap)
            self.fetchers[key] = Fetcher(store, self._sender(key), lambda k: f"desk-{k[1]}")

    def _sender(self, sender):
        def send(target, message):
            self.sent.append((sender, target, message))
            changed = self.tamper(sender, target, message)
            if changed is not None:
                loop = asyncio.get_running_loop()
                loop.call_soon(self.fetchers[target].receive, sender, changed)
            return True

        return send


@pytest.fixture
def net(tmp_path):
    return Net(tmp_path)


async def put(store, data):
    upload = store.begin_upload(len(data))
    upload.write(data)
    return await upload.finish(upload.close())


DATA = random.Random(1).randbytes(5 * BLOCK_BYTES + 3)


def test_a_blob_comes_from_two_machines_at_once(net, run_async):
    async def main():
        blob = await put(net.stores[KEYS[1]], DATA)
        await put(net.stores[KEYS[2]], DATA)
        await net.fetchers[KEYS[0]].fetch(blob, (KEYS[1], KEYS[2]), len(DATA))
        return blob

    blob = run_async(main())
    assert net.stores[KEYS[0]].path(blob).read_bytes() == DATA
    served = {sender for sender, _, message in net.sent if isinstance(message, Block)}
    assert served == {KEYS[1], KEYS[2]}


def test_what_lies_here_is_not_asked_for_unless_it_is_damaged(net, run_async):
    async def main():
        for key in KEYS[:2]:
            blob = await put(net.stores[key], DATA)
        await net.fetchers[KEYS[0]].fetch(blob, (KEYS[1],), -1)
        assert net.sent == []
        path = net.stores[KEYS[0]].path(blob)
        path.write_bytes(b"\0" + DATA[1:])
        await net.fetchers[KEYS[0]].fetch(blob, (KEYS[1],), -1)
        assert path.read_bytes() == DATA

    run_async(main())


def test_a_forger_is_found_out_and_the_honest_one_serves(net, run_async):
    def forge(sender, target, message):
        if isinstance(message, Block) and sender == KEYS[1]:
            return Block(message.blob, message.index, b"\0" * len(message.data))
        return message

    async def main():
        net.tamper = forge
        for key in KEYS[1:]:
            blob = await put(net.stores[key], DATA)
        await net.fetchers[KEYS[0]].fetch(blob, (KEYS[1], KEYS[2]), -1)
        assert net.stores[KEYS[0]].path(blob).read_bytes() == DATA

    run_async(main())


def test_nobody_has_it_and_the_line_names_them(net, run_async):
    async def main():
        blob = await put(net.stores[KEYS[0]], b"only here")
        with pytest.raises(FailureError) as caught:
            await net.fetchers[KEYS[1]].fetch(blob, (KEYS[2],), -1)
        assert str(caught.value) == "no machine that is here has it (desk-2 does not have it)"
        with pytest.raises(FailureError, match="no machine that is here has it"):
            await net.fetchers[KEYS[1]].fetch(blob, (), -1)
        assert list(net.stores[KEYS[1]].folder.iterdir()) == []

    run_async(main())


def test_a_lost_machines_blocks_come_from_another(net, run_async):
    async def main():
        for key in KEYS[1:]:
            blob = await put(net.stores[key], DATA)
        dead = asyncio.Event()

        def die(sender, target, message):
            if KEYS[1] not in (sender, target) or not isinstance(message, Block):
                return message
            dead.set()
            return None

        net.tamper = die
        fetch = asyncio.create_task(net.fetchers[KEYS[0]].fetch(blob, KEYS[1:], -1))
        await dead.wait()
        net.fetchers[KEYS[0]].lost(KEYS[1])
        await fetch
        assert net.stores[KEYS[0]].path(blob).read_bytes() == DATA

    run_async(main())


def test_a_cancelled_fetch_goes_on_where_it_was(net, run_async):
    async def main():
        blob = await put(net.stores[KEYS[1]], DATA)
        third = asyncio.Event()

        def stall(sender, target, message):
            if isinstance(message, Block) and message.index >= 3:
                third.set()
                return None
            return message

        net.tamper = stall
        fetch = asyncio.create_task(net.fetchers[KEYS[0]].fetch(blob, (KEYS[1],), -1))
        await third.wait()
        while not (net.stores[KEYS[0]].folder / f"{blob}.part").stat().st_size >= 3 * BLOCK_BYTES:
            await asyncio.sleep(0)
        fetch.cancel()
        await asyncio.gather(fetch, return_exceptions=True)
        net.sent.clear()
        net.tamper = lambda sender, target, message: message
        await net.fetchers[KEYS[0]].fetch(blob, (KEYS[1],), -1)
        served = sorted(m.index for _, _, m in net.sent if isinstance(m, Block))
        assert served == [3, 4, 5]
        assert net.stores[KEYS[0]].path(blob).read_bytes() == DATA

    run_async(main())


def test_unanswered_requests_are_asked_again(net, run_async, monkeypatch):
    """The daemon's clock is moved by hand; the timer itself is the loop's."""
    now = [1000.0]
    monkeypatch.setattr(fetcher_module.clock, "now", lambda: now[0])

    async def main():
        blob = await put(net.stores[KEYS[1]], DATA)
        lost = []

        def lose(sender, target, message):
            if isinstance(message, Block) and len(lost) < 2:
                lost.append(message.index)
                if len(lost) == 2:
                    now[0] += 60.0
                    asyncio.get_running_loop().call_soon(net.fetchers[KEYS[0]]._late)
                return None
            return message

        net.tamper = lose
        await net.fetchers[KEYS[0]].fetch(blob, (KEYS[1],), -1)
        assert lost == [0, 1]

    run_async(main())


def test_a_blob_beyond_the_cap_or_of_another_size_is_refused_before_a_byte_is_written(
    tmp_path, run_async
):
    net = Net(tmp_path, (2 * BLOCK_BYTES, 2**30, 2**30))

    async def main():
        blob = await put(net.stores[KEYS[1]], DATA)
        with pytest.raises(FailureError, match=f"but {2 * BLOCK_BYTES} fit here"):
            await net.fetchers[KEYS[0]].fetch(blob, (KEYS[1],), -1)
        with pytest.raises(FailureError, match="but 7 were announced"):
            await net.fetchers[KEYS[2]].fetch(blob, (KEYS[1],), 7)
        assert list(net.stores[KEYS[0]].folder.iterdir()) == []

    run_async(main())


def test_two_who_want_the_same_blob_share_one_fetch(net, run_async):
    async def main():
        blob = await put(net.stores[KEYS[1]], DATA)
        fetch = net.fetchers[KEYS[0]].fetch
        await asyncio.gather(*(fetch(blob, (KEYS[1],), -1) for _ in range(3)))
        served = [m.index for _, _, m in net.sent if isinstance(m, Block)]
        assert sorted(served) == list(range(6))

    run_async(main())


def test_more_blobs_than_may_be_fetched_at_a_time_wait_their_turn(net, run_async):
    async def main():
        blobs = [await put(net.stores[KEYS[1]], bytes([n]) * n) for n in range(1, 20)]
        fetch = net.fetchers[KEYS[0]].fetch
        await asyncio.gather(*(fetch(blob, (KEYS[1],), -1) for blob in blobs))
        assert all(net.stores[KEYS[0]].held(blob) for blob in blobs)

    run_async(main())
