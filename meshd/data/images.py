"""Folders of images: train/CLASS/FILE and test/CLASS/FILE, decoded by Pillow.

Class folders in the order of their names give the labels. All images have one size and one mode;
what a header promises is bounded before anything is decoded. PNG, JPEG and BMP are read, told apart
by content; names that begin with a dot are passed over, as is no other file.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from meshd.data.errors import DataError
from meshd.data.source import (
    BROKEN,
    MAX_CLASSES,
    PARTS,
    Block,
    Header,
    Part,
    check_headers,
    open_regular,
    reading,
    wrong,
)

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "BMP")
CHANNELS = {"L": (), "RGB": (3,), "RGBA": (4,)}
MAX_PIXELS = 1 << 24  # 4096 x 4096; no network here takes more
MAX_IMAGES = 10_000_000  # of one part; their names alone take a gigabyte


def looks_like_images(folder: Path) -> bool:
    """Whether there is a folder train or test."""
    return any((folder / part).is_dir() for part in PARTS)


class ImageSource:
    """Two folders of folders of images, listed; the first image's header has been read."""

    format = "image folders"

    def __init__(self, folder: Path) -> None:
        self.name = f"data folder {folder.name}"
        self._folder = folder
        for part in PARTS:
            if not (folder / part).is_dir():
                raise wrong(self.name, f"{part}/ is missing; needs train/CLASS/ and test/CLASS/")
        self.class_names = self._folders("train")
        if unknown := sorted(set(self._folders("test")) - set(self.class_names)):
            raise wrong(self.name, f"test/{unknown[0]} has no counterpart in train")
        self._files: dict[str, list[tuple[int, str]]] = {part: self._list(part) for part in PARTS}
        first = f"train/{self._files['train'][0][1]}"
        with self._opened(first) as file, _decoded(file, f"{self.name}: {first}") as image:
            self._size, self._mode = image.size, image.mode
        check_headers(self)

    def header(self, part: Part) -> Header:
        """What the part holds."""
        width, height = self._size
        shape = (height, width, *CHANNELS[self._mode])
        return Header(len(self._files[part]), shape, np.dtype(np.uint8))

    def blocks(self, part: Part) -> Iterator[Block]:
        """The part's images one by one, by class and then by name."""
        for label, path in self._files[part]:
            name = f"{self.name}: {part}/{path}"
            with self._opened(f"{part}/{path}") as file, _decoded(file, name) as image:
                if (image.size, image.mode) != (self._size, self._mode):
                    raise wrong(
                        name,
                        f"{_size_text(image.size)} {image.mode}, but the first image is"
                        f" {_size_text(self._size)} {self._mode}; all must agree",
                    )
                pixels = _pixels(image, name)
            yield pixels[None], np.array([label])

    def _opened(self, path: str) -> IO[bytes]:
        return open_regular(self._folder / path, f"{self.name}: {path}")

    def _folders(self, part: str) -> tuple[str, ...]:
        """The names of a part's class folders, sorted."""
        names = []
        for entry in self._entries(part):
            if not entry.is_dir(follow_symlinks=False):
                raise wrong(self.name, f"{part}/{entry.name} is not a folder; needs {part}/CLASS/")
            names.append(entry.name)
            if len(names) > MAX_CLASSES:
                raise wrong(self.name, f"{part} has more than {MAX_CLASSES} classes")
        if not names:
            raise wrong(self.name, f"{part} is empty; needs {part}/CLASS/")
        return tuple(sorted(names))

    def _list(self, part: str) -> list[tuple[int, str]]:
        """Label and path below the part of every image."""
        found: list[tuple[int, str]] = []
        for class_name in self._folders(part):
            label = self.class_names.index(class_name)
            names = sorted(entry.name for entry in self._entries(f"{part}/{class_name}"))
            if not names:
                raise wrong(self.name, f"{part}/{class_name} is empty")
            found += [(label, f"{class_name}/{name}") for name in names]
            if len(found) > MAX_IMAGES:
                raise wrong(self.name, f"{part} has more than {MAX_IMAGES} images")
        return found

    def _entries(self, path: str) -> Iterator[os.DirEntry[str]]:
        """What a folder holds; never what a link to another one does."""
        if (self._folder / path).is_symlink():
            raise wrong(f"{self.name}: {path}", "a symbolic link; only real folders are read")
        with (
            reading(f"{self.name}: {path}", "cannot be read"),
            os.scandir(self._folder / path) as entries,
        ):
            yield from (entry for entry in entries if not entry.name.startswith("."))


def read_pixels(path: Path, name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The pixels of one image file, (H, W) or (H, W, C); `name` stands in errors.

    Raises:
        DataError: no image, a mode that is not known here, or not whole.
    """
    with open_regular(path, name, follow=True) as file, _decoded(file, name) as image:
        return _pixels(image, name)


def _size_text(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _decoded(file: IO[bytes], name: str) -> Image.Image:
    """An image whose header has been read and bounded; its pixels have not."""
    try:
        from PIL import Image
    except ImportError:
        raise DataError(
            f"{name}: images need Pillow; install: pip install 'meshd[train]'"
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(file, formats=FORMATS)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise wrong(name, f"more than {MAX_PIXELS} pixels") from None
    except (*BROKEN, SyntaxError):
        raise wrong(name, f"not an image in {', '.join(FORMATS)}") from None
    if image.width * image.height > MAX_PIXELS:
        raise wrong(name, f"{_size_text(image.size)} is more than {MAX_PIXELS} pixels")
    if image.mode not in CHANNELS:
        raise wrong(name, f"mode {image.mode}; must be one of {', '.join(CHANNELS)}: convert it")
    return image


def _pixels(image: Image.Image, name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """(H, W) or (H, W, C)."""
    try:
        return np.asarray(image)
    except (*BROKEN, SyntaxError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise wrong(name, f"not a whole image ({reason}); copy it again") from None
