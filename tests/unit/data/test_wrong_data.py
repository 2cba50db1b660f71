"""Each way in which a data set can be wrong is one line that names it, in every format."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from idx_bytes import idx_bytes
from PIL import Image

from meshd.data.errors import DataError
from meshd.data.load import load_dataset

Change = Callable[[Path], object]


def refusal(path: Path | str) -> str:
    with pytest.raises(DataError) as caught:
        load_dataset(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte"
ZEROS = np.zeros((7, 5, 4), np.uint8)


def write_gz(content: bytes) -> Change:
    return lambda folder: (folder / IMAGES).write_bytes(gzip.compress(content))


def cut(name: str, count: int) -> Change:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-count])


IDX_WRONG: dict[str, tuple[Change, str]] = {
    "missing": (lambda f: (f / LABELS).unlink(), f"{LABELS} (or {LABELS}.gz) is missing"),
    "truncated gzip": (cut(IMAGES, 20), f"{IMAGES}: not whole"),
    "truncated": (cut(LABELS, 1), "its header promises 7 bytes"),
    "cut in the header": (lambda f: (f / LABELS).write_bytes(b"\0\0\x08\x01\0"), "is cut off"),
    "no bytes": (lambda f: (f / LABELS).write_bytes(b""), "begins with nothing, not 00000801"),
    "labels for images": (write_gz(idx_bytes(np.zeros(7))), "begins with 00000801, not 00000803"),
    "images for labels": (
        lambda f: (f / LABELS).write_bytes(idx_bytes(ZEROS)),
        "begins with 00000803, not 00000801",
    ),
    "floats": (write_gz(b"\0\0\x0d\x03" + bytes(100)), "begins with 00000d03"),
    "not gzip inside": (lambda f: (f / IMAGES).write_bytes(b"\x1f\x8bxxxxxxxxxx"), "not whole"),
    "fewer rows than said": (write_gz(idx_bytes(ZEROS)[:-1]), "1 bytes are missing"),
    "more rows than said": (write_gz(idx_bytes(ZEROS) + b"0"), "longer than its header says"),
    "counts differ": (write_gz(idx_bytes(ZEROS[:6])), "has 6 images, but 7 labels"),
    "other image size": (write_gz(idx_bytes(np.zeros((7, 5, 5)))), "must agree in sample shape"),
    "no pixels": (write_gz(idx_bytes(np.zeros((7, 0, 4)))), "x_train is empty"),
    "bomb in the header": (
        write_gz(b"\0\0\x08\x03" + struct.pack(">3I", 2**31, 2**31, 2**31)),
        "more than 16 GiB",
    ),
    "promises more than gzip can hold": (
        write_gz(b"\0\0\x08\x03" + struct.pack(">3I", 7, 2**15, 2**14)),
        "promises 3758096384 bytes",
    ),
    "a link": (
        lambda f: ((f / LABELS).rename(f.parent / "away"), (f / LABELS).symlink_to(f / "away")),
        "a symbolic link",
    ),
    "a folder": (lambda f: ((f / LABELS).unlink(), (f / LABELS).mkdir()), "not a regular file"),
    "a pipe": (lambda f: ((f / LABELS).unlink(), os.mkfifo(f / LABELS)), "not a regular file"),
}


@pytest.mark.parametrize("case", IDX_WRONG)
def test_idx(case: str, idx_folder: Path) -> None:
    change, message = IDX_WRONG[case]
    change(idx_folder)
    line = refusal(idx_folder)
    assert line.startswith("data folder idx: ") and message in line


def test_a_gzip_bomb_is_not_unpacked(idx_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading ends one byte after what the header promised."""
    read = []
    real = gzip.GzipFile.read

    def counted(self: gzip.GzipFile, size: int | None = -1) -> bytes:
        read.append(size)
        return real(self, size)

    monkeypatch.setattr(gzip.GzipFile, "read", counted)
    write_gz(idx_bytes(ZEROS) + bytes(10_000_000))(idx_folder)
    assert "longer than its header says" in refusal(idx_folder)
    assert read and all(0 < size <= ZEROS.size for size in read)


def record(label: int) -> bytes:
    return bytes([label]) + bytes(3072)


CIFAR_WRONG: dict[str, tuple[Change, str]] = {
    "missing": (lambda f: (f / "data_batch_3.bin").unlink(), "data_batch_3.bin is missing"),
    "truncated": (cut("test_batch.bin", 1), "test_batch.bin: 12291 bytes are not a whole number"),
    "empty": (lambda f: (f / "test_batch.bin").write_bytes(b""), "0 bytes are not a whole number"),
    "label": (
        lambda f: (f / "data_batch_2.bin").write_bytes(record(9) + record(10)),
        "data_batch_2.bin: record 1 has label 10, not 0 to 9",
    ),
    "pickle": (lambda f: (f / "data_batch_1").write_bytes(b"\x80\x02"), "a pickle, which is never"),
    "link": (
        lambda f: (
            (f / "test_batch.bin").rename(f / "t"),
            (f / "test_batch.bin").symlink_to("t"),
        ),
        "test_batch.bin: a symbolic link",
    ),
}


