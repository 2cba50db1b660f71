"""One quick run of each experiment, shared by all tests that look at it."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest

from meshd.reproduce.catalogue import find
from meshd.reproduce.result import Options, Result
from meshd.reproduce.run import perform

Quick = Callable[[str], Result]


@pytest.fixture(scope="session")
def quick() -> Quick:
    return functools.cache(lambda name: perform(find(name), Options(quick=True)))
