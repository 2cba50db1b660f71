"""The worker lives no longer than its daemon: a thread hears the link, and its end is the exit.

Two nets, since neither holds always: the socket pair ends with the daemon's process, whatever
killed it; PR_SET_PDEATHSIG (prctl(2)) also ends a worker that is stuck where no thread runs.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from typing import NoReturn, Protocol

from meshd.core.errors import RemoteProtocolError
from meshd.core.messages import RingLeave, RingMember, RingPlan, RingProposal
from meshd.core.ring.agreement import Plan, Proposal
from meshd.core.ring.wire_forms import plan_of, proposal_of
from meshd.net.worker_link import WorkerEnd

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>

FAREWELL_S = 5.0  # a daemon reads within milliseconds; one that is stopped is not waited for


def die_with_parent() -> None:
    """Ask the kernel for SIGKILL when the parent dies; on other systems the link must do."""
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "prctl"):
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the kernel knew
        os._exit(1)


class RingEar(Protocol):
    """What takes the captain's messages: the ring thread."""

    def propose(self, proposal: Proposal) -> None:
        """A captain asks for a new ring."""
        ...

    def commit(self, plan: Plan, members: tuple[RingMember, ...]) -> None:
        """A captain decided; `members`: where they listen."""
        ...

    def leave(self) -> None:
        """This member is to leave the ring."""
        ...


class Lifeline:
    """Reads the daemon's messages in a thread; hands them to the ring, exits at the link's end."""

    def __init__(self, link: WorkerEnd) -> None:
        self._link = link
        self._early: list[object] = []
        self._ear: RingEar | None = None
        self._lock = threading.Lock()
        self._code = 1

    def start(self) -> None:
        """Begin to listen."""
        threading.Thread(target=self._listen, name="lifeline", daemon=True).start()

    def send(self, message: object) -> None:
        """Tell the daemon; NotRunningError when it is gone. From any thread."""
        with self._lock:
            self._link.send(message)

    def exit(self, code: int) -> NoReturn:
        """End the process, once the daemon has heard all that was said. Does not return.

        At once then: to take torch apart costs another second, in which the owner waits.
        """
        sys.stderr.flush()
        self._code = code
        self._link.finish()
        threading.Event().wait(FAREWELL_S)
        os._exit(code)

    def hand_to(self, ear: RingEar) -> None:
        """From here on this hears what captains say; what came before first."""
        with self._lock:
            self._ear = ear
            early, self._early = self._early, []
        for message in early:
            self._hand(ear, message)

    def _listen(self) -> None:
        while True:
            try:
                message = self._link.receive()
            except RemoteProtocolError:
                message = None
            if message is None:
                os._exit(
                    self._code
                )  # not sys.exit: the main thread may be inside a kernel or a product
            with self._lock:
                ear = self._ear
                if ear is None:
                    self._early.append(message)
            if ear is not None:
                self._hand(ear, message)

    def _hand(self, ear: RingEar, message: object) -> None:
        try:
            if isinstance(message, RingProposal):
                ear.propose(proposal_of(message))
            elif isinstance(message, RingPlan):
                ear.commit(plan_of(message), message.members)
            elif isinstance(message, RingLeave):
                ear.leave()
        except RemoteProtocolError as error:  # the captain asks again, or another one does
            print(f"refused: {error}", file=sys.stderr, flush=True)
