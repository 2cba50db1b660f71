"""The link between a daemon and its worker, between real processes where it matters."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest

from meshd.core.errors import NotRunningError, RemoteProtocolError
from meshd.core.messages import Goodbye, RingLeave, WorkerFailed, WorkerReady
from meshd.core.types import Generation, JobId
from meshd.net.stream import frame
from meshd.net.worker_link import DaemonEnd, WorkerEnd


def leave(number: int) -> RingLeave:
    """A message to a worker that says a number."""
    return RingLeave(JobId("0f" * 16), Generation(1), False, str(number))


CHILD = """
import sys
from meshd.core.messages import WorkerReady
from meshd.net.worker_link import WorkerEnd
end = WorkerEnd(int(sys.argv[1]))
end.send(WorkerReady(40001, 7))
while (message := end.receive()) is not None:
    end.send(WorkerReady(int(message.why) + 1, 8))
sys.exit(3)
"""


async def test_a_worker_answers_and_ends_with_its_daemon() -> None:
    ours, theirs = await DaemonEnd.open()
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, str(theirs.fileno()), pass_fds=[theirs.fileno()]
    )
    theirs.close()
    assert await ours.receive() == WorkerReady(40001, 7)
    for rank in range(5):
        await ours.send(leave(rank))
        assert await ours.receive() == WorkerReady(rank + 1, 8)
    await ours.close()
    assert await child.wait() == 3, "the end of the stream ended the worker"


async def test_the_death_of_a_worker_is_the_end_of_the_stream() -> None:
    ours, theirs = await DaemonEnd.open()
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, str(theirs.fileno()), pass_fds=[theirs.fileno()]
    )
    theirs.close()
    assert await ours.receive() is not None
    child.kill()
    assert await ours.receive() is None
    await ours.send(leave(0))  # to nobody: no error, receive says it
    assert await child.wait() == -9
    await ours.close()


async def test_threads_may_send_at_once() -> None:
    ours, theirs = await DaemonEnd.open()
    worker = WorkerEnd(theirs.detach())
    message = WorkerFailed("x" * 1000, False)
    sends = [asyncio.to_thread(worker.send, message) for _ in range(200)]
    together = asyncio.gather(*sends)
    for _ in range(200):
        assert await ours.receive() == message
    await together
    worker.close()
    assert await ours.receive() is None
    await ours.close()


async def test_closing_ends_a_receive_that_waits() -> None:
    ours, theirs = await DaemonEnd.open()
    worker = WorkerEnd(theirs.detach())
    waiting = asyncio.create_task(asyncio.to_thread(worker.receive))
    await ours.send(leave(0))
    assert await waiting == leave(0)
    waiting = asyncio.create_task(asyncio.to_thread(worker.receive))
    worker.close()
    assert await waiting is None
    await ours.close()


async def test_a_daemon_that_is_gone_is_said() -> None:
    ours, theirs = await DaemonEnd.open()
    worker = WorkerEnd(theirs.detach())
    await ours.close()
    with pytest.raises(NotRunningError, match="daemon is gone"):
        for _ in range(3):
            worker.send(WorkerReady(1, 1))
    assert worker.receive() is None
    worker.close()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(Goodbye("")), "wrong-link"),
        (b"\xff\xff\xff\xff", "oversize"),
        (b"\0\0\0\x03abc", "not-meshd"),
        (frame(WorkerReady(1, 1))[:-1], "malformed"),
        (b"\0", "malformed"),
    ],
)
async def test_bad_frames_are_refused_on_both_sides(data: bytes, code: str) -> None:
    ours, theirs = await DaemonEnd.open()
    os.write(theirs.fileno(), data)
    theirs.close()
    with pytest.raises(RemoteProtocolError) as caught:
        await ours.receive()
    assert caught.value.code == code
    await ours.close()
    ours, theirs = await DaemonEnd.open()
    ours._writer.write(data)
    await ours.close()
    worker = WorkerEnd(theirs.detach())
    with pytest.raises(RemoteProtocolError) as caught:
        worker.receive()
    assert caught.value.code == code
    worker.close()


def test_a_descriptor_that_is_no_socket_is_one_line() -> None:
    with open(os.devnull) as file, pytest.raises(NotRunningError, match="started by their daemon"):
        WorkerEnd(file.fileno())
    code = "from meshd.net.worker_link import WorkerEnd; WorkerEnd(99)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "NotRunningError" in done.stderr
