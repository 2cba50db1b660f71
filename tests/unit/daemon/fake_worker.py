"""A worker process that misbehaves on demand, over the real link: `fake_worker.py MODE --fd N`.

What a good worker does is tested with the good worker (tests/e2e); this one exists to die, lie,
hang and babble.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from meshd.core.messages import (
    JobProgress,
    RingAck,
    RingComplaint,
    RingPlan,
    SliceFile,
    WorkerCheckpoint,
    WorkerDismissed,
    WorkerFailed,
    WorkerFinished,
    WorkerProgress,
    WorkerReady,
)
from meshd.core.types import Step
from meshd.net.worker_link import WorkerEnd

PROGRESS = JobProgress(Step(7), 1, 0.5, 0.25, 1.0, 1000)


def write(plan, name: str, data: bytes) -> str:
    path = Path(plan.scratch_folder) / name
    path.write_bytes(data)
    return str(path)


def main() -> None:
    mode, _, descriptor = sys.argv[1:]
    link = WorkerEnd(int(descriptor))
    plan = link.receive()
    link.send(WorkerReady(4711, 100, 1000))
    if mode == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif mode == "exits-3":
        sys.exit(3)
    elif mode == "exits-0":
        sys.exit(0)
    elif mode == "babbles":
        print("x" * 1_000_000, file=sys.stderr)
        print("line \x1b[31mtwo", file=sys.stderr, flush=True)
        os.write(2, b"\xff\xfe without an end")
        sys.exit(1)
    elif mode == "garbage":
        link._link.sendall(b"\x00\x00\x00\x05hello")
        link.receive()
    elif mode == "fails":
        link.send(WorkerFailed("the data is broken", True))
        sys.exit(1)
    elif mode == "hangs":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("hanging", file=sys.stderr, flush=True)
        while True:
            signal.pause()
    elif mode == "elsewhere":
        link.send(WorkerCheckpoint(Step(7), (SliceFile(0, "/etc/hostname"),), "", 1))
        link.receive()
    elif mode == "link-out":
        link_path = Path(plan.scratch_folder) / "slice-0"
        link_path.symlink_to("/etc/hostname")
        link.send(WorkerCheckpoint(Step(7), (SliceFile(0, str(link_path)),), "", 1))
        link.send(WorkerProgress(PROGRESS))
        link.receive()
    elif mode == "leaves-deaf":
        link.receive()
        link.send(WorkerDismissed())
        while True:
            signal.pause()
    elif mode == "leaves":
        link.receive()
        threading.Thread(target=lambda: link.receive() or os._exit(1), daemon=True).start()
        pipe = Path(plan.scratch_folder) / "pipe"
        os.mkfifo(pipe)
        link.send(WorkerDismissed())
        pipe.read_bytes()  # until its last frames are out
        print("the last frames are out", file=sys.stderr, flush=True)
    elif mode == "rings":
        while not isinstance(heard := link.receive(), RingPlan):
            nothing = {"history": (), "running": heard.ring, "held": (), "going": (), "past": ()}
            rest = {"speed": 0.0, "leaving": False, "waits": False, "to": heard.ring.captain}
            link.send(RingAck(plan.job, plan.generation, heard.ring, -1, **nothing, **rest))
        link.send(RingComplaint(plan.job, plan.generation, heard.ring, "", "does not move"))
    elif mode == "works":
        ring = link.receive()
        print(f"{len(ring.members)} members", file=sys.stderr, flush=True)
        link.send(WorkerProgress(PROGRESS))
        slices = tuple(SliceFile(n, write(plan, f"slice-{n}", b"%d" % n)) for n in range(2))
        link.send(WorkerCheckpoint(Step(7), slices, write(plan, "carried", b"c"), 2))
        link.send(WorkerFinished(PROGRESS, "ab" * 32, write(plan, "model", b"model")))
    elif mode == "waits":
        link.receive()  # until the link closes, as a good one does


if __name__ == "__main__":
    main()
