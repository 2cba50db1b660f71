"""Members of an elastic ring in one process: real links on loopback, real ring threads, each with a
compute thread of its own; one thread is the captain."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch

from meshd.core.jobspec import JobSpec
from meshd.core.messages import RingMember as RingAddress
from meshd.core.ring import captain as captains
from meshd.core.ring.captain import RingCaptain
from meshd.core.ring.effects import Answer, Complaint
from meshd.core.ring.member import RingMember
from meshd.core.types import MachineKey
from meshd.data.dataset import Dataset
from meshd.hbnn.export import weight_hash
from meshd.net.bulk import BulkLinks
from meshd.net.keys import load_or_create_keys
from meshd.net.roster import ROSTER_FILE, RosterFile, add_to_roster
from meshd.train.errors import ReformedError
from meshd.train.gatherings import Kind
from meshd.train.trainer import Event, Trainer
from meshd.worker.collective import DismissedError, ElasticRing
from meshd.worker.ring_thread import RingThread

PATIENCE_S = 60.0


class One:
    """One member. `on_event` runs in its compute thread after each of the trainer's events."""

    def __init__(self, folder: Path, name: str, said: queue.Queue) -> None:
        folder.mkdir(mode=0o700)
        self.folder, self.name = folder, name
        self.keys = load_or_create_keys(folder)
        self.key = self.keys.public
        self.said = said
        self.events: list[Event] = []
        self.on_event: Callable[[Event], None] = lambda event: None
        self.error: BaseException | None = None
        self.hash = ""
        self.dead = False

    def prepare(self, spec: JobSpec, data: Dataset) -> None:
        self.links = BulkLinks(self.keys, RosterFile(self.folder / ROSTER_FILE), "127.0.0.1")
        self.ring = ElasticRing()
        self.trainer = Trainer(spec, data, self.ring)
        self.trainer.draw()
        holding = self.trainer.holding
        self.member = RingMember(self.key, holding, holding.lay_out, 0)
        self.thread = RingThread(
            self.member, self.links, lambda effect: self.said.put((self, effect))
        )
        self.ring.attach(self.thread)
        self.thread.start()
        self.address = RingAddress(self.key, self.name, "127.0.0.1", self.links.port)

    def compute(self) -> None:
        torch.set_num_threads(1)
        try:
            self.trainer.enter()
            while True:
                step = self.trainer.holding.step
                for event in self.trainer.run(step, is_due=step > 0):
                    self.events.append(event)
                    self.on_event(event)
                try:
                    self.ring.gather(Kind.END, b"")
                    break
                except ReformedError:
                    continue
            self.hash = weight_hash(self.trainer.net)
        except DismissedError:
            self.hash = "dismissed"
        except BaseException as error:
            self.error = error

    def die(self) -> None:
        """What SIGKILL does to a worker, from its own compute thread or another."""
        self.dead = True
        self.thread.stop()
        self.links.close(0)


class Group:
    """All members, and their captain's thread."""

    def __init__(self, folder: Path, spec: JobSpec, data: Dataset, count: int) -> None:
        self.said: queue.Queue = queue.Queue()
        self.members = [One(folder / f"m{i}", f"m{i}", self.said) for i in range(count)]
        for one in self.members:
            for other in self.members:
                add_to_roster(one.folder / ROSTER_FILE, other.name, other.key)
            one.prepare(spec, data)
        self.by_key = {one.key: one for one in self.members}
        self.formed: list[captains.Formed] = []
        self.complaints: list[Complaint] = []
        self._over = threading.Event()

    def run(self) -> None:
        """To the end; an error in a member that lives is raised here."""
        captain = threading.Thread(target=self._captain)
        threads = [threading.Thread(target=one.compute) for one in self.members]
        captain.start()
        for thread in threads:
            thread.start()
        for one, thread in zip(self.members, threads, strict=True):
            if not one.dead:
                thread.join(PATIENCE_S)
        self._over.set()
        captain.join(PATIENCE_S)
        for one in self.members:
            if not one.dead:
                one.die()
                if one.error is not None:
                    raise one.error

    def _captain(self) -> None:
        first = self.members[0]
        captain = RingCaptain(first.key, first.trainer.holding.shape())
        captain.form(tuple(one.key for one in self.members), "the start", time.monotonic())
        while not self._over.is_set():
            for effect in captain.drain():
                self._perform(effect)
            try:
                one, effect = self.said.get(timeout=0.02)
            except queue.Empty:
                one = None
            now = time.monotonic()
            if one is not None and not one.dead:
                if isinstance(effect, Answer):
                    captain.on_ack(one.key, effect.ack, now)
                else:
                    self.complaints.append(effect)
                    why = effect.why
                    captain.complains(one.key, effect.ring, effect.about, why, now)
            captain.handle_timer(now)

    def _perform(self, effect: captains.CaptainEffect) -> None:
        if isinstance(effect, captains.Formed):
            self.formed.append(effect)
        elif not isinstance(effect, captains.Stalled):
            one = self.by_key[MachineKey(effect.to)]
            if one.dead:
                return
            if isinstance(effect, captains.Ask):
                one.thread.propose(effect.proposal)
            else:
                order = (*effect.plan.order, *self.by_key.keys() - set(effect.plan.order))
                one.thread.commit(effect.plan, tuple(self.by_key[key].address for key in order))
