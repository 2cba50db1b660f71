"""The ZAP handler's judgement, frame by frame (ZeroMQ RFC 27), without sockets."""

from __future__ import annotations

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st
from zmq.utils import z85

from meshd.net.zap import MAX_STRANGERS, Judge, ZapThread

RAW = bytes(range(32))
KEY = z85.encode(RAW).decode()
GOOD = [b"1.0", b"7", b"meshd", b"192.0.2.1", b"", b"CURVE", RAW]


def judge(names: dict[str, str]) -> Judge:
    return Judge(names.get)


def test_a_member_gets_its_key_as_user_id() -> None:
    assert judge({KEY: "ada"}).judge(GOOD) == [b"1.0", b"7", b"200", b"OK", KEY.encode(), b""]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, b"2.0"),
        (2, b""),
        (2, b"*"),
        (2, b"mesh"),
        (5, b"NULL"),
        (5, b"PLAIN"),
        (6, RAW[:31]),
        (6, RAW + b"\0"),
        (6, bytes(32)),
    ],
)
def test_everything_else_is_refused(place: int, value: bytes) -> None:
    request = list(GOOD)
    request[place] = value
    who = judge({KEY: "ada"})
    assert who.judge(request)[2] == b"400"
    assert who.refused == 1


@given(st.lists(st.binary(max_size=40), max_size=9))
def test_no_request_raises(request: list[bytes]) -> None:
    reply = judge({}).judge(request)
    assert len(reply) == 6 and reply[2] == b"400"


def test_a_roster_that_raises_refuses() -> None:
    def broken(key: str) -> str | None:
        raise OSError("disk gone")

    assert Judge(broken).judge(GOOD)[2] == b"400"


def test_strangers_are_remembered_but_not_without_end() -> None:
    who = judge({})
    for number in range(MAX_STRANGERS + 10):
        who.judge([*GOOD[:6], number.to_bytes(32, "big")])
    assert len(who.strangers) == MAX_STRANGERS
    assert who.refused == MAX_STRANGERS + 10
    assert z85.encode((9).to_bytes(32, "big")).decode() not in who.strangers
    assert set(who.strangers.values()) == {"192.0.2.1"}


def test_the_thread_answers_and_ends() -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    thread = ZapThread(context, {KEY: "ada"}.get)
    thread.start()
    asking = context.socket(zmq.REQ)
    asking.connect("inproc://zeromq.zap.01")
    for request, status in ((GOOD, b"200"), ([b"junk"], b"400"), (GOOD, b"200")):
        asking.send_multipart(request)
        assert asking.recv_multipart()[2] == status
    assert thread.alive
    asking.close(linger=0)
    thread.close()
    assert not thread.alive
    context.term()