@pytest.mark.parametrize("case", CIFAR_WRONG)
def test_cifar(case: str, cifar_folder: Path) -> None:
    change, message = CIFAR_WRONG[case]
    change(cifar_folder)
    line = refusal(cifar_folder)
    assert line.startswith("data folder cifar: ") and message in line


def save(path: str, mode: str = "RGB", size: tuple[int, int] = (6, 5)) -> Change:
    return lambda folder: Image.new(mode, size).save(folder / path)


def write(path: str, content: bytes) -> Change:
    def change(folder: Path) -> None:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)

    return change


def moved(old: str, new: str) -> Change:
    return lambda folder: (folder / old).rename(folder / new)


def linked(folder: Path) -> None:
    (folder / "test" / "dog").rename(folder / "away")
    (folder / "test" / "dog").symlink_to(folder / "away")


def promising(width: int, height: int) -> Change:
    """A PNG whose header promises so many pixels, and that has none."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        size, check = struct.pack(">I", len(content)), struct.pack(">I", zlib.crc32(kind + content))
        return size + kind + content + check

    head = chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0))
    return write("train/cat/a.png", b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", b""))


IMAGES_WRONG: dict[str, tuple[Change, str]] = {
    "no test": (moved("test", "tests"), "test/ is missing"),
    "no train": (moved("train", "training"), "train/ is missing"),
    "other size": (
        save("test/cat/x.bmp", size=(6, 6)),
        "test/cat/x.bmp: 6 x 6 RGB, but the first image is 6 x 5 RGB",
    ),
    "other mode": (save("train/dog/a.png", "L"), "train/dog/a.png: 6 x 5 L, but the first"),
    "palette": (save("train/cat/a.png", "P"), "train/cat/a.png: mode P; must be one of L, RGB"),
    "truncated": (cut("train/dog/a.png", 25), "train/dog/a.png: not a whole image"),
    "text": (write("test/dog/y.png", b"hello"), "test/dog/y.png: not an image in PNG, JPEG, BMP"),
    "other file": (write("test/dog/notes.txt", b"hello"), "test/dog/notes.txt: not an image"),
    "no bytes": (write("test/dog/y.png", b""), "test/dog/y.png: not an image"),
    "unknown class": (moved("test/dog", "test/wolf"), "test/wolf has no counterpart in train"),
    "empty class": (lambda f: (f / "train" / "eel").mkdir(), "train/eel is empty"),
    "image without class": (moved("test/dog/y.png", "test/y.png"), "test/y.png is not a folder"),
    "bomb": (promising(65_536, 65_536), "train/cat/a.png: more than 16777216 pixels"),
    "large": (promising(4097, 4096), "4097 x 4096 is more than 16777216"),
    "linked class": (linked, "test/dog is not a folder"),
    "linked image": (
        lambda f: ((f / "l.png").write_bytes(b""), (f / "test/dog/z.png").symlink_to(f / "l.png")),
        "test/dog/z.png: a symbolic link",
    ),
    "folder in a class": (lambda f: (f / "test/dog/more").mkdir(), "not a regular file"),
}


@pytest.mark.parametrize("case", IMAGES_WRONG)
def test_images(case: str, image_folder: Path) -> None:
    change, message = IMAGES_WRONG[case]
    change(image_folder)
    line = refusal(image_folder)
    assert line.startswith("data folder pictures: ") and message in line


GOOD = [f"{i % 3},{i},0.5" for i in range(10)]


def with_line(index: int, text: str, header: str = "") -> str:
    return "\n".join([*([header] if header else []), *GOOD[:index], text, *GOOD[index + 1 :]])


CSV_WRONG = {
    "empty": ("", "is empty"),
    "blank": ("\n \n", "is empty"),
    "header alone": ("label,a\n", "has a header and no samples"),
    "one column": ("1\n2\n", "has one column"),
    "few": ("1,2\n" * 4, "4 samples; needs 5"),
    "not a number": (with_line(6, "1,x,2"), "line 7, column 2: 'x' is not a finite number"),
    "in a named column": (with_line(3, "1,2,", "label,a,b"), "line 5, column 3 ('b'): '' is not"),
    "NaN": (with_line(6, "1,nan,2"), "line 7, column 2: 'nan' is not a finite number"),
    "infinity": (with_line(6, "1,2,-inf"), "line 7, column 3: '-inf' is not a finite number"),
    "too large": (with_line(6, "1,2,1e39"), "line 7, column 3: '1e39' is not a finite number"),
    "underscore": (with_line(6, "1,2,1_0"), "line 7, column 3: '1_0' is not a finite number"),
    "cell short": (with_line(6, "1,2"), "line 7 has 2 cells, not 3"),
    "cell long": (with_line(9, "1,2,3,4"), "line 10 has 4 cells, not 3"),
    "second header": (with_line(6, "label,a,b"), "line 7, column 1: 'label' is not a finite"),
    "half a label": (with_line(6, "0.5,2,3"), "line 7, column 1: label '0.5' is not a whole"),
    "negative label": (with_line(6, "-1,2,3"), "label '-1' is not a whole number from 0 to 65535"),
    "large label": (with_line(6, "65536,2,3"), "label '65536' is not a whole number"),
    "long cell": (with_line(6, "1," + "x" * 200_000 + ",3"), "line 7, column 2: 'xxxxxx"),
}


@pytest.mark.parametrize("case", CSV_WRONG)
def test_csv(case: str, tmp_path: Path) -> None:
    text, message = CSV_WRONG[case]
    (tmp_path / "d.csv").write_text(text)
    line = refusal(tmp_path / "d.csv")
    assert line.startswith("data file d.csv: ") and message in line and len(line) < 200


def test_csv_lines_are_bounded_and_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshd.data.table.MAX_LINE_BYTES", 10_000)
    (tmp_path / "d.csv").write_text("\n".join([*GOOD, "1" * 10_001]))
    assert "line 11 has more than 10000 bytes" in refusal(tmp_path / "d.csv")
    (tmp_path / "d.csv").write_bytes("\n".join(GOOD).encode() + b"\n1,\xff,2")
    assert "line 11 is not UTF-8 text" in refusal(tmp_path / "d.csv")


def test_two_csv_files_that_do_not_fit(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("\n".join(GOOD))
    assert "test.csv is missing" in refusal(tmp_path)
    for text in ("1,2\n", "a,label,b\n1,2,3\n"):
        (tmp_path / "test.csv").write_text(text)
        assert "train.csv and test.csv have different columns" in refusal(tmp_path)
    (tmp_path / "train.csv").write_text("label,a,b\n" + "\n".join(GOOD))
    (tmp_path / "test.csv").write_text("label,b,a\n" + "\n".join(GOOD))
    assert "have different columns" in refusal(tmp_path)
    (tmp_path / "test.csv").unlink()
    (tmp_path / "test.csv").symlink_to("train.csv")
    assert "test.csv: a symbolic link" in refusal(tmp_path)


ALONE = {
    "a pickle": (b"\x80\x04\x95....", "a pickle is never loaded"),
    "one IDX file": (idx_bytes(ZEROS), "one IDX file; give the folder"),
    "gzip": (gzip.compress(b"1,2,3"), "compressed; unpack"),
    "an image": (b"\x89PNG\r\n\x1a\n\0\0\0\0", "one image; give a folder"),
    "bytes": (b"abc\0def", "no format that is known here; give an .npz or CSV file"),
    "an empty zip": (b"PK\5\6" + bytes(18), "array x_train is missing"),
}


@pytest.mark.parametrize("case", ALONE)
def test_files_that_are_no_data_set(case: str, tmp_path: Path) -> None:
    content, message = ALONE[case]
    (tmp_path / "data").write_bytes(content)
    assert message in refusal(tmp_path / "data")


def test_folders_and_names_that_are_none(tmp_path: Path) -> None:
    assert "no data set that is known here" in refusal(tmp_path)
    assert "no such file; give" in refusal(tmp_path / "none")
    assert "or a name to download: mnist, fashion-mnist, cifar-10" in refusal("mnst")
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refusal(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to("nowhere")
    assert "no such file" in refusal(tmp_path / "dangling")


def test_npz_class_names_are_bounded(
    tmp_path: Path, digits: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshd.data.npz.MAX_NAMES_BYTES", 1000)
    for names, message in [
        (np.array(["a", "b"]), "has label 2, but there are 2 classes"),
        (np.array([1, 2, 3]), "class_names must be a list of texts"),
        (np.array(["a" * 84] * 3), "class_names is empty, or longer than"),
        (np.array([{}, {}, {}]), "class_names holds Python objects"),
    ]:
        np.savez_compressed(tmp_path / "d.npz", class_names=names, **digits)
        assert message in refusal(tmp_path / "d.npz")


@pytest.mark.parametrize("kind", ["idx_folder", "cifar_folder", "image_folder", "csv_folder"])
def test_damage_never_ends_in_another_error(kind: str, request: pytest.FixtureRequest) -> None:
    """Bytes changed, cut off or added anywhere: the data set loads, or it is one line."""
    folder = request.getfixturevalue(kind)
    seed = 3
    print(f"seed {seed}")
    generator = np.random.default_rng(seed)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    refused = 0
    for turn in range(45):
        path = files[generator.integers(len(files))]
        whole = path.read_bytes()
        broken = np.frombuffer(whole, np.uint8).copy()
        places = generator.integers(0, min(len(broken), 200), 2)  # headers lie at the beginning
        broken[places] ^= generator.integers(1, 256, 2, np.uint8)
        end = generator.integers(0, len(broken)) if turn % 3 == 0 else len(broken)
        path.write_bytes(broken[:end].tobytes())
        try:
            load_dataset(folder)
        except DataError as error:
            assert "\n" not in str(error)
            refused += 1
        path.write_bytes(whole)
    assert refused > 5
    load_dataset(folder)


@pytest.fixture
def csv_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "csv"
    folder.mkdir()
    for part in ("train", "test"):
        (folder / f"{part}.csv").write_text("label,a,b\n" + "\n".join(GOOD))
    return folder
