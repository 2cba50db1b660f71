"""`meshd train` on scikit-learn's digits: what it prints and leaves, and how it ends."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import signal
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from meshd.hbnn.export import load_model, weight_hash
from meshd.train.alone import BEST, LAST

Meshd = Callable[..., int]
Capture = pytest.CaptureFixture[str]
JOB = """
name = "small"
[network]
width = 128
beta_w = 16
beta_a = 16
[training]
epochs = 3
batch = 48
learning_rate = 2e-3
schedule = "cosine"
backward = "int8"
checkpoint_steps = 5
"""


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, with job.toml and digits.npz."""
    digits = load_digits()
    x, y = digits.data.astype(np.uint8), digits.target.astype(np.uint8)
    parts = {"x_train": x[:1437], "y_train": y[:1437], "x_test": x[1437:], "y_test": y[1437:]}
    np.savez(tmp_path / "digits.npz", **parts)
    (tmp_path / "job.toml").write_text(JOB)
    monkeypatch.chdir(tmp_path)
    return tmp_path


TRAIN = ("train", "job.toml", "--data", "digits.npz", "--threads", "1")


def program(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-c", "from meshd.cli.main import main; main()", *arguments]


def limited_files(size: int = 50_000) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_figures_and_files(meshd: Meshd, place: Path, capsys: Capture) -> None:
    assert meshd(*TRAIN, "--json", "-o", "m.safetensors", "--seed", "5") == 0
    out, err = capsys.readouterr()
    figures = json.loads(out)
    assert figures["model"] == "m.safetensors"
    assert figures["steps"] == 90 and figures["epochs"] == 3 and not figures["stopped_early"]
    assert figures["seed"] == 5 and figures["exchange"] == "float32"
    assert 0.3 < figures["accuracy"] <= figures["best_accuracy"]
    net, _ = load_model("m.safetensors")
    assert weight_hash(net) == figures["weight_hash"]
    lines = err.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert f"accuracy {100 * figures['accuracy']:.1f} %" in lines[2]


def test_quiet_prints_the_models_path_alone(meshd: Meshd, place: Path, capsys: Capture) -> None:
    assert meshd(*TRAIN, "--quiet") == 0
    assert capsys.readouterr() == ("small.safetensors\n", "")
    assert sorted(p.name for p in place.iterdir()) == [
        "digits.npz",
        "job.toml",
        "small.checkpoints",
        "small.safetensors",
    ]


def test_killed_and_resumed_equals_undisturbed(meshd: Meshd, place: Path, capsys: Capture) -> None:
    assert meshd(*TRAIN, "--json", "--checkpoints", "whole") == 0
    whole = json.loads(capsys.readouterr().out)
    cut = (*TRAIN, "--checkpoints", "cut")
    with subprocess.Popen(program(*cut), stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        assert child.stderr.readline().startswith("epoch 1/3")
        child.kill()
    assert child.returncode == -signal.SIGKILL
    assert (place / "cut" / "last.safetensors").exists()
    assert meshd(*cut) == 1
    assert "cut holds a run that is not finished: go on with --resume" in capsys.readouterr().err
    assert meshd(*cut, "--resume", "--json") == 0
    resumed = json.loads(capsys.readouterr().out)
    for key in ("weight_hash", "accuracy", "best_accuracy", "best_step", "steps"):
        assert resumed[key] == whole[key], key


def test_an_interruption_says_how_to_go_on(place: Path) -> None:
    (place / "job.toml").write_text(JOB.replace("epochs = 3", "epochs = 500"))
    with subprocess.Popen(program(*TRAIN), stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        child.stderr.readline()
        child.send_signal(signal.SIGINT)
        rest = child.stderr.read().splitlines()
    assert child.returncode == 130
    assert rest[-2].startswith("interrupted after step ")
    assert rest[-2].endswith("; a checkpoint is written")
    assert rest[-1] == f"go on with: meshd {' '.join(TRAIN)} --resume"
    assert (place / "small.checkpoints" / "last.safetensors").exists()
    assert not (place / "small.safetensors").exists()


def test_a_full_disk_costs_the_checkpoint_not_the_run(place: Path) -> None:
    """A limit on files' sizes is what a full disk is to a writer: the model still fits."""
    done = subprocess.run(
        program(*TRAIN),
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=limited_files,
    )
    assert done.returncode == 0, done.stderr
    assert "no checkpoint at step 5: " in done.stderr
    assert sorted(os.listdir("small.checkpoints")) == ["best.safetensors"]
    assert load_model("small.safetensors")


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({1: "none.toml"}, 2, "job file none.toml: no such file"),
        ({3: "none.npz"}, 2, "none.npz: no such file"),
        ({3: "job.toml"}, 2, "job.toml"),
        ({6: "-o", 7: "no/m.safetensors"}, 2, "-o no/m.safetensors: there is no folder "),
        ({6: "-o", 7: ""}, 2, "is a folder"),
        ({6: "-o", 7: "."}, 2, "is a directory"),
        ({6: "-o", 7: "job.toml"}, 2, "-o job.toml: is the job file"),
        ({6: "-o", 7: "./digits.npz"}, 2, "-o digits.npz: is the data"),
        ({6: "-o", 7: "small.checkpoints/last.safetensors"}, 2, "lies among the checkpoints"),
        ({6: "--resume"}, 1, "small.checkpoints/last.safetensors: no checkpoint is there"),
        ({6: "--threads", 7: "0"}, 2, "--threads"),
    ],
)
def test_mistakes_are_one_line(
    changes: dict[int, str], code: int, said: str, meshd: Meshd, place: Path, capsys: Capture
) -> None:
    arguments = list(TRAIN)
    for index, value in changes.items():
        arguments[index : index + 1] = [value]
    assert meshd(*arguments) == code
    out, err = capsys.readouterr()
    assert out == "" and said in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("network", "training", "said"),
    [
        ('layers = [{ layer = "linear", out = 7 }]', "", "ends in shape (7,)"),
        ('layers = [{ layer = "conv", out = 8, kernel = 3 }]', "", "(a sample of the data is "),
        ("width = 16", 'augment = "shift"', "training: augment = 'shift' needs images"),
        ("width = 16", "epochs = 0", "job file: training.epochs"),
    ],
)
def test_a_job_that_does_not_fit_the_data_is_a_users_mistake(
    network: str, training: str, said: str, meshd: Meshd, place: Path, capsys: Capture
) -> None:
    """As every other fault of a job file, and as `meshd submit` has it."""
    (place / "job.toml").write_text(f'name = "small"\n[network]\n{network}\n[training]\n{training}')
    assert meshd(*TRAIN) == 2
    out, err = capsys.readouterr()
    assert out == "" and said in err and err.count("\n") == 1
    assert sorted(os.listdir()) == ["digits.npz", "job.toml"]


