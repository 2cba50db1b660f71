"""Machines for tests of real sockets: a state folder, a key pair, a roster. Async tests run in an
event loop of their own, for a minute at most."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from meshd.net.keys import KeyPair, load_or_create_keys
from meshd.net.roster import ROSTER_FILE, RosterFile, add_to_roster, read_roster

LIMIT_S = 60.0


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run `async def` tests."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    asyncio.run(asyncio.wait_for(pyfuncitem.obj(**arguments), LIMIT_S))
    return True


class Machine:
    """One machine: who it is and whom it trusts."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder / name
        self.folder.mkdir(mode=0o700)
        self.name = name
        self.keys: KeyPair = load_or_create_keys(self.folder)
        self.key = self.keys.public
        self.roster_path = self.folder / ROSTER_FILE

    @property
    def roster(self) -> RosterFile:
        return RosterFile(self.roster_path)

    def trust(self, *others: Machine) -> None:
        for other in others:
            add_to_roster(self.roster_path, other.name, other.key)

    def distrust(self, other: Machine) -> None:
        names = read_roster(self.roster_path)
        self.roster_path.unlink()
        for key, name in names.items():
            if key != other.key:
                add_to_roster(self.roster_path, name, key)


@pytest.fixture
def machine(tmp_path: Path) -> Callable[[str], Machine]:
    """Makes a machine by its name."""
    return lambda name: Machine(tmp_path, name)


class Log(logging.Handler):
    """Log lines as events."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self._news = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self._news.set()

    async def wait_for(self, text: str) -> str:
        """The first line that holds a text."""
        while True:
            for line in self.lines:
                if text in line:
                    return line
            self._news.clear()
            await self._news.wait()


@pytest.fixture
def net_log() -> Iterator[Any]:
    """What `meshd.net` logs while the test runs."""
    handler = Log()
    logger = logging.getLogger("meshd.net")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)
