"""Frames ahead of time: in order, bounded for each sender, in number and in bytes."""

from __future__ import annotations

from meshd.core.ring.agreement import RingMark
from meshd.core.ring.early import EARLY_FRAMES_MAX, EarlyFrames
from meshd.core.ring.effects import FrameHead
from meshd.core.ring.route import Phase
from meshd.core.types import MachineKey

HEAD = FrameHead(RingMark(1, 2), Phase.REDUCE, 3, 4, 0)
A, B = MachineKey("a"), MachineKey("b")


def test_in_order_and_once() -> None:
    early = EarlyFrames()
    came = [(A, HEAD, b"1"), (B, HEAD, b"2"), (A, HEAD, b"3")]
    assert all(early.keep(*frame) for frame in came)
    assert early.take() == came
    assert early.take() == []


def test_bytes_are_bounded_for_each_sender() -> None:
    early = EarlyFrames(most_bytes=10)
    assert early.keep(A, HEAD, b"12345678")
    assert not early.keep(A, HEAD, memoryview(b"abc"))
    assert early.keep(A, HEAD, b"ab")
    assert early.keep(B, HEAD, b"1234567890")
    early.take()
    assert early.keep(A, HEAD, b"1234567890")


def test_so_are_frames() -> None:
    early = EarlyFrames()
    assert all(early.keep(A, HEAD, b"") for _ in range(EARLY_FRAMES_MAX))
    assert not early.keep(A, HEAD, b"")
    assert early.keep(B, HEAD, b"")


def test_bytes_of_a_view_are_those_of_its_elements() -> None:
    early = EarlyFrames(most_bytes=10)
    assert not early.keep(A, HEAD, memoryview(bytes(16)).cast("Q"))
