"""A mesh of real nodes in one process: virtual clock, seeded delays, links that can be cut.

Every effect is performed on plain values: a `Send` becomes a delivery some milliseconds later (in
order on each link, as TCP does), a `StartWorker` becomes a `RingWorker` (ring_worker.py): a
real ring member, same clock. Nothing sleeps and nothing runs at once.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from meshd.core import effects, events
from meshd.core.job import new_record
from meshd.core.jobspec import canonical_json, parse_toml
from meshd.core.messages import JobRecord, WorkerFailed
from meshd.core.node import Node
from meshd.core.site import Identity
from meshd.core.types import BlobId, JobId, MachineKey

sys.path.insert(0, str(Path(__file__).parent))
from ring_worker import RingWorker

DATA = BlobId("da" * 32)


def spec_text(name: str = "fashion", least: int = 3, most: int = 8) -> str:
    """A job file's canonical form."""
    toml = f'name = "{name}"\n[mesh]\nmembers_min = {least}\nmembers_max = {most}\n'
    return canonical_json(parse_toml(toml))


@dataclass
class Machine:
    """One machine: its node, what its disk holds, its links and its worker."""

    name: str
    key: MachineKey
    node: Node
    up: bool = True
    boot: int = 1
    disk: dict[JobId, JobRecord] = field(default_factory=dict)
    blobs: set[BlobId] = field(default_factory=set)
    links: set[MachineKey] = field(default_factory=set)
    worker: RingWorker | None = None
    log: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    pinned: frozenset[BlobId] = frozenset()


