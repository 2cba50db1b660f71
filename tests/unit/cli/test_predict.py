"""`meshd predict` and `meshd export`: what they print and write, and how they refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from meshd.bits import ops
from meshd.cli.main import run
from meshd.core.network.graph import resolve
from meshd.core.network.spec import NetworkDescription, parse_network
from meshd.hbnn.runtime import load
from meshd.hbnn.runtime.model_file import Header, Weights, model_bytes

Capture = pytest.CaptureFixture[str]
NAMES = ("cat", "dog", "emu")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")


def write_model(path: Path, side: int, names: tuple[str, ...] = NAMES, classes: int = 3) -> Path:
    layers = [
        {"layer": "conv", "out": 8, "kernel": 3, "stride": 2},
        {"layer": "ramp"},
        {"layer": "flatten"},
        {"layer": "hadamard_linear", "out": 256},
        {"layer": "hadamard_linear"},
    ]
    network = resolve(
        NetworkDescription(parse_network({"layers": layers}), (1, side, side), classes)
    )
    rng = np.random.default_rng(5)
    binary, dense = {}, {}
    for p in network.parameters():
        v = rng.standard_normal((p.rows, p.columns), np.float32)
        if p.kind == "binary":
            words, scales = ops.pack_signed(v, p.beta)
            binary[p.name] = words, scales.astype(np.float16).astype(np.float32)
        else:
            dense[p.name] = v.reshape(p.shape)
    header = Header(network, scale=float(np.float32(1 / 255)), class_names=names)
    path.write_bytes(model_bytes(header, Weights(binary, dense)))
    return path


def write_data(path: Path, side: int, samples: int, classes: int = 3) -> Path:
    rng = np.random.default_rng(6)
    x = rng.integers(0, 256, (samples, side, side), np.uint8)
    y = np.arange(samples) % classes
    np.savez(path, x_train=x[:classes], y_train=y[:classes], x_test=x, y_test=y)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "m.safetensors", 8)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "d.npz", 8, 90)


def test_accuracy_and_confusion(model: Path, data: Path, capsys: Capture) -> None:
    with np.load(data) as arrays:
        wanted, labels = load(model).predict(arrays["x_test"].reshape(90, 64)), arrays["y_test"]
    correct = int((wanted == labels).sum())
    assert 0 < correct < 90
    assert run(["predict", str(model), str(data), "--batch", "7"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"accuracy {100 * correct / 90:.1f} %: {correct} of 90 samples"
    cells = [[int(c.replace(".", "0")) for c in line.split()[2:5]] for line in out[3:6]]
    assert [line.split()[1] for line in out[3:6]] == list(NAMES)
    assert cells == [
        [int(((labels == i) & (wanted == j)).sum()) for j in range(3)] for i in range(3)
    ]
    assert run(["predict", str(model), str(data), "--json", "--threads", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["samples"], found["correct"], found["confusion"]) == (90, correct, cells)
    assert found["accuracy"] == correct / 90 and found["class_names"] == list(NAMES)


def test_every_prediction_is_written(
    model: Path, data: Path, tmp_path: Path, capsys: Capture
) -> None:
    with np.load(data) as arrays:
        wanted = load(model).predict(arrays["x_test"].reshape(90, 64)).tolist()
    assert run(["predict", str(model), str(data), "--out", str(tmp_path / "p.csv")]) == 0
    lines = (tmp_path / "p.csv").read_text().splitlines()
    assert lines[0] == "sample,class,name,label" and len(lines) == 91
    assert lines[4] == f"3,{wanted[3]},{NAMES[wanted[3]]},0"
    assert run(["predict", str(model), str(data), "--out", str(tmp_path / "p.json")]) == 0
    rows = json.loads((tmp_path / "p.json").read_text())
    assert [row["class"] for row in rows] == wanted and rows[4]["label"] == 1


@pytest.mark.parametrize("content", [b"1,2,3\n4,5,6\n", b"", b"\x89PNG\r\n\x1a\nno"])
def test_what_is_named_as_an_image_and_is_none(
    content: bytes, model: Path, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "x.png").write_bytes(content)
    assert run(["predict", str(model), str(tmp_path / "x.png")]) == 2
    assert capsys.readouterr() == ("", "meshd: image x.png: not an image in PNG, JPEG, BMP\n")


def test_images_without_labels(model: Path, tmp_path: Path, capsys: Capture) -> None:
    rng = np.random.default_rng(7)
    x = rng.integers(0, 256, (3, 8, 8), np.uint8)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, image in enumerate(x):
        Image.fromarray(image).save(folder / f"{i}.png")
    wanted = [NAMES[i] for i in load(model).predict(x.reshape(3, 64))]
    assert run(["predict", str(model), str(folder / "1.png")]) == 0
    assert capsys.readouterr().out == f"1.png  {wanted[1]}\n"
    assert run(["predict", str(model), str(folder), "--out", str(tmp_path / "p.csv")]) == 0
    assert capsys.readouterr().out.splitlines()[:3] == [f"{i}.png  {wanted[i]}" for i in range(3)]
    assert (tmp_path / "p.csv").read_text().splitlines()[0] == "sample,class,name"
    Image.fromarray(x[0][:4]).save(folder / "3.png")
    assert run(["predict", str(model), str(folder)]) == 2
    assert "all must agree" in refusal(capsys)


def test_many_classes_show_mistakes(tmp_path: Path, capsys: Capture) -> None:
    model = write_model(tmp_path / "m", 8, (), classes=30)
    assert run(["predict", str(model), str(write_data(tmp_path / "d.npz", 8, 60, 30))]) == 0
    assert " taken for " in capsys.readouterr().out


def refusal(capsys: Capture) -> str:
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("meshd: ") and err.count("\n") == 1
    return err


def test_refusals(model: Path, data: Path, tmp_path: Path, capsys: Capture) -> None:
    cut = tmp_path / "cut"
    cut.write_bytes(model.read_bytes()[:-5])
    other = write_data(tmp_path / "other.npz", 9, 6)
    many = write_data(tmp_path / "many.npz", 8, 12, classes=4)
    for arguments, said in (
        ([tmp_path / "none", data], "no such file"),
        ([tmp_path, data], "is a folder"),
        ([cut, data], "is not a usable model"),
        ([model, tmp_path / "none.npz"], "no such file"),
        ([model, other], "samples are (1, 9, 9), the model takes (1, 8, 8)"),
        ([model, many], "labels up to 3, the model 3 classes"),
        ([model, data, "--out", tmp_path / "p.txt"], "must end in .csv or .json"),
        ([model, data, "--batch", "0"], "--batch"),
        ([model, data, "--threads", "0"], "--threads"),
    ):
        assert run(["predict", *map(str, arguments)]) == 2
        assert said in refusal(capsys)


def test_export_writes_onnx(model: Path, tmp_path: Path, capsys: Capture) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    assert run(["export", str(model), str(tmp_path / "m.onnx")]) == 0
    x = np.random.default_rng(8).integers(0, 256, (5, 1, 8, 8), np.uint8)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    found = session.run(["logits"], {"input": x.astype(np.float32)})[0]
    assert np.allclose(found, load(model).logits(x), rtol=1e-3, atol=1e-3)
    capsys.readouterr()
    assert run(["export", str(model), str(tmp_path / "m.pb")]) == 2
    assert "must end in .onnx" in refusal(capsys)


def test_export_says_what_is_missing(
    model: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "onnx" else real(name, *a)
    )
    assert run(["export", str(model), str(tmp_path / "m.onnx")]) == 6
    assert "pip install 'meshd[onnx]'" in refusal(capsys)
    assert not (tmp_path / "m.onnx").exists()


def test_the_whole_process_stays_below_80_mb_without_torch(tmp_path: Path) -> None:
    """10,000 images of Fashion-MNIST's size; the page cache of shared libraries is counted too."""
    model = write_model(tmp_path / "m", 28)
    data = write_data(tmp_path / "d.npz", 28, 10_000)
    program = (
        "import sys\n"
        "from meshd.cli.main import run\n"
        f"assert run(['predict', {str(model)!r}, {str(data)!r}, '--threads', '2']) == 0\n"
        "status = open('/proc/self/status').read().split()\n"
        "print(status[status.index('VmHWM:') + 1], 'torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )
    peak_kib, torch_is_loaded = done.stdout.splitlines()[-1].split()
    assert torch_is_loaded == "False"
    assert int(peak_kib) * 1024 < 80e6


def test_the_example_of_the_docs_runs(tmp_path: Path) -> None:
    write_model(tmp_path / "model.safetensors", 28)
    text = (Path(__file__).resolve().parents[3] / "docs" / "models.md").read_text(encoding="utf-8")
    example = text.split("```python\n", 1)[1].split("```")[0]
    done = subprocess.run(
        [sys.executable, "-c", example],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    shape, logits, classes, ratio = done.stdout.splitlines()
    assert shape == f"(1, 28, 28) {NAMES}"
    assert logits == "(3, 3)" and classes.startswith("[") and float(ratio) > 1
