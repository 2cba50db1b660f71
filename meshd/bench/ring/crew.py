"""All members' processes, driven turn by turn: one line to each, one line from each."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshd.bench.ring.hosts import Hosts
from meshd.core.errors import FailureError

LEAD_S = 0.05  # from the last line sent to the turn's begin: everyone has read its line by then
PATIENCE_S = 300.0  # a member that is silent for so long hangs


@dataclass(frozen=True)
class Turn:
    """One exchange. `seconds`: until the last has ended; `cpu_s`: of all; bytes: by member."""

    seconds: float
    cpu_s: float
    sent_bytes: list[int]


class Crew:
    """The members of one contest."""

    def __init__(self, hosts: Hosts, params: int, gamma: int, folder: Path) -> None:
        """Start all processes.

        Raises:
            FailureError: one of them ended.
        """
        self._hosts = hosts
        self._logs: list[Path] = []
        self._processes: list[subprocess.Popen[str]] = []
        size = len(hosts.addresses)
        places: list[dict[str, Any]] = []
        try:
            for rank, address in enumerate(hosts.addresses):
                own = folder / str(rank)
                own.mkdir(mode=0o700)
                places.append(
                    {
                        **{"rank": rank, "size": size, "address": address, "folder": str(own)},
                        **{"interface": hosts.interface, "params": params, "gamma": gamma},
                    }
                )
                self._start(rank, own)
            self._meet(places)
        except BaseException:
            self.close()
            raise

    def turn(self, name: str) -> Turn:
        """Let all exchange once.

        Raises:
            FailureError: a member failed, or its result is not the others'.
        """
        self._ask({"do": "prepare", "name": name})
        before = self._hosts.sent_bytes()
        at = time.monotonic() + LEAD_S
        ends = self._ask({"do": "turn", "at": at})
        after = self._hosts.sent_bytes()
        digests = [one["digest"] for one in self._ask({"do": "digest"})]
        if len(set(digests)) > 1:
            raise FailureError(f"{name}: the members' results differ: a defect of meshd")
        return Turn(
            max(one["end"] for one in ends) - at,
            sum(one["cpu"] for one in ends),
            [b - a for a, b in zip(before, after, strict=True)],
        )

    def close(self) -> None:
        """End all processes."""
        for process in self._processes:
            assert process.stdin is not None  # noqa: S101 - a pipe
            try:
                process.stdin.close()
            except BrokenPipeError:
                continue
        for process in self._processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            assert process.stdout is not None  # noqa: S101 - a pipe
            process.stdout.close()

    def _start(self, rank: int, folder: Path) -> None:
        words = self._hosts.command(rank, [sys.executable, "-m", "meshd.bench.ring.member"])
        self._logs.append(folder / "log")
        with self._logs[-1].open("w") as log:
            self._processes.append(
                subprocess.Popen(
                    words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
                )
            )

    def _meet(self, places: list[dict[str, Any]]) -> None:
        found = self._ask_each([{"do": "listen", "place": place} for place in places])
        members = [
            {
                **{"key": one["key"], "name": f"m{rank}"},
                **{"host": self._hosts.addresses[rank], "port": min(one["ports"].values())},
            }
            for rank, one in enumerate(found)
        ]
        self._ask(
            {
                **{"do": "join", "members": members, "store_port": found[0]["store_port"]},
                "first_address": self._hosts.addresses[0],
                "ports": [one["ports"] for one in found],
            }
        )

    def _ask(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        return self._ask_each([request] * len(self._processes))

    def _ask_each(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Ask all, then hear all."""
        for rank, (process, request) in enumerate(zip(self._processes, requests, strict=True)):
            assert process.stdin is not None  # noqa: S101 - a pipe
            try:
                print(json.dumps(request), file=process.stdin, flush=True)
            except BrokenPipeError:
                raise self._failed(rank) from None
        # A reader of a pipe waits for ever; this ends it with the process.
        alarm = threading.Timer(PATIENCE_S, self._kill)
        alarm.start()
        try:
            return [self._hear(rank) for rank in range(len(requests))]
        finally:
            alarm.cancel()

    def _hear(self, rank: int) -> dict[str, Any]:
        pipe = self._processes[rank].stdout
        assert pipe is not None  # noqa: S101 - a pipe
        line = pipe.readline()
        if not line:
            raise self._failed(rank)
        found: dict[str, Any] = json.loads(line)
        return found

    def _kill(self) -> None:
        for process in self._processes:
            process.kill()

    def _failed(self, rank: int) -> FailureError:
        self._kill()
        words = self._logs[rank].read_text(errors="replace").strip().splitlines()
        return FailureError(f"member {rank} ended: {words[-1] if words else 'without a word'}")
