"""Known data sets: their files, checksums and mirrors.

Checksums and sizes are of the files as their authors publish them: MNIST and Fashion-MNIST as the
four gzip files, whose unpacked content was compared with the authors' MD5 sums; CIFAR-10 as the
binary version's archive (MD5 c32a1d4ab5d03f1284b67883e8d87530 on the author's page). A mirror is
trusted with nothing: what it gives is used only if size and SHA-256 are right.
"""

from __future__ import annotations

from dataclasses import dataclass

from meshd.data import cifar


@dataclass(frozen=True)
class RemoteFile:
    """One file: its name, size, digest (hexadecimal), and the addresses to try in this order."""

    name: str
    size_bytes: int
    sha256: str
    urls: tuple[str, ...]


@dataclass(frozen=True)
class RemoteSet:
    """A data set by name. `members`: of a .tar.gz, the files to unpack and their sizes, else ()."""

    name: str
    about: str
    files: tuple[RemoteFile, ...]
    class_names: tuple[str, ...]
    members: tuple[tuple[str, int], ...] = ()

    @property
    def size_bytes(self) -> int:
        """What is downloaded."""
        return sum(file.size_bytes for file in self.files)

    @property
    def cache_bytes(self) -> int:
        """What lies in the cache afterwards."""
        return sum(size for _, size in self.members) or self.size_bytes


def _files(mirrors: tuple[str, ...], *files: tuple[str, int, str]) -> tuple[RemoteFile, ...]:
    """Files that every mirror has under the same name."""
    return tuple(
        RemoteFile(name, size, sha256, tuple(mirror + name for mirror in mirrors))
        for name, size, sha256 in files
    )


MNIST = RemoteSet(
    "mnist",
    "handwritten digits, 28 x 28 grey, 60,000 + 10,000",
    _files(
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://raw.githubusercontent.com/fgnt/mnist/master/",
        ),
        (
            "train-images-idx3-ubyte.gz",
            9_912_422,
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        (
            "train-labels-idx1-ubyte.gz",
            28_881,
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
        (
            "t10k-images-idx3-ubyte.gz",
            1_648_877,
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        (
            "t10k-labels-idx1-ubyte.gz",
            4_542,
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    ),
    tuple("0123456789"),
)

FASHION_MNIST = RemoteSet(
    "fashion-mnist",
    "articles of clothing, 28 x 28 grey, 60,000 + 10,000",
    _files(
        (
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        ),
        (
            "train-images-idx3-ubyte.gz",
            26_421_880,
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        ),
        (
            "train-labels-idx1-ubyte.gz",
            29_515,
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        ),
        (
            "t10k-images-idx3-ubyte.gz",
            4_422_102,
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        ),
        (
            "t10k-labels-idx1-ubyte.gz",
            5_148,
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
    ),
    (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
)

CIFAR_10 = RemoteSet(
    "cifar-10",
    "ten kinds of things, 32 x 32 colour, 50,000 + 10,000",
    _files(
        (
            "https://www.cs.toronto.edu/~kriz/",
            "https://cave.cs.toronto.edu/kriz/",
            "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/",
        ),
        (
            "cifar-10-binary.tar.gz",
            170_052_171,
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ),
    ),
    cifar.CLASS_NAMES,
    tuple(
        (f"{cifar.FOLDER}/{name}", 10_000 * cifar.RECORD_BYTES)
        for names in cifar.FILES.values()
        for name in names
    ),
)

CATALOGUE = {one.name: one for one in (MNIST, FASHION_MNIST, CIFAR_10)}
