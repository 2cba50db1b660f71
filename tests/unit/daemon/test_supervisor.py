"""A worker's life and every kind of death, with real processes over the real link."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from meshd.core.effects import StartWorker, StopWorker, TellWorker
from meshd.core.events import CheckpointSaved, ModelSaved, WorkerExited
from meshd.core.messages import (
    RingAck,
    RingComplaint,
    RingLeave,
    RingMember,
    RingName,
    RingPlan,
    RingProposal,
    WorkerDismissed,
    WorkerFailed,
    WorkerProgress,
    WorkerReady,
)
from meshd.core.types import BlobId, Generation, JobId, MachineKey, Rank, Step
from meshd.daemon import supervisor as module
from meshd.daemon.blobs import BlobStore
from meshd.daemon.state import open_state
from meshd.daemon.supervisor import Supervisor, WorkerSettings, exit_in_words

FAKE = Path(__file__).with_name("fake_worker.py")
KEY = MachineKey("ab" * 20)
JOB = JobId("12" * 16)
ONE = Generation(1)
NAME = RingName(ONE, KEY)
PLAN = RingPlan(
    job=JOB,
    generation=ONE,
    ring=NAME,
    members=(RingMember(KEY, "desk-1", "127.0.0.1", 4711),),
    machines=(KEY,),
    step=Step(0),
    history=(),
    owners=(Rank(0),),
    copies=1,
    shared=(),
    weights=(),
    transfers=(),
    thrown_away=(),
)
RING = TellWorker(JOB, ONE, PLAN)


class Stage:
    """A supervisor with its store, and its events in a queue."""

    def __init__(self, folder, mode):
        self.state = open_state(folder / "state")
        self.store = BlobStore(self.state.blobs)
        self.events = asyncio.Queue()
        settings = WorkerSettings(KEY, "127.0.0.1", 1, (sys.executable, str(FAKE), mode))
        self.supervisor = Supervisor(
            self.state,
            self.store,
            settings,
            lambda job, generation, event: self.events.put_nowait((generation, event)),
            self.state.append_log,
        )

    async def start(self, generation=1):
        upload = self.store.begin_upload(4)
        upload.write(b"data")
        data = await upload.finish(upload.close())
        effect = StartWorker(JOB, Generation(generation), "{}", data, Step(0), (), BlobId(""))
        self.supervisor.start(effect)

    async def next(self):
        return (await self.events.get())[1]

    def log(self):
        return [line.split(" ", 1)[1] for line in self.state.log_lines(JOB)]


@pytest.fixture
def play(tmp_path, run_async):
    """Run `async scene(stage)` with a worker of that mode."""

    def run(mode, scene):
        async def main():
            stage = Stage(tmp_path, mode)
            await stage.start()
            try:
                await scene(stage)
            finally:
                await stage.supervisor.close()
                stage.state.close()
            assert list(stage.state.scratch.iterdir()) == [], "scratch goes with its worker"

        run_async(main())

    return run


def test_a_worker_that_works_is_heard_and_its_files_become_blobs(play):
    async def scene(stage):
        assert await stage.next() == WorkerReady(4711, 100, 1000)
        stage.supervisor.tell(RING)
        assert isinstance(await stage.next(), WorkerProgress)
        saved = await stage.next()
        assert isinstance(saved, CheckpointSaved) and saved.slice_count == 2
        held = [stage.store.path(part.blob).read_bytes() for part in saved.slices]
        assert held == [b"0", b"1"]
        assert stage.store.path(saved.carried).read_bytes() == b"c"
        model = await stage.next()
        assert isinstance(model, ModelSaved) and model.weight_hash == "ab" * 32
        assert stage.store.path(model.model).read_bytes() == b"model"
        assert await stage.next() == WorkerExited("ended before the job did")
        assert "1 members" in stage.log()

    play("works", scene)


def test_what_captain_and_worker_say_passes_through_in_order(play):
    async def scene(stage):
        assert isinstance(await stage.next(), WorkerReady)
        for number in (1, 2, 3):
            ring = RingName(Generation(number), KEY)
            stage.supervisor.tell(TellWorker(JOB, ONE, RingProposal(JOB, ONE, ring, (KEY,))))
        other = RingProposal(JOB, Generation(2), RingName(Generation(9), KEY), (KEY,))
        stage.supervisor.tell(TellWorker(JOB, Generation(2), other))
        stage.supervisor.tell(RING)
        acks = [await stage.next() for _ in range(3)]
        assert all(isinstance(ack, RingAck) for ack in acks)
        assert [ack.ring.generation for ack in acks] == [1, 2, 3]
        assert await stage.next() == RingComplaint(JOB, ONE, NAME, MachineKey(""), "does not move")

    play("rings", scene)


def test_a_worker_that_is_let_go_may_see_its_last_frames_off(play):
    async def scene(stage):
        assert isinstance(await stage.next(), WorkerReady)
        leave = RingLeave(JOB, ONE, False, "was shut down")
        stage.supervisor.tell(TellWorker(JOB, ONE, leave))
        assert await stage.next() == WorkerDismissed()
        stage.supervisor.stop(StopWorker(JOB, ONE, "was let go", 20.0))
        (pipe,) = stage.state.scratch.glob("*/pipe")
        pipe.write_bytes(b"now")
        await stage.supervisor.close()
        assert stage.log()[-2:] == ["the last frames are out", "worker stopped"]
        assert stage.events.empty(), "its exit is no news"

    play("leaves", scene)


def test_grace_ends_even_for_a_worker_that_hears_nothing(play, monkeypatch):
    monkeypatch.setattr(module, "GRACE_S", 1000.0)

    async def scene(stage):
        await stage.next()
        leave = RingLeave(JOB, ONE, False, "was shut down")
        stage.supervisor.tell(TellWorker(JOB, ONE, leave))
        assert await stage.next() == WorkerDismissed()
        stage.supervisor.stop(StopWorker(JOB, ONE, "was let go", 0.01))
        await stage.supervisor.close()
        assert stage.log()[-1] == "worker stopped"

    play("leaves-deaf", scene)


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("killed", "was killed by signal 9"),
        ("exits-3", "ended with exit code 3"),
        ("exits-0", "ended before the job did"),
    ],
)
def test_a_death_is_an_event_with_its_reason(play, mode, reason):
    async def scene(stage):
        await stage.next()
        assert await stage.next() == WorkerExited(reason)
        assert stage.log()[-1] == f"worker {reason}"

    play(mode, scene)


def test_its_words_go_into_the_jobs_log_whatever_they_are(play):
    async def scene(stage):
        await stage.next()
        assert await stage.next() == WorkerExited("ended with exit code 1")
        log = stage.log()
        assert "(a line too long for the log)" in log
        assert "line  [31mtwo" in log
        assert any("without an end" in line for line in log)

    play("babbles", scene)


def test_a_failure_is_told_before_the_exit(play):
    async def scene(stage):
        await stage.next()
        assert await stage.next() == WorkerFailed("the data is broken", True)
        assert await stage.next() == WorkerExited("ended with exit code 1")

    play("fails", scene)


def test_nonsense_on_the_link_is_a_failure_and_the_worker_goes(play, monkeypatch):
    monkeypatch.setattr(module, "GRACE_S", 0.2)

    async def scene(stage):
        await stage.next()
        failed = await stage.next()
        assert isinstance(failed, WorkerFailed) and "cannot be used" in failed.reason
        assert await stage.next() == WorkerExited("was killed by signal 9")

    play("garbage", scene)


def test_files_outside_the_scratch_folder_are_not_touched(play):
    before = Path("/etc/hostname").read_bytes()

    async def scene(stage):
        await stage.next()
        while not any("not in the worker's scratch folder" in line for line in stage.log()):
            await asyncio.sleep(0)

    play("elsewhere", scene)
    assert Path("/etc/hostname").read_bytes() == before


def test_a_link_out_of_the_scratch_folder_is_not_followed(play):
    async def scene(stage):
        await stage.next()
        assert isinstance(await stage.next(), WorkerProgress), "the checkpoint is lost, not the run"
        assert any("not in the worker's scratch folder" in line for line in stage.log())

    play("link-out", scene)
    assert Path("/etc/hostname").exists()


def test_a_stopped_worker_goes_at_once_and_its_exit_is_no_news(play):
    async def scene(stage):
        await stage.next()
        stage.supervisor.stop(StopWorker(JOB, Generation(1), "over"))
        await stage.supervisor.close()
        assert stage.events.empty()
        assert stage.log()[-1] == "worker stopped"

    play("waits", scene)


def test_a_worker_that_hangs_is_killed_after_its_grace(play, monkeypatch):
    monkeypatch.setattr(module, "GRACE_S", 0.2)

    async def scene(stage):
        await stage.next()
        while "hanging" not in stage.log():
            await asyncio.sleep(0)
        # It ignores its link: stopping closes ours, but only SIGKILL ends it.
        stage.supervisor.stop(StopWorker(JOB, Generation(1), "over"))
        await stage.supervisor.close()
        assert stage.events.empty()

    play("hangs", scene)


def test_stopping_another_generation_stops_nothing(play):
    async def scene(stage):
        await stage.next()
        stage.supervisor.stop(StopWorker(JOB, Generation(2), "over"))
        stage.supervisor.stop(StopWorker(JobId("34" * 16), ONE, "over"))
        stage.supervisor.tell(RING)
        assert isinstance(await stage.next(), WorkerProgress)

    play("works", scene)


def test_the_next_worker_starts_when_the_last_one_is_gone(play):
    async def scene(stage):
        await stage.next()
        stage.supervisor.stop(StopWorker(JOB, Generation(1), "over"))
        await stage.start(generation=2)
        generation, event = await stage.events.get()
        assert (generation, type(event)) == (2, WorkerReady)
        log = stage.log()
        assert log.index("worker stopped") < len(log) - 1
        assert log[-1].startswith("worker started")

    play("waits", scene)


def test_a_worker_stopped_before_it_began_never_begins(play):
    async def scene(stage):
        stage.supervisor.stop(StopWorker(JOB, Generation(1), "over"))
        await stage.supervisor.close()
        assert stage.events.empty()

    play("waits", scene)


def test_a_program_that_is_not_there_is_an_event_too(tmp_path, run_async):
    async def main():
        stage = Stage(tmp_path, "waits")
        stage.supervisor._settings = WorkerSettings(KEY, "127.0.0.1", 1, ("/nowhere/python",))
        await stage.start()
        event = await stage.next()
        assert isinstance(event, WorkerExited) and "could not be started" in event.reason
        await stage.supervisor.close()
        stage.state.close()

    run_async(main())


def test_a_worker_has_a_session_of_its_own_and_goes_with_its_daemon(tmp_path):
    """kill -9 of a daemon: here a small program that starts a worker as the daemon does."""
    program = textwrap.dedent(
        f"""
        import asyncio, sys
        sys.path[:0] = [{str(FAKE.parent)!r}]
        from pathlib import Path
        import test_supervisor as t

        async def main():
            stage = t.Stage(Path({str(tmp_path)!r}), "waits")
            await stage.start()
            await stage.next()
            process = stage.supervisor._worker.process
            print(process.pid, flush=True)
            await asyncio.Event().wait()

        asyncio.run(main())
        """
    )
    daemon = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        worker = int(daemon.stdout.readline())
        assert os.getsid(worker) == worker != os.getsid(daemon.pid)
        handle = os.pidfd_open(worker)
    finally:
        daemon.send_signal(signal.SIGKILL)
        daemon.wait()
        daemon.stdout.close()
    import select

    ready, _, _ = select.select([handle], [], [], 10.0)
    os.close(handle)
    assert ready, "the worker outlived its daemon"


def test_ends_in_words():
    assert exit_in_words(-9) == "was killed by signal 9"
    assert exit_in_words(1) == "ended with exit code 1"
    assert exit_in_words(0) == "ended before the job did"
