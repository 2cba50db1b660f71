"""A daemon that may not go on ends with one line, and leaves nothing behind that listens."""

from __future__ import annotations

import socket

import pytest

from meshd.core.errors import FailureError
from meshd.daemon.app import App, Options
from meshd.net.control import ControlLinks
from meshd.net.local import SOCKET_NAME
from meshd.net.zap import ZapTask


def options(folder):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return Options(state=folder / "state", name="desk-1", host="127.0.0.1", port=port, mdns=False)


def test_without_its_authenticator_a_daemon_ends_and_nothing_listens(
    tmp_path, run_async, monkeypatch
):
    chosen = options(tmp_path)

    async def dies(zap):
        raise OSError("the socket is gone")

    monkeypatch.setattr(ZapTask, "_serve", dies)
    with pytest.raises(FailureError, match=r"authenticator died.*restart the daemon"):
        run_async(App(chosen).run())
    assert not (chosen.state / SOCKET_NAME).exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", chosen.port), 1.0)


def test_a_defect_anywhere_is_one_line_too(tmp_path, run_async, monkeypatch):
    async def broken(links):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(ControlLinks, "receive", broken)
    with pytest.raises(FailureError, match=r"internal error \(ZeroDivisionError"):
        run_async(App(options(tmp_path)).run())