def test_the_model_goes_through_links_and_into_pipes(meshd: Meshd, place: Path) -> None:
    """A rename would put a file in the place of the link, or of a device."""
    (place / "job.toml").write_text(JOB.replace("epochs = 3", "epochs = 1"))
    (place / "link.safetensors").symlink_to("target.safetensors")
    assert meshd(*TRAIN, "-o", "link.safetensors") == 0
    assert (place / "link.safetensors").is_symlink() and load_model("target.safetensors")

    os.mkfifo("pipe")
    reader = subprocess.Popen(["cat", "pipe"], stdout=subprocess.PIPE)
    assert meshd(*TRAIN, "-o", "pipe", "--checkpoints", "others") == 0
    assert reader.communicate(timeout=60)[0] == (place / "target.safetensors").read_bytes()
    assert (place / "pipe").is_fifo()


def test_divergence_is_one_line(meshd: Meshd, place: Path, capsys: Capture) -> None:
    wild = JOB.replace("2e-3", '10.0\noptimizer = "sgd"\nmomentum = 0.9999')
    wild = wild.replace("epochs = 3", "epochs = 60").replace("cosine", "constant")
    (place / "job.toml").write_text(wild.replace("[training]", "cut = 0.0\n[training]"))
    assert meshd(*TRAIN) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("meshd: training diverged")


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if not data[at - 1] & 128:
            return value, at


def fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """A protocol buffer message as (number, bytes): enough of the format for scalars."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        start = at
        if key & 7 == 0:
            value, at = varint(data, at)
            yield key >> 3, value.to_bytes(8, "little")
            continue
        if key & 7 == 2:
            length, start = varint(data, at)
        else:
            length = {1: 8, 5: 4}[key & 7]
        at = start + length
        yield key >> 3, data[start:at]


def crc32c(data: bytes) -> int:
    """Castagnoli's, bit by bit, masked as TFRecord files have it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def events(path: Path) -> Iterator[tuple[int, str, bytes | float]]:
    """(step, tag, value) of a TensorBoard event file, read by the format's description alone."""
    data, at = path.read_bytes(), 0
    while at < len(data):
        (length, check) = struct.unpack_from("<QI", data, at)
        assert check == crc32c(data[at : at + 8])
        record = data[at + 12 : at + 12 + length]
        at += 16 + length
        event = dict(fields(record))
        for number, value in fields(event.get(5, b"")):
            assert number == 1
            parts = dict(fields(value))
            step = int.from_bytes(event.get(2, b""), "little")
            scalar = struct.unpack("<f", parts[2])[0] if 2 in parts else parts.get(5, b"")
            yield step, parts[1].decode(), scalar


