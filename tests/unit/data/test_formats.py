"""The same samples come out of every format, in blocks of any size, whole or in part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from meshd.data import cifar, source
from meshd.data.dataset import Dataset, input_shape
from meshd.data.errors import DataError
from meshd.data.load import load_dataset, load_npz, open_source
from meshd.data.npz import write_npz

Arrays = dict[str, np.ndarray]


def assert_same(one: Dataset, other: Dataset) -> None:
    for name in ("x_train", "y_train", "x_test", "y_test"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert (one.classes, one.scale, one.shape) == (other.classes, other.scale, other.shape)
    assert one.class_names == other.class_names


def check(data: Dataset, arrays: Arrays) -> None:
    for part in ("train", "test"):
        x = arrays[f"x_{part}"]
        np.testing.assert_array_equal(getattr(data, f"x_{part}"), x.reshape(len(x), -1))
        np.testing.assert_array_equal(getattr(data, f"y_{part}"), arrays[f"y_{part}"])
        assert getattr(data, f"y_{part}").dtype == np.int64


@pytest.mark.parametrize("block_bytes", [1, 45, 1 << 20])
@pytest.mark.parametrize("layout", ["C", "F"])
def test_npz_in_blocks(
    block_bytes: int,
    layout: str,
    tmp_path: Path,
    digits: Arrays,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("meshd.data.npz.BLOCK_BYTES", block_bytes)
    path = tmp_path / "d.npz"
    np.savez(path, **{name: np.asarray(a, order=layout) for name, a in digits.items()})
    data = load_dataset(path)
    check(data, digits)
    assert (data.shape, data.input_shape, data.classes) == ((5, 4), (1, 5, 4), 3)
    assert data.scale == np.float32(1 / 255)


def test_big_endian_floats(tmp_path: Path, digits: Arrays) -> None:
    changed = {k: (a.astype(">f4") - 300 if k[0] == "x" else a) for k, a in digits.items()}
    np.savez(tmp_path / "d.npz", **changed)
    data = load_dataset(tmp_path / "d.npz")
    check(data, changed)
    assert data.x_train.dtype == np.dtype(np.float32) and data.x_train.dtype.isnative
    assert data.scale == np.float32(1 / abs(changed["x_train"].min()))


@pytest.mark.parametrize("block_bytes", [1, 45, 1 << 20])
def test_idx(
    block_bytes: int, idx_folder: Path, digits: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "BLOCK_BYTES", block_bytes)
    data = load_dataset(str(idx_folder))
    check(data, digits)
    assert (data.shape, data.input_shape) == ((5, 4), (1, 5, 4))


def test_cifar(cifar_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar, "BLOCK_BYTES", 3 * cifar.RECORD_BYTES)
    data = load_dataset(cifar_folder)
    raw = b"".join((cifar_folder / name).read_bytes() for name in cifar.FILES["train"])
    records = np.frombuffer(raw, np.uint8).reshape(20, -1)
    np.testing.assert_array_equal(data.y_train, records[:, 0])
    np.testing.assert_array_equal(data.x_train, records[:, 1:])
    assert (data.shape, data.input_shape) == ((3, 32, 32), (3, 32, 32))
    assert (len(data.y_test), data.classes, data.class_names[3]) == (4, 10, "cat")


def test_cifar_as_its_archive_unpacks(cifar_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "above").mkdir()
    cifar_folder.rename(tmp_path / "above" / cifar.FOLDER)
    assert load_dataset(tmp_path / "above").inputs == 3072


def test_image_folders(image_folder: Path) -> None:
    data = load_dataset(image_folder)
    assert (data.shape, data.input_shape) == ((5, 6, 3), (3, 5, 6))
    assert data.class_names == ("cat", "dog")
    np.testing.assert_array_equal(data.y_train, [0, 0, 1])
    np.testing.assert_array_equal(data.y_test, [0, 1])
    np.testing.assert_allclose(data.x_train[:, 0], [10, 20, 30], atol=3)  # the 2nd is a JPEG
    np.testing.assert_array_equal(data.x_test[:, 0], [40, 50])


def test_grey_images_have_two_dimensions(image_folder: Path) -> None:
    from PIL import Image

    for path in image_folder.rglob("*.*g"):
        Image.open(path).convert("L").save(path)
    path = image_folder / "test" / "cat" / "x.bmp"
    Image.open(path).convert("L").save(path)
    assert load_dataset(image_folder).input_shape == (1, 5, 6)


LINES = [f"{i % 3},{i},{-i / 2},1e2" for i in range(11)]


def expected(picked: list[int]) -> tuple[np.ndarray, list[int]]:
    return np.array([[i, -i / 2, 100] for i in picked], np.float32), [i % 3 for i in picked]


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(LINES),
        "\ufefflabel,a,b,c\r\n" + "\r\n".join(LINES) + "\r\n\r\n",
        "a;Class;b;c\n\n" + "\n".join("{1};{0};{2};{3}".format(*s.split(",")) for s in LINES),
        'x,"y, z",t\n' + "\n".join(s.rsplit(",", 1)[0] for s in LINES),
        "\n".join('"{}"\t {} \t{}\t{}'.format(*s.split(",")) for s in LINES),
    ],
    ids=["bare", "header and byte order mark", "label in 2nd", "quotes", "tabs"],
)
@pytest.mark.parametrize("block_bytes", [1, 1 << 20])
def test_csv_is_split_at_every_fifth(
    text: str, block_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshd.data.table.BLOCK_BYTES", block_bytes)
    (tmp_path / "d.csv").write_text(text, newline="")
    data = load_dataset(tmp_path / "d.csv")
    x, y = expected([0, 1, 2, 3, 5, 6, 7, 8, 10])
    np.testing.assert_array_equal(data.x_train, x[:, : data.inputs])
    np.testing.assert_array_equal(data.y_train, y)
    x, y = expected([4, 9])
    np.testing.assert_array_equal(data.x_test, x[:, : data.inputs])
    np.testing.assert_array_equal(data.y_test, y)
    assert data.input_shape == data.shape == (data.inputs,)


@pytest.mark.parametrize("names", [("train.csv", "test.csv"), ("d_train.csv", "d_test.csv")])
def test_two_csv_files(names: tuple[str, str], tmp_path: Path) -> None:
    for name, lines in zip(names, (LINES[:8], LINES[8:]), strict=True):
        (tmp_path / name).write_text("\n".join(lines))
    given = tmp_path if names[0] == "train.csv" else tmp_path / names[0]
    data = load_dataset(given)
    np.testing.assert_array_equal(data.x_train, expected(list(range(8)))[0])
    np.testing.assert_array_equal(data.x_test, expected([8, 9, 10])[0])


@pytest.mark.parametrize("kind", ["idx_folder", "cifar_folder", "image_folder", "csv", "npz"])
def test_the_test_part_alone(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, digits: Arrays
) -> None:
    """The same test rows and scale; with a known scale the training part is not even opened."""
    if kind == "csv":
        (tmp_path / "d.csv").write_text("\n".join(LINES))
        path = tmp_path / "d.csv"
    elif kind == "npz":
        path = tmp_path / "d.npz"
        np.savez_compressed(path, **digits)
    else:
        path = request.getfixturevalue(kind)
    whole, part = load_dataset(path), load_dataset(path, part="test")
    np.testing.assert_array_equal(whole.x_test, part.x_test)
    np.testing.assert_array_equal(whole.y_test, part.y_test)
    assert (len(part.x_train), part.inputs, part.scale) == (0, whole.inputs, whole.scale)
    assert part.input_shape == whole.input_shape
    opened = open_source(path)
    blocks = opened.blocks
    opened.blocks = lambda wanted: pytest.fail("read") if wanted == "train" else blocks(wanted)
    from meshd.data.load import read_source

    assert read_source(opened, "test", scale=0.5).scale == 0.5


def test_rows_are_what_the_network_sees(image_folder: Path) -> None:
    data = load_dataset(image_folder)
    picked = np.array([2, 0])
    out = np.full((2, 3, 5, 6), np.nan, np.float32)
    data.fill_rows(data.x_train, picked, out)
    images = data.x_train.reshape(-1, 5, 6, 3)[picked].transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(out, images.astype(np.float32) * data.scale)
    assert np.abs(out).max() <= 1
    flat = np.empty((2, 90), np.float32)
    data.fill_rows(data.x_train, picked, flat)
    np.testing.assert_array_equal(flat, out.reshape(2, -1))


@pytest.mark.parametrize(
    ("stored", "seen"),
    [
        ((28, 28), (1, 28, 28)),
        ((32, 30, 3), (3, 32, 30)),
        ((32, 30, 1), (1, 32, 30)),
        ((32, 30, 4), (4, 32, 30)),
        ((3, 32, 30), (3, 32, 30)),
        ((3, 5, 3), (3, 3, 5)),
        ((784,), (784,)),
        ((8, 8, 8), (512,)),
        ((2, 2, 2, 3), (24,)),
    ],
)
def test_input_shape(stored: tuple[int, ...], seen: tuple[int, ...]) -> None:
    assert input_shape(stored) == seen


@pytest.mark.parametrize("kind", ["idx_folder", "cifar_folder", "image_folder"])
def test_written_as_npz_it_is_the_same(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    data = load_dataset(request.getfixturevalue(kind))
    with (tmp_path / "out.npz").open("wb") as file:
        write_npz(data, file)
    assert_same(load_npz(tmp_path / "out.npz"), data)


def test_a_job_takes_npz_only(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("\n".join(LINES))
    with pytest.raises(DataError, match=r"not an \.npz file; .*meshd data convert SRC OUT\.npz"):
        load_npz(tmp_path / "d.csv")
