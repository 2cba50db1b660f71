"""The inspection of a data file: what an inspector may do wrong must not become our answer."""

from __future__ import annotations

import sys

import pytest

from meshd.core.errors import FailureError, UsageError
from meshd.daemon.inspector import DataFacts, inspect_data


def command(program):
    return (sys.executable, "-c", program)


def test_good_facts(tmp_path, run_async):
    print_facts = 'print(\'{"input": [1, 8, 8], "classes": 10, "train": 200, "test": 50}\')'
    assert run_async(inspect_data(tmp_path, command(print_facts))) == DataFacts(
        (1, 8, 8), 10, 200, 50
    )


@pytest.mark.parametrize(
    ("program", "error", "what"),
    [
        ("import sys; print('data file x: no', file=sys.stderr); sys.exit(2)", UsageError, ": no"),
        ("import sys; sys.exit(2)", UsageError, "cannot be used"),
        ("raise ImportError('no numpy')", FailureError, "checked: ImportError: no numpy"),
        ("print('rubbish')", FailureError, "checked: exit code 0"),
        ("print('[1]')", FailureError, "could not be checked"),
        ("import os; os.kill(os.getpid(), 9)", FailureError, "checked: exit code -9"),
    ],
)
def test_bad_answers_are_one_line(tmp_path, run_async, program, error, what):
    with pytest.raises(error) as caught:
        run_async(inspect_data(tmp_path, command(program)))
    assert what in str(caught.value) and "\n" not in str(caught.value)


def test_an_inspector_that_hangs_is_ended(tmp_path, run_async):
    with pytest.raises(FailureError, match="could not be checked within"):
        run_async(inspect_data(tmp_path, command("import signal; signal.pause()"), 0.2))
