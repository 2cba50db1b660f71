"""The worker lives no longer than its daemon: a thread hears the link, and its end is the exit.

Two nets, since neither holds always: the socket pair ends with the daemon's process, whatever
killed it; PR_SET_PDEATHSIG (prctl(2)) also ends a worker that is stuck where no thread runs.
"""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import threading

from meshd.core.errors import RemoteProtocolError
from meshd.core.messages import RingStart
from meshd.net.worker_link import WorkerEnd

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def die_with_parent() -> None:
    """Ask the kernel for SIGKILL when the parent dies; on other systems the link must do."""
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "prctl"):
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the kernel knew
        os._exit(1)


class Lifeline:
    """Reads the daemon's messages in a thread; hands on RingStart, exits at the end of the link."""

    def __init__(self, link: WorkerEnd) -> None:
        self._link = link
        self._starts: queue.Queue[RingStart] = queue.Queue()

    def start(self) -> None:
        """Begin to listen."""
        threading.Thread(target=self._listen, name="lifeline", daemon=True).start()

    def send(self, message: object) -> None:
        """Tell the daemon; NotRunningError when it is gone."""
        self._link.send(message)

    def wait_for_ring(self) -> RingStart:
        """Block until the ring is committed."""
        return self._starts.get()

    def _listen(self) -> None:
        while True:
            try:
                message = self._link.receive()
            except RemoteProtocolError:
                message = None
            if message is None:
                os._exit(1)  # not sys.exit: the main thread may be inside a kernel or a product
            if isinstance(message, RingStart):
                self._starts.put(message)
