"""Hosts on a network of their own. Skipped, with the kernel's words, where that is not allowed."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meshd.lab.network import Lab, unavailable

MakeLab = Callable[..., Lab]


@functools.cache
def why_not() -> str | None:
    return unavailable()


@pytest.fixture(scope="module")
def make_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeLab]:
    """`make_lab(hosts, rate)`: a lab that ends with the module, and all that runs in it."""
    if (why := why_not()) is not None:
        pytest.skip(f"no lab here: {why}")
    folder: Path = tmp_path_factory.mktemp("labs")
    made: list[Lab] = []
    numbers = itertools.count()

    def make(hosts: int, rate: int = 100_000_000) -> Lab:
        prefix = f"t{os.getpid()}-{next(numbers)}"
        made.append(Lab.up(hosts, rate, prefix, folder))
        return made[-1]

    yield make
    for lab in made:
        lab.down(kill=True)