def test_tensorboard_files_say_what_was_trained(meshd: Meshd, place: Path, capsys: Capture) -> None:
    assert meshd(*TRAIN, "--tensorboard", "board", "--json") == 0
    figures = json.loads(capsys.readouterr().out)
    (file,) = (place / "board").iterdir()
    found = list(events(file))
    accuracy = {step: value for step, tag, value in found if tag == "test/accuracy"}
    assert accuracy[90] == pytest.approx(figures["accuracy"])
    assert sorted(accuracy) == [30, 60, 90]
    tags = {tag for _, tag, _ in found}
    for kind in ("train/loss", "train/learning_rate", "flipped/3.weight", "flipped/5.weight"):
        assert kind in tags
    flipped = [value for _, tag, value in found if tag == "flipped/3.weight"]
    assert len(flipped) == 3 and all(0 < share < 0.5 for share in flipped)
    rates = [value for _, tag, value in found if tag == "train/learning_rate"]
    assert rates == sorted(rates, reverse=True) and 1e-4 < rates[-1] < 2e-4
    assert {"weights/0.weight", "latents/3.weight"} <= tags


@pytest.mark.parametrize("size", [0, 6_000])
def test_a_full_disk_costs_the_events_not_the_run(size: int, place: Path) -> None:
    """Full from the start, and full in the middle, where many points have been written."""
    (place / "job.toml").write_text(JOB.replace("epochs = 3", "epochs = 6"))
    done = subprocess.run(
        program(*TRAIN, "--tensorboard", "board", "--quiet"),
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=lambda: limited_files(size),
    )
    lines = done.stderr.splitlines()
    assert [line for line in lines if "events" in line] == [
        "no more events for TensorBoard: File too large"
    ]
    assert "Traceback" not in done.stderr
    assert any(line.startswith("no checkpoint at step 180: ") for line in lines), "to the end"


def test_a_second_run_in_a_folder_is_refused(meshd: Meshd, place: Path, capsys: Capture) -> None:
    (place / "job.toml").write_text(JOB.replace("epochs = 3", "epochs = 500"))
    with subprocess.Popen(program(*TRAIN), stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        child.stderr.readline()
        for more in ([], ["--resume"]):
            assert meshd(*TRAIN, *more) == 1
            assert capsys.readouterr().err == (
                "meshd: another meshd train is at work in small.checkpoints: wait for its end,"
                " or name another folder with --checkpoints\n"
            )
        child.kill()
    (place / "job.toml").write_text(JOB)
    assert meshd(*TRAIN, "--checkpoints", "other", "--quiet") == 0


def mode_of(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def test_checkpoints_have_the_models_mode(meshd: Meshd, place: Path) -> None:
    (place / "job.toml").write_text(JOB.replace("epochs = 3", "epochs = 1"))
    before = os.umask(0o027)
    try:
        assert meshd(*TRAIN, "--quiet") == 0
    finally:
        os.umask(before)
    written = ("small.safetensors", *(f"small.checkpoints/{name}" for name in (LAST, BEST)))
    assert {name: mode_of(name) for name in written} == dict.fromkeys(written, 0o640)


@pytest.mark.parametrize("locks", [True, False])
def test_what_killed_runs_left_goes_where_no_other_run_can_be(
    locks: bool, meshd: Meshd, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without locks it may be a file that another run writes at this moment."""

    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    if not locks:
        monkeypatch.setattr(fcntl, "flock", no_locks)
    (place / "job.toml").write_text(JOB.replace("epochs = 3", "epochs = 1"))
    left = {f".{name}.{'0' * 16}" for name in (LAST, BEST)}
    for name in left:
        (place / "small.checkpoints" / name).mkdir(parents=True)
        (place / "small.checkpoints" / name / "half").touch()
    assert meshd(*TRAIN, "--quiet") == 0
    found = {*os.listdir("small.checkpoints")} - {".lock"}
    assert found == {LAST, BEST} | (set() if locks else left)
