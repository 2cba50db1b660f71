"""Data files: the good are loaded, each way to be wrong is one line and loads nothing."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from meshd.data.errors import DataError
from meshd.data.load import load_dataset, load_npz
from meshd.data.npz import ARRAYS


def arrays(**changes: np.ndarray) -> dict[str, np.ndarray]:
    good = {
        "x_train": np.arange(6 * 4, dtype=np.uint8).reshape(6, 2, 2),
        "y_train": np.array([0, 1, 2, 0, 1, 2], np.uint8),
        "x_test": np.arange(2 * 4, dtype=np.uint8).reshape(2, 2, 2),
        "y_test": np.array([0, 1], np.uint8),
    }
    return good | changes


def write(path: Path, **changes: np.ndarray) -> Path:
    np.savez_compressed(path, **arrays(**changes))
    return path


def test_a_good_file(tmp_path: Path) -> None:
    data = load_dataset(write(tmp_path / "d.npz"))
    assert (data.inputs, data.classes, len(data.y_train), len(data.y_test)) == (4, 3, 6, 2)
    out = np.empty((2, 4), np.float32)
    data.fill_rows(data.x_train, np.array([5, 0]), out)
    np.testing.assert_allclose(out, np.array([[20, 21, 22, 23], [0, 1, 2, 3]]) / 23, rtol=1e-6)


WRONG = {
    "no x_test": ({"x_test": None}, "array x_test is missing"),
    "float64 images": ({"x_train": np.zeros((6, 2, 2))}, "x_train is float64"),
    "float labels": ({"y_train": np.zeros(6)}, "y_train is float64"),
    "one label short": ({"y_train": np.zeros(5, np.uint8)}, "must be (N, ...) and (N,)"),
    "flat images": ({"x_train": np.zeros(6, np.uint8)}, "must be (N, ...) and (N,)"),
    "other sample shape": ({"x_test": np.zeros((2, 3, 3), np.uint8)}, "must agree in sample"),
    "no samples": (
        {"x_test": np.zeros((0, 2, 2), np.uint8), "y_test": np.zeros(0, np.uint8)},
        "x_test is empty",
    ),
    "negative label": ({"y_test": np.array([-1, 0], np.int8)}, "y_test must lie in 0 to"),
    "huge label": ({"y_test": np.array([70_000, 0])}, "y_test must lie in 0 to"),
    "NaN": (
        {"x_train": np.full((6, 4), np.nan, np.float32), "x_test": np.ones((2, 4), np.float32)},
        "x_train holds NaN",
    ),
    "objects": ({"y_test": np.array([{}, 1], dtype=object)}, "Python objects"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arrays(case: str, tmp_path: Path) -> None:
    changes, message = WRONG[case]
    wanted = {name: value for name, value in arrays(**changes).items() if value is not None}
    np.savez(tmp_path / "d.npz", **wanted)
    with pytest.raises(DataError) as caught:
        load_dataset(tmp_path / "d.npz")
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).startswith("data file d.npz: ")


def test_truncated_at_every_tenth_byte(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.npz").read_bytes()
    for length in range(10, len(whole) - 1, 10):
        (tmp_path / "cut.npz").write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"not a whole \.npz file"):
            load_npz(tmp_path / "cut.npz")


def test_a_single_array_says_what_is_needed(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.zeros(3))
    with pytest.raises(DataError, match=r"one \.npy array; save all four"):
        load_dataset(tmp_path / "d.npy")


def test_flipped_bytes_never_end_in_another_error(tmp_path: Path) -> None:
    seed = 7
    print(f"seed {seed}")
    generator = np.random.default_rng(seed)
    whole = np.frombuffer(write(tmp_path / "whole.npz").read_bytes(), np.uint8)
    refused = 0
    for _ in range(200):
        broken = whole.copy()
        broken[generator.integers(0, len(broken), 3)] ^= generator.integers(1, 256, 3, np.uint8)
        (tmp_path / "b.npz").write_bytes(broken.tobytes())
        try:
            load_dataset(tmp_path / "b.npz")
        except DataError:
            refused += 1
    assert refused > 100


def test_a_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    """A header that promises 4 TB is refused before anything is allocated."""
    path = tmp_path / "bomb.npz"
    write(path)
    with zipfile.ZipFile(path) as good, zipfile.ZipFile(tmp_path / "b.npz", "w") as bad:
        for name in ARRAYS:
            data = good.read(f"{name}.npy")
            if name == "x_train":
                data = data.replace(b"(6, 2, 2), }", b"(1099511627776, 2, 2), }").ljust(200)
                head = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1099511627776, 4), }"
                head = head.ljust(117) + b"\n"
                data = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head
            bad.writestr(f"{name}.npy", data)
    with pytest.raises(DataError, match="more than 16 GiB"):
        load_dataset(tmp_path / "b.npz")


def with_header(path: Path, header: bytes) -> Path:
    """A good file, but for the header of x_train."""
    write(path)
    head = header + b"\n"
    data = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head
    with zipfile.ZipFile(path) as good:
        content = {name: good.read(f"{name}.npy") for name in ARRAYS}
    with zipfile.ZipFile(path, "w") as bad:
        for name, whole in (content | {"x_train": data}).items():
            bad.writestr(f"{name}.npy", whole)
    return path


@pytest.mark.parametrize(
    "shape",
    [
        *("9" * 5000 + ",", "9" * 4000 + ", 0", "-1, 4", "1, " * 3000, "f(1), 4", "{[]: 1},"),
        *("(" * 3000 + ")" * 3000, "1, 'x" + "y" * 5000 + "'", "[" * 500, '"' * 3),
    ],
    ids=lambda shape: shape[:8],
)
def test_a_strange_header_is_a_short_line(shape: str, tmp_path: Path) -> None:
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({shape}), }}"
    path = with_header(tmp_path / "d.npz", header.encode())
    with pytest.raises(DataError) as caught:
        load_dataset(path)
    said = str(caught.value)
    assert len(said) < 200 and "\n" not in said and "ast." not in said and "0x" not in said
    assert said.startswith("data file d.npz: ") and "x_train" in said


def test_inspect_says_what_the_file_holds_or_one_line(tmp_path: Path) -> None:
    def inspect(path: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "meshd.worker.inspect", str(path)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    good = inspect(write(tmp_path / "d.npz"))
    assert good.returncode == 0
    assert good.stdout == '{"input": [1, 2, 2], "classes": 3, "train": 6, "test": 2}\n'
    missing = inspect(tmp_path / "none.npz")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert missing.stderr.count("\n") == 1 and "no such file" in missing.stderr
