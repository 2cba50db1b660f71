"""`meshd reproduce`: the list, the refusals before anything is measured, one run as a person and as
a program sees it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from meshd.cli.main import run as meshd
from meshd.reproduce.catalogue import CATALOGUE

Capture = pytest.CaptureFixture[str]


def test_alone_it_lists_the_experiments(capsys: Capture) -> None:
    assert meshd(["reproduce"]) == 0
    title, *lines = capsys.readouterr().out.splitlines()
    assert title.split() == ["EXPERIMENT", "TAKES", "SHOWS"]
    for line, (name, entry) in zip(lines, CATALOGUE.items(), strict=True):
        assert line.startswith(name) and entry.takes in line and line.endswith(entry.shows)


def test_the_list_as_json(capsys: Capture) -> None:
    assert meshd(["reproduce", "--json"]) == 0
    assert [entry["name"] for entry in json.loads(capsys.readouterr().out)] == list(CATALOGUE)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], "no experiment 'nothing'; there are: accuracy, activations, angle, "),
        (["--svg", "out.svg"], "--svg: needs the name of an experiment"),
        (["angle", "--svg", "out.png"], "must end in .svg"),
        (["angle", "--svg", "/nonexistent/out.svg"], "there is no folder /nonexistent"),
        (["angle", "--threads", "100000"], "--threads 100000: this process may run on"),
        (["angle", "--threads", "0"], "0"),
    ],
)
def test_wrong_arguments_are_refused_first(
    arguments: list[str], words: str, capsys: Capture
) -> None:
    assert meshd(["reproduce", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("meshd: ") and err.count("\n") == 1
    assert words in err


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert meshd(["reproduce", "size"]) == 6
    assert "pip install 'meshd[bench]'" in capsys.readouterr().err


def test_a_table_for_people(capsys: Capture) -> None:
    assert meshd(["reproduce", "size"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "claim: Reduction of model sizes."
    assert lines[1].startswith("found: ")
    assert lines[3].startswith("NETWORK")
    assert "torch" in lines[-1] and err == ""


def test_json_and_a_picture(tmp_path: Path, capsys: Capture) -> None:
    picture = tmp_path / "size.svg"
    assert meshd(["reproduce", "size", "--json", "--quick", "--svg", str(picture)]) == 0
    printed = json.loads(capsys.readouterr().out)
    keys = {"experiment", "claim", "finding", "settings", "seeds", "figures", "table", "machine"}
    assert keys <= printed.keys()
    assert printed["experiment"] == "size" and printed["quick"] is True
    assert "<svg" in picture.read_text()


def test_the_list_loads_nothing_that_measures() -> None:
    code = (
        "import sys\nfrom meshd.cli.main import run\n"
        "assert run(['reproduce']) == 0\n"
        "assert not {'numpy', 'torch', 'matplotlib', 'meshd.bench'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