class Mesh:
    """N machines and the one clock."""

    def __init__(self, count: int, seed: int = 1) -> None:
        print(f"seed {seed}")
        self.random = random.Random(seed)
        self.now = 100.0
        self._order = itertools.count()
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._arrival: dict[tuple[MachineKey, MachineKey], float] = {}
        self._timer: dict[MachineKey, float] = {}
        self.cut: set[tuple[MachineKey, MachineKey]] = set()
        self.lose: Callable[[MachineKey, MachineKey, object], bool] = lambda a, b, m: False
        self.weights: dict[str, str] = {}  # machine name -> weight hash, where it is wrong
        self.slice_error: set[str] = set()  # machines that write a wrong slice
        self.prepare_s: dict[str, float] = {}
        self.unable: dict[str, str] = {}
        self.contents: dict[BlobId, object] = {}  # what a checkpoint's blobs say
        self.machines: list[Machine] = []
        for index in range(count):
            key = MachineKey(f"{index:02d}" * 20)
            name = f"desk-{index + 1}"
            self.machines.append(Machine(name, key, self._node(key, name, 1)))
        self.roster = {machine.key: machine.name for machine in self.machines}
        for machine in self.machines:
            machine.node.roster(self.roster, self.now)
            self.perform(machine)

    def __getitem__(self, index: int) -> Machine:
        return self.machines[index]

    def _node(self, key: MachineKey, name: str, boot: int) -> Node:
        port = 7000 + int(key[:2])
        unable = self.unable.get(name, "")
        return Node(Identity(key, name, "10.0.0.1", port, boot, "0.1", 1, unable), self.now)

    def by_key(self, key: MachineKey) -> Machine:
        """The machine with this key."""
        return next(machine for machine in self.machines if machine.key == key)

    # --- what a test does ------------------------------------------------------------------------

    def discover(self) -> None:
        """mDNS shows every machine to every other one."""
        for a in self.machines:
            for b in self.machines:
                if a is not b and a.up:
                    a.node.seen(b.key, "10.0.0.1", 7000 + int(b.key[:2]), self.now)
                    self.perform(a)

    def submit(self, machine: Machine, spec: str) -> JobId:
        """What `meshd submit` does once the data is in the blob store."""
        machine.blobs.add(DATA)
        record = machine.node.submit(spec, DATA, 1000, 1.7e9 + self.now, self.now)
        self.perform(machine)
        return record.job

    def kill(self, machine: Machine) -> None:
        """kill -9 of the daemon; its worker ends with it, and all its links break."""
        machine.up = False
        self.end_worker(machine)
        machine.links.clear()

    def restart(self, machine: Machine) -> None:
        """Start the daemon again from its disk."""
        machine.up, machine.boot = True, machine.boot + 1
        machine.node = self._node(machine.key, machine.name, machine.boot)
        machine.node.roster(self.roster, self.now)
        machine.node.restore(machine.disk.values(), self.now)
        for other in self.machines:
            if other is not machine:
                machine.node.seen(other.key, "10.0.0.1", 7000 + int(other.key[:2]), self.now)
        self.perform(machine)

    def worker_says(self, machine: Machine, event: object) -> None:
        """An event of the present worker."""
        assert machine.worker is not None
        start = machine.worker.start
        if isinstance(event, events.WorkerExited | WorkerFailed):
            self.end_worker(machine)
        machine.node.worker_event(start.job, start.generation, event, self.now)
        self.perform(machine)

    def record(self, machine: Machine, job: JobId) -> JobRecord:
        """A machine's replica."""
        known = machine.node.site.registry.get(job)
        assert known is not None
        return known.record

    def states(self, job: JobId) -> list[str]:
        """Each living machine's word for the job's state."""
        known = [m.node.site.registry.get(job) for m in self.machines if m.up]
        return [job.record.state if job else "unknown" for job in known]

    def run_until(self, done: Callable[[], bool], limit_s: float = 120.0) -> None:
        """Let time pass until something is true; fails after so many virtual seconds."""
        end = self.now + limit_s
        while not done():
            assert self.now < end, f"not reached within {limit_s} virtual seconds"
            self.advance()

    def run_for(self, seconds: float) -> None:
        """Let so much time pass."""
        end = self.now + seconds
        self.at(end, lambda: None)
        while self.now < end:
            self.advance()

    # --- the machinery ---------------------------------------------------------------------------

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Do something at a time."""
        heapq.heappush(self._heap, (when, next(self._order), action))

    def advance(self) -> None:
        """To the next event."""
        timers = [(m.node.next_timer(self.now), m) for m in self.machines if m.up]
        when, machine = min(timers, key=lambda pair: pair[0], default=(float("inf"), None))
        if self._heap and self._heap[0][0] <= when:
            self.now, _, action = heapq.heappop(self._heap)
            action()
        elif machine is not None:
            assert when < float("inf")
            self.now = max(self.now, when)
            machine.node.handle_timer(self.now + 1e-6)
            self.perform(machine)

    def perform(self, machine: Machine) -> None:
        """Perform a node's effects."""
        for effect in machine.node.drain():
            handler = getattr(self, f"_do_{type(effect).__name__}")
            handler(machine, effect)

    def _do_Send(self, machine: Machine, effect: effects.Send) -> None:
        pair = (machine.key, effect.key)
        if effect.key not in machine.links or self.lose(*pair, effect.message):
            return
        delay = self.random.uniform(0.001, 0.020)
        when = max(self.now + delay, self._arrival.get(pair, 0.0))
        self._arrival[pair] = when
        target, boot = self.by_key(effect.key), self.by_key(effect.key).boot

        def deliver() -> None:
            if target.up and target.boot == boot and pair not in self.cut:
                target.node.receive(machine.key, effect.message, self.now)
                self.perform(target)

        self.at(when, deliver)

    def _do_Connect(self, machine: Machine, effect: effects.Connect) -> None:
        machine.links.add(effect.key)

    def _do_Disconnect(self, machine: Machine, effect: effects.Disconnect) -> None:
        machine.links.discard(effect.key)

    def _do_SaveRecord(self, machine: Machine, effect: effects.SaveRecord) -> None:
        machine.disk[effect.record.job] = effect.record

    def _do_ForgetJob(self, machine: Machine, effect: effects.ForgetJob) -> None:
        machine.disk.pop(effect.job, None)

    def _do_StopFetch(self, machine: Machine, effect: effects.StopFetch) -> None:
        pass

    def _do_PinBlobs(self, machine: Machine, effect: effects.PinBlobs) -> None:
        machine.pinned = effect.blobs

    def _do_LogJob(self, machine: Machine, effect: effects.LogJob) -> None:
        machine.log.append(effect.text)

    def _do_Note(self, machine: Machine, effect: effects.Note) -> None:
        machine.notes.append(effect.text)

    def _do_FetchBlob(self, machine: Machine, effect: effects.FetchBlob) -> None:
        def arrive() -> None:
            if not machine.up:
                return
            held = effect.blob in machine.blobs or any(
                effect.blob in self.by_key(key).blobs and self.by_key(key).up
                for key in effect.holders
            )
            if held:
                machine.blobs.add(effect.blob)
                machine.node.blob_held(effect.blob, self.now)
            else:
                machine.node.blob_missing(effect.blob, "no machine here holds the data", self.now)
            self.perform(machine)

        self.at(self.now + self.prepare_s.get(machine.name, 0.05), arrive)

    def _do_StartWorker(self, machine: Machine, effect: effects.StartWorker) -> None:
        assert effect.data in machine.blobs
        assert all(piece.blob in machine.blobs for piece in effect.slices)
        assert machine.worker is None, "one worker at a time"
        worker = machine.worker = RingWorker(self, machine, effect)

        def ready() -> None:
            if machine.worker is worker:
                self.worker_says(machine, worker.ready())

        self.at(self.now + 0.5, ready)

    def _do_TellWorker(self, machine: Machine, effect: effects.TellWorker) -> None:
        assert (effect.job, effect.generation) == (effect.message.job, effect.message.generation)
        if machine.worker is not None:
            machine.worker.hear(effect.message)

    def _do_StopWorker(self, machine: Machine, effect: effects.StopWorker) -> None:
        self.end_worker(machine)

    def end_worker(self, machine: Machine, told: bool = True) -> None:
        """A worker's process is gone; its neighbours' links to it break."""
        machine.worker = None
        for other in self.machines if told else ():
            worker = other.worker
            if worker is not None and (machine.key, other.key) not in self.cut:
                self.at(self.now + 0.01, functools.partial(worker.link_lost, machine.key))


@pytest.fixture
def make_mesh() -> Callable[..., Mesh]:
    """Build a mesh: `make_mesh(3, seed=7)`; the machines have found each other and settled."""

    def make(count: int, seed: int = 1, *, found: bool = True, **settings: object) -> Mesh:
        mesh = Mesh(count, seed)
        for name, value in settings.items():
            setattr(mesh, name, value)
        if found:
            mesh.discover()
            mesh.run_for(6.0)
            assert all(len(m.node.site.peers.alive()) == count - 1 for m in mesh.machines)
        return mesh

    return make


@pytest.fixture
def make_spec() -> Callable[..., str]:
    """A job's canonical spec: `make_spec("fashion", least=3, most=8)`."""
    return spec_text


@pytest.fixture
def make_record() -> Callable[..., JobRecord]:
    """A waiting job: `make_record(state="done", ...)` with any fields replaced."""

    def make(name: str = "fashion", at: float = 1.7e9, **changes: object) -> JobRecord:
        record = new_record(spec_text(name), DATA, 1000, MachineKey("00" * 20), at)
        return replace(record, **changes)  # type: ignore[arg-type]

    return make
