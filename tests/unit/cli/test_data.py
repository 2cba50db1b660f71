"""`meshd data`: what it prints, what it writes, and how it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from meshd.cli.main import run
from meshd.data.load import load_npz

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "d.csv"
    path.write_text("class,a,b\n" + "\n".join(f"{i % 2},{i},-0.5" for i in range(10)))
    return path


def test_inspect(table: Path, capsys: Capture) -> None:
    assert run(["data", "inspect", str(table)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "format   CSV",
        "sample   2 float32, input 2",
        "classes  2",
        "train    8 samples, values -0.5 to 8",
        "         0: 4, 1: 4",
        "test     2 samples, values -0.5 to 9",
        "         0: 1, 1: 1",
    ]
    assert run(["data", "inspect", "--json", str(table)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["format"], found["input_shape"], found["dtype"]) == ("CSV", [2], "float32")
    assert found["train"] == {
        **{"samples": 8, "smallest": -0.5, "largest": 8, "counts": {"0": 4, "1": 4}}
    }


def test_many_classes_are_cut(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "d.csv").write_text("\n".join(f"{i},1" for i in range(50)))
    assert run(["data", "inspect", str(tmp_path / "d.csv")]) == 0
    out = capsys.readouterr().out
    assert ", 23: 1, and 20 more\n" in out


def test_names_cannot_steer_the_terminal(tmp_path: Path, capsys: Capture) -> None:
    from PIL import Image

    for part in ("train", "test"):
        (tmp_path / part / "a\x1b[2J").mkdir(parents=True)
        Image.new("L", (3, 2)).save(tmp_path / part / "a\x1b[2J" / "x.png")
    assert run(["data", "inspect", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "a?[2J: 1" in out and "\x1b" not in out
    assert "sample   2 x 3 uint8, input 1 x 2 x 3" in out


def test_convert_gives_what_a_job_takes(table: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out.npz"
    assert run(["data", "convert", str(table), str(out)]) == 0
    assert capsys.readouterr() == ("", f"{out}: 10 samples, classes: 2\n")
    data = load_npz(out)
    np.testing.assert_array_equal(data.x_test[:, 0], [4, 9])
    first = out.read_bytes()
    again = tmp_path / "again.npz"
    assert run(["data", "convert", str(out), str(again)]) == 0
    assert again.read_bytes() == first


def test_convert_touches_neither_its_source_nor_other_files(
    table: Path, tmp_path: Path, capsys: Capture
) -> None:
    out, link = tmp_path / "d.npz", tmp_path / "link.npz"
    assert run(["data", "convert", str(table), str(out)]) == 0
    link.symlink_to(out)
    (tmp_path / "hard.npz").hardlink_to(out)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    capsys.readouterr()
    for source, output, said in (
        (out, out, "is the file to convert"),
        (out, link, "is the file to convert"),
        (out, tmp_path / "hard.npz", "is the file to convert"),
        (table, table, "must end in .npz"),
        (table, tmp_path / "new.csv", "must end in .npz"),
        (table, tmp_path / "npz", "must end in .npz"),
    ):
        assert run(["data", "convert", str(source), str(output)]) == 2
        printed, err = capsys.readouterr()
        assert printed == "" and said in err and err.count("\n") == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert link.is_symlink()


def test_a_wrong_source_leaves_no_file(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "d.csv").write_text("1,2,x\n1,2,3\n")
    assert run(["data", "convert", str(tmp_path / "d.csv"), str(tmp_path / "out.npz")]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("meshd: data file d.csv: ") and err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["d.csv"]


def test_list(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert run(["data", "list"]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["mnist", "fashion-mnist", "cifar-10"]
    assert out.count("not here") == 3 and "170 MB to fetch" in out
    assert err == f"cache: {tmp_path / 'meshd' / 'data'}\n"


def test_fetch_of_an_unknown_name(capsys: Capture) -> None:
    assert run(["data", "fetch", "imagenet"]) == 2
    assert capsys.readouterr().err.startswith("meshd: imagenet: not known; known are mnist, ")


def test_submit_says_how_to_convert(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "job.toml").write_text('name = "x"\n')
    (tmp_path / "my data").mkdir()
    folder = str(tmp_path / "my data")
    assert run(["submit", str(tmp_path / "job.toml"), "--data", folder]) == 2
    assert f"meshd data convert '{folder}' OUT.npz" in capsys.readouterr().err
