"""Who may connect: the ZAP authenticator (ZeroMQ RFC 27) of a context, fed by the roster.

libzmq asks over `inproc://zeromq.zap.01` before it lets a CURVE client in. Without a handler it
lets **everyone** in; so every listening socket also sets ZAP_ENFORCE_DOMAIN, which makes a missing
handler a refusal, and the handler is bound before any socket listens.

The handler is ours, not pyzmq's: there an allow-list callback that raises ends the authenticator's
thread, and a domain of '*' serves only sockets without one. Here `judge` is a pure function of the
request, whatever goes wrong in it is a refusal, and it is called from a thread or from a task.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import zmq
import zmq.asyncio
from zmq.utils import z85

from meshd.core.types import MachineKey

log = logging.getLogger(__name__)

DOMAIN = "meshd"
ENDPOINT = "inproc://zeromq.zap.01"
_VERSION = b"1.0"
_KEY_BYTES = 32
MAX_STRANGERS = 64
"""Strangers remembered for `status`: enough to see who knocks, too few to fill memory by knocking
with ever new keys."""

NameOf = Callable[[str], "str | None"]


class Judge:
    """Answers ZAP requests from a roster; remembers who was refused."""

    def __init__(self, name_of: NameOf) -> None:
        self._name_of = name_of
        self.refused = 0
        self.strangers: OrderedDict[MachineKey, str] = OrderedDict()
        """Address by key, the latest last, of up to MAX_STRANGERS refused machines."""

    def judge(self, request: Sequence[bytes]) -> list[bytes]:
        """The reply to one request. Never raises: an error of ours is a refusal (fails closed)."""
        request_id = request[1] if len(request) > 1 else b""
        try:
            user = self._user(request)
        except Exception:
            log.exception("ZAP: refused because the roster could not be asked")
            user = None
        if user is None:
            self.refused += 1
            return [_VERSION, request_id, b"400", b"not on the roster", b"", b""]
        return [_VERSION, request_id, b"200", b"OK", user.encode(), b""]

    def _user(self, request: Sequence[bytes]) -> MachineKey | None:
        """The client's key if it may come in. It becomes the link's User-Id."""
        if len(request) != 7:
            return None
        version, _, domain, address, _, mechanism, credential = request
        if (version, domain, mechanism) != (_VERSION, DOMAIN.encode(), b"CURVE"):
            return None
        if len(credential) != _KEY_BYTES:
            return None
        key = MachineKey(z85.encode(credential).decode())
        if self._name_of(key) is None:
            self._remember(key, address.decode(errors="replace"))
            return None
        return key

    def _remember(self, key: MachineKey, address: str) -> None:
        self.strangers[key] = address
        self.strangers.move_to_end(key)
        while len(self.strangers) > MAX_STRANGERS:
            self.strangers.popitem(last=False)


class ZapTask:
    """The authenticator as an asyncio task. Start it before anything listens."""

    def __init__(self, context: zmq.asyncio.Context, name_of: NameOf) -> None:
        self.judge = Judge(name_of)
        self._socket = context.socket(zmq.REP)
        self._socket.linger = 0
        self._task: asyncio.Task[None] | None = None

    def start(self, ended: Callable[[asyncio.Task[None]], None]) -> None:
        """Bind the context's one ZAP endpoint and serve; `ended` is called should it ever die."""
        self._socket.bind(ENDPOINT)
        self._task = asyncio.create_task(self._serve(), name="authenticator")
        self._task.add_done_callback(ended)

    @property
    def alive(self) -> bool:
        """False: every new link is refused; the daemon must end."""
        return self._task is not None and not self._task.done()

    async def _serve(self) -> None:
        while True:
            request = await self._socket.recv_multipart()
            await self._socket.send_multipart(self.judge.judge(request))

    async def close(self) -> None:
        """End the task; new links are refused from here on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._socket.close()


class ZapThread:
    """The authenticator as a thread of its own. Start it before anything listens."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], name_of: NameOf) -> None:
        self.judge = Judge(name_of)
        self._socket = context.socket(zmq.REP)
        self._socket.linger = 0
        self._stop_there = context.socket(zmq.PAIR)
        self._stop_here = context.socket(zmq.PAIR)
        self._thread = threading.Thread(target=self._serve, name="zap", daemon=True)

    def start(self) -> None:
        """Bind the context's one ZAP endpoint and serve."""
        self._socket.bind(ENDPOINT)
        self._stop_there.bind("inproc://meshd.zap.stop")
        self._stop_here.connect("inproc://meshd.zap.stop")
        self._thread.start()

    @property
    def alive(self) -> bool:
        """False: every new link is refused; the worker must end."""
        return self._thread.is_alive()

    def _serve(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._stop_there, zmq.POLLIN)
        while True:
            ready = dict(poller.poll())
            if self._stop_there in ready:
                break
            self._socket.send_multipart(self.judge.judge(self._socket.recv_multipart()))
        self._socket.close()
        self._stop_there.close()

    def close(self) -> None:
        """End the thread; new links are refused from here on."""
        if self._thread.is_alive():
            self._stop_here.send(b"")
            self._thread.join()
        else:
            self._socket.close()
            self._stop_there.close()
        self._stop_here.close(linger=0)
