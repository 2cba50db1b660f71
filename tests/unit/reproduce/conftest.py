"""One quick run of each experiment, shared by all tests that look at it."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from meshd.reproduce.catalogue import find
from meshd.reproduce.result import Options, Result
from meshd.reproduce.run import perform

Quick = Callable[[str], Result]


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """scikit-learn's digits as a data file."""
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    command = [sys.executable, "-P", "-m", "meshd.train.digits", str(path)]
    subprocess.run(command, check=True, timeout=120)
    return path


@pytest.fixture(scope="session")
def quick(digits: Path) -> Quick:
    """What trains shares its runs too: `meshd.reproduce.trained` keeps them."""
    options = Options(quick=True, data=str(digits))
    return functools.cache(lambda name: perform(find(name), options))
