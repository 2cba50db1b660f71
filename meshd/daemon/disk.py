"""Small writes in order, in one thread: an fsync may take a second while a checkpoint is written,
and the event loop owes every peer a heartbeat in that second."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from meshd.core.errors import MeshdError

log = logging.getLogger(__name__)


class Disk:
    """A queue of writes. A write that fails costs itself and a line in the daemon's log."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="disk")

    def later(self, write: Callable[..., None], *arguments: Any) -> None:
        """Do it after all that was asked before."""
        self._thread.submit(_try, write, arguments)

    async def flush(self) -> None:
        """Wait until all that was asked so far is done."""
        await asyncio.get_running_loop().run_in_executor(self._thread, _nothing)

    def close(self) -> None:
        """Do what is left, then end."""
        self._thread.shutdown(wait=True)


def _try(write: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    try:
        write(*arguments)
    except (MeshdError, OSError) as error:
        log.error("%s", error)


def _nothing() -> None:
    """The end of the queue."""
