"""Images that nobody has labelled: one file, or a folder with nothing but images in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from meshd.data.dataset import channels_last, input_shape
from meshd.data.images import MAX_IMAGES, looks_like_images, read_pixels
from meshd.data.npz import NPY_MAGIC, ZIP_MAGIC
from meshd.data.source import wrong

# First bytes of the formats that `meshd.data.images` decodes: PNG, JPEG, BMP.
MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM")
# Names that promise an image: what is in such a file is then told apart from a table.
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
MAX_BYTES = 1 << 32  # of all images together, decoded


@dataclass(frozen=True)
class Pictures:
    """Images as rows: x_test (samples, inputs) uint8, each of `shape`; `names`: their files'."""

    x_test: NDArray[np.uint8]
    names: tuple[str, ...]
    shape: tuple[int, ...]
    class_names: tuple[str, ...] = ()

    @property
    def inputs(self) -> int:
        """Numbers of one image."""
        return int(self.x_test.shape[1])

    @property
    def input_shape(self) -> tuple[int, ...]:
        """A network's input without the batch: (channels, height, width)."""
        return input_shape(self.shape)

    def fill_rows(
        self, x: NDArray[np.uint8], picked: NDArray[np.int64], out: NDArray[np.float32]
    ) -> None:
        """Write picked images in the order channel, height, width; as `Dataset` with scale 1."""
        rows = x[picked]
        if channels_last(self.shape):
            rows = rows.reshape(-1, *self.shape).transpose(0, 3, 1, 2)
        out.reshape(rows.shape)[...] = rows


def are_pictures(source: str | Path) -> bool:
    """Whether it is an image, or a folder whose first file, by name, is one.

    By its content; a name that ends as an image's decides only against a table of text.
    """
    path = Path(source)
    if path.is_dir():
        if looks_like_images(path):
            return False
        path = min((entry for entry in path.iterdir() if _counts(entry)), default=path)
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(8)
    named = path.suffix.lower() in SUFFIXES and not head.startswith((ZIP_MAGIC, NPY_MAGIC))
    return named or head.startswith(MAGIC)


def load_pictures(source: str | Path) -> Pictures:
    """Read an image, or all images of a folder by name.

    Raises:
        DataError: one that is no image, or has another size or mode than the first.
    """
    path = Path(source)
    files = sorted(entry for entry in path.iterdir() if _counts(entry)) if path.is_dir() else [path]
    if len(files) > MAX_IMAGES:
        raise wrong(f"data folder {path.name}", f"more than {MAX_IMAGES} images")
    rows: list[NDArray[np.uint8]] = []
    total = 0
    for file in files:
        pixels = read_pixels(file, f"image {file.name}")
        if rows and pixels.shape != rows[0].shape:
            raise wrong(
                f"image {file.name}",
                f"{pixels.shape}, but the first image is {rows[0].shape}; all must agree",
            )
        total += pixels.nbytes
        if total > MAX_BYTES:
            raise wrong(f"data folder {path.name}", f"more than {MAX_BYTES >> 30} GiB decoded")
        rows.append(pixels)
    stacked = np.stack(rows)
    return Pictures(stacked.reshape(len(rows), -1), tuple(f.name for f in files), stacked.shape[1:])


def _counts(entry: Path) -> bool:
    return not entry.name.startswith(".") and entry.is_file()
