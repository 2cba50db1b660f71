"""Downloads from a real HTTP server on this machine: what is wrong is said, no half file stays."""

from __future__ import annotations

import gzip
import hashlib
import io
import socket
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from meshd.data import download
from meshd.data.catalogue import CATALOGUE, RemoteFile, RemoteSet
from meshd.data.cifar import RECORD_BYTES
from meshd.data.download import cache_folder, fetch, is_cached
from meshd.data.errors import DataError, DownloadError
from meshd.data.load import load_dataset

sys.path.insert(0, str(Path(__file__).parent))
from idx_bytes import idx_bytes

CONTENT = b"the file" * 100_000


class Server(ThreadingHTTPServer):
    """Answers from a table; remembers what was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: dict[str, bytes] = {}
        self.promised: dict[str, int] = {}
        self.moved: dict[str, str] = {}
        self.asked: list[str] = []

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.path in self.server.moved:
            self.send_response(302)
            self.send_header("Location", self.server.moved[self.path])
            self.end_headers()
            return
        if self.path not in self.server.bodies:
            self.send_error(404)
            return
        body = self.server.bodies[self.path]
        self.send_response(200)
        size = self.server.promised.get(self.path, len(body))
        if size >= 0:
            self.send_header("Content-Length", str(size))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as served:
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served
        served.shutdown()
        thread.join()


def remote(name: str, content: bytes, *urls: str) -> RemoteFile:
    return RemoteFile(name, len(content), hashlib.sha256(content).hexdigest(), urls)


def catalogue(*files: RemoteFile, **more: object) -> dict[str, RemoteSet]:
    return {"d": RemoteSet("d", "a test", files, (), **more)}


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    server.bodies["/f"] = CONTENT
    known, said = catalogue(remote("f", CONTENT, server.url("/f"))), []
    assert not is_cached(known["d"], tmp_path)
    for _ in range(2):
        folder = fetch("d", tmp_path, said.append, known)
        assert (folder / "f").read_bytes() == CONTENT
    assert server.asked == ["/f"] and names(tmp_path) == ["d/f"]
    assert said == [f"f: 0.8 MB from 127.0.0.1:{server.server_port}"]
    assert is_cached(known["d"], tmp_path)


def test_a_damaged_file_in_the_cache_is_fetched_again(server: Server, tmp_path: Path) -> None:
    server.bodies["/f"] = CONTENT
    known = catalogue(remote("f", CONTENT, server.url("/f")))
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(b"x" + CONTENT[1:])
    assert (fetch("d", tmp_path, catalogue=known) / "f").read_bytes() == CONTENT


def test_a_file_put_there_by_hand_needs_no_network(tmp_path: Path) -> None:
    known = catalogue(remote("f", CONTENT, "https://192.0.2.1/f"))
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(CONTENT)
    assert fetch("d", tmp_path, catalogue=known) == tmp_path / "d"


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def wrong_checksum(server: Server) -> str:
    server.bodies["/bad"] = b"x" + CONTENT[1:]
    return server.url("/bad")


def short_body(server: Server) -> str:
    server.bodies["/bad"], server.promised["/bad"] = CONTENT[:-5], len(CONTENT)
    return server.url("/bad")


def shorter_file(server: Server) -> str:
    server.bodies["/bad"] = CONTENT[:-7]
    return server.url("/bad")


def endless(server: Server) -> str:
    server.bodies["/bad"], server.promised["/bad"] = CONTENT * 4, -1
    return server.url("/bad")


def redirected_to_http(server: Server) -> str:
    server.moved["/bad"] = "http://192.0.2.1/f"
    return server.url("/bad")


BAD: dict[str, tuple[Callable[[Server], str], str]] = {
    "wrong checksum": (wrong_checksum, "wrong checksum: it is another file"),
    "short body": (short_body, "5 of 800000 bytes are missing"),
    "shorter file": (shorter_file, "7 of 800000 bytes are missing"),
    "longer": (endless, "more than the 800000 bytes of the file"),
    "not there": (lambda server: server.url("/none"), "404 Not Found"),
    "refused": (lambda _: f"http://127.0.0.1:{closed_port()}/f", "Connection refused"),
    "plain http": (lambda _: "http://192.0.2.1/f", "http://192.0.2.1 is not https"),
    "a file": (lambda _: "file:///etc/passwd", "file:// is not https"),
    "redirected": (redirected_to_http, "http://192.0.2.1 is not https"),
    "no TLS": (lambda server: server.url("/f").replace("http", "https"), "SSL"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_mirror(case: str, server: Server, tmp_path: Path) -> None:
    """Alone it is one line that says what to do by hand; before a good one it does no harm."""
    make, reason = BAD[case]
    server.bodies["/f"] = CONTENT
    bad = make(server)
    with pytest.raises(DownloadError) as caught:
        fetch("d", tmp_path, catalogue=catalogue(remote("f", CONTENT, bad)))
    line = str(caught.value)
    assert reason in line and "\n" not in line
    assert line.startswith("d: f could not be downloaded (")
    where = bad.removesuffix("f")
    assert line.endswith(f"; fetch by hand f from {where} and put it into {tmp_path / 'd'}")
    assert names(tmp_path) == []
    known = catalogue(remote("f", CONTENT, bad, server.url("/f")))
    assert (fetch("d", tmp_path, catalogue=known) / "f").read_bytes() == CONTENT
    assert names(tmp_path) == ["d/f"]


def test_every_mirror_that_failed_is_named(server: Server, tmp_path: Path) -> None:
    urls = (server.url("/none"), f"http://localhost:{closed_port()}/f")
    with pytest.raises(DownloadError) as caught:
        fetch("d", tmp_path, catalogue=catalogue(remote("f", CONTENT, *urls)))
    assert "404 Not Found; localhost:" in str(caught.value)


def test_every_file_that_is_needed_by_hand_is_named(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{closed_port()}/"
    known = catalogue(*(remote(name, CONTENT, url + name) for name in ("f", "g", "h")))
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "g").write_bytes(CONTENT)
    with pytest.raises(DownloadError, match=f"fetch by hand f, h from {url} and put it into"):
        fetch("d", tmp_path, catalogue=known)


def test_a_slow_mirror_is_given_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "LIMIT_S", -1.0)
    server.bodies["/f"] = CONTENT
    with pytest.raises(DownloadError, match="not done after"):
        fetch("d", tmp_path, catalogue=catalogue(remote("f", CONTENT, server.url("/f"))))


def test_a_silent_mirror_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "SILENCE_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/f"
        with pytest.raises(DownloadError, match="timed out"):
            fetch("d", tmp_path, catalogue=catalogue(remote("f", CONTENT, url)))


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "d").write_text("a file where the folder should be")
    with pytest.raises(DownloadError, match=r"d: cannot write into .*/d: "):
        fetch("d", tmp_path, catalogue=catalogue(remote("f", CONTENT)))


def test_an_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="imagenet: not known; known are mnist, fashion-mnist"):
        fetch("imagenet", tmp_path)


def tar_gz(members: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def test_an_archive_is_unpacked_and_dropped(server: Server, tmp_path: Path) -> None:
    """Only the wanted members, by their exact names."""
    archive = tar_gz({"b/one": b"1" * 9, "../evil": b"x", "b/two": b"2" * 5, "b/other": b"o"})
    server.bodies["/a.tar.gz"] = archive
    known = catalogue(
        remote("a.tar.gz", archive, server.url("/a.tar.gz")), members=(("b/one", 9), ("b/two", 5))
    )
    for _ in range(2):
        assert fetch("d", tmp_path / "c", catalogue=known) == tmp_path / "c" / "d" / "b"
        assert names(tmp_path) == ["c/d/b/one", "c/d/b/two"]
    assert len(server.asked) == 1
    assert (known["d"].size_bytes, known["d"].cache_bytes) == (len(archive), 14)


@pytest.mark.parametrize("members", [{"b/one": b"1"}, {"b/two": b"123456789"}])
def test_an_archive_without_its_members(
    members: dict[str, bytes], server: Server, tmp_path: Path
) -> None:
    archive = tar_gz(members)
    server.bodies["/a"] = archive
    known = catalogue(remote("a", archive, server.url("/a")), members=(("b/one", 9),))
    with pytest.raises(DownloadError, match=r"d: .*/d/a cannot be unpacked: .*b/one"):
        fetch("d", tmp_path, catalogue=known)


def test_a_name_is_loaded_from_the_cache_or_the_net(
    server: Server, tmp_path: Path, digits: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`load_dataset` by name, with class names; a path of that name wins once it exists."""
    files = []
    for part, first in (("train", "train"), ("test", "t10k")):
        for kind, letter, dims in (("images", "x", 3), ("labels", "y", 1)):
            name = f"{first}-{kind}-idx{dims}-ubyte.gz"
            server.bodies[f"/{name}"] = gzip.compress(idx_bytes(digits[f"{letter}_{part}"]))
            files.append(remote(name, server.bodies[f"/{name}"], server.url(f"/{name}")))
    small = RemoteSet("mnist", "a test", tuple(files), ("nil", "one", "two"))
    monkeypatch.setitem(CATALOGUE, "mnist", small)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    data = load_dataset("mnist")
    np.testing.assert_array_equal(data.x_test, digits["x_test"].reshape(3, -1))
    assert data.class_names == ("nil", "one", "two")
    assert len(names(tmp_path / "cache" / "meshd" / "data" / "mnist")) == 4
    (tmp_path / "mnist").mkdir()
    with pytest.raises(DataError, match="data folder mnist: no data set"):
        load_dataset("mnist")


def test_where_the_cache_is(tmp_path: Path) -> None:
    assert cache_folder({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "meshd" / "data"
    for ignored in ({}, {"XDG_CACHE_HOME": ""}, {"XDG_CACHE_HOME": "relative"}):
        assert cache_folder(ignored) == Path.home() / ".cache" / "meshd" / "data"


def test_the_catalogue_is_whole() -> None:
    assert list(CATALOGUE) == ["mnist", "fashion-mnist", "cifar-10"]
    for name, known in CATALOGUE.items():
        assert known.name == name and len(known.class_names) == 10
        for file in known.files:
            assert len(file.sha256) == 64 and int(file.sha256, 16) and len(file.urls) >= 2
            assert all(url.startswith("https://") for url in file.urls)
            assert all(url.endswith("/" + file.name) for url in file.urls)
    assert sum(size for _, size in CATALOGUE["cifar-10"].members) == 60_000 * RECORD_BYTES
