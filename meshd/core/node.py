"""The one object that the daemon drives: inputs come in with the time, effects come out.

    receive(sender, message, now)         a peer's message
    worker_event(job, generation, e, now) our worker's
    blob_held / blob_missing              what became of a FetchBlob
    seen(key, host, port, now)            discovery
    submit, cancel, resume                the command line's wishes
    handle_timer(now), next_timer(now)    time
    drain()                               effects, in order

Equal inputs give equal effects: no clock, no chance, no sockets, no files. After each input the
node settles: changes of records reach every part, messages to itself are delivered, and the captain
looks whether something can start, until nothing moves any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from meshd.core.collector import Collector
from meshd.core.effects import Connect, Disconnect, Effect, Note, Outbox, PinBlobs
from meshd.core.errors import UsageError
from meshd.core.formation import Captain
from meshd.core.job import FINAL, advance, can, is_stalled, new_record
from meshd.core.member import Member
from meshd.core.messages import (
    Abort,
    CheckpointPart,
    Finished,
    Goodbye,
    Heartbeat,
    Hello,
    JobRecord,
    JobUpdate,
    Progress,
    Propose,
    Ready,
    Refuse,
    RingAck,
    RingComplaint,
    RingLeave,
    RingPlan,
    RingProposal,
)
from meshd.core.peers import HEARTBEAT_S, HELLO_ANSWER_S, Peer, Peers
from meshd.core.pins import cached, pins
from meshd.core.registry import Job, Registry
from meshd.core.relay import Relay
from meshd.core.rings import Rings
from meshd.core.scheduler import Machine
from meshd.core.site import Identity, Site
from meshd.core.standing import Standing
from meshd.core.text import one_line
from meshd.core.types import BlobId, Generation, JobId, MachineKey

REFRESH_S = 10.0  # captain and submitter repeat unfinished records: lost updates heal
LINK_BACK_S = 0.3  # libzmq tries again after 0.2 s: a peer that lives is back by then
ASLEEP_S = 2.0  # a timer so late: this process did not run, the others did not die


class Node:
    """One machine's decisions. See the top of the file for how it is driven."""

    def __init__(self, me: Identity, now: float) -> None:
        out = Outbox(me.key)
        peers = Peers(me.key)
        self.site = Site(me, peers, Registry(peers, out), out)
        self.captain = Captain(self.site, now)
        self.standing = Standing(self.site)
        self.member = Member(self.site, self.standing)
        self.relay = Relay(self.site, self.member, self.standing)
        self.rings = Rings(self.site, self.member, self.standing)
        self._collector = Collector(self.site)
        self._beat_at = now
        self._refresh_at = now + REFRESH_S
        self._sequence = 0
        self._told: tuple[bool, str] = (False, "")
        self._left = False
        self._broken: dict[MachineKey, float] = {}
        """Machines whose links broke, and when that counts."""
        self._pinned: tuple[frozenset[BlobId], frozenset[BlobId]] | None = None
        self._handlers: dict[type, Callable[[MachineKey, Any, float], None]] = {
            Goodbye: self._on_goodbye,
            JobUpdate: lambda sender, m, now: self.site.registry.absorb(m.record, sender),
            Propose: self.member.on_propose,
            Ready: self._on_ready,
            Refuse: self._on_refuse,
            Abort: lambda sender, m, now: self.member.on_abort(sender, m),
            Progress: self._on_progress,
            CheckpointPart: lambda sender, m, now: self._collector.on_part(sender, m),
            Finished: lambda sender, m, now: self._collector.on_finished(sender, m),
            RingProposal: lambda sender, m, now: self.relay.on_proposal(sender, m),
            RingAck: self.rings.on_ack,
            RingPlan: lambda sender, m, now: self.relay.on_plan(sender, m),
            RingComplaint: self.rings.on_complaint,
            RingLeave: self.rings.on_leave,
        }

    # --- inputs ----------------------------------------------------------------------------------

    def restore(self, records: Iterable[JobRecord], now: float) -> None:
        """Take over the checked records that lay on disk; what ran here stopped with the daemon."""
        for record in records:
            self.site.registry.restore(record)
        for job in self.site.registry:
            self.relay.changed(job.record)
        self._settle(now)

    def roster(self, roster: Mapping[MachineKey, str], now: float, trouble: str = "") -> None:
        """Take over the roster; a machine that left it is disconnected and lost.

        `trouble`: why the roster cannot be used; this machine then trains with nobody.
        """
        self.member.distrust = one_line(trouble)
        why = f"is not trusted any more: {trouble}" if trouble else "was taken off the roster"
        gone = [peer.key for peer in self.site.peers if peer.key not in roster]
        for key in gone:
            self.site.peers.leave(key)
            self.site.out.add(Disconnect(key))
        for key in gone:
            self._lost(key, why, now)
        self._settle(now)  # before its name is dropped with the peer
        self.site.peers.set_roster(roster)
        self._settle(now)

    def seen(self, key: MachineKey, host: str, port: int, now: float) -> None:
        """A machine may be at this address; strangers are nobody."""
        if self.site.peers.sighted(key, host, port, now, sure=False):
            self.site.out.add(Connect(key, host, port))
            self._say_hello(self.site.peers.get(key), now)
        self._settle(now)

    def receive(self, sender: MachineKey, message: object, now: float) -> None:
        """A message whose sender the transport has authenticated."""
        peer = self.site.peers.get(sender)
        if peer is None:
            self.site.refused["stranger"] += 1
            return
        if isinstance(message, Hello):
            self._on_hello(peer, message, now)
        elif isinstance(message, Heartbeat):
            if self.site.peers.heartbeat(sender, message, now):
                self._welcome(peer, now)
        else:
            self.site.peers.heard(sender, now)
            handler = self._handlers.get(type(message))
            if handler is None:
                self.site.refused["unexpected-message"] += 1
            else:
                handler(sender, message, now)
        self._settle(now)

    def heard(self, key: MachineKey, now: float) -> None:
        """A message about blobs came, which is not the node's: its sender lives all the same."""
        if key in self.site.peers:
            self.site.peers.heard(key, now)

    def unreachable(self, key: MachineKey, now: float) -> None:
        """A message that matters could not be handed to the link of a machine."""
        if self.site.peers.leave(key):
            self._lost(key, "cannot be reached any more", now)
        self._settle(now)

    def link(self, key: MachineKey, is_up: bool, now: float) -> None:
        """Our control link to a machine came up, or broke. To a ring a member whose link does not
        come back soon is lost; whether the machine is, the heartbeats say."""
        if is_up:
            self._broken.pop(key, None)
        elif self.site.here(key):
            self._broken.setdefault(key, now + LINK_BACK_S)
        self._settle(now)

    def worker_event(self, job: JobId, generation: Generation, event: object, now: float) -> None:
        """What our worker said or suffered; see `meshd.core.events`."""
        self.relay.worker_event(job, generation, event, now)
        self._settle(now)

    def blob_held(self, blob: BlobId, now: float) -> None:
        """A blob that was asked for lies on disk, verified."""
        self.member.blob_held(blob)
        self._settle(now)

    def blob_missing(self, blob: BlobId, reason: str, now: float) -> None:
        """A blob that was asked for cannot be had, and why."""
        self.member.blob_missing(blob, reason)
        self._settle(now)

    def count_control_bytes(self, total: int) -> None:
        """The control links' counter; tell it before an input that may report progress."""
        self.site.control_bytes = total

    # --- the command line's wishes ---------------------------------------------------------------

    def submit(
        self, spec: str, data: BlobId, data_bytes: int, unix_time: float, now: float
    ) -> JobRecord:
        """Queue a job whose data this machine holds.

        Raises:
            FailureError: too many unfinished jobs.
        """
        record = new_record(spec, data, data_bytes, self.site.me.key, unix_time)
        self.site.registry.submit(record)
        self._settle(now)
        return record

    def cancel(self, job_id: JobId, now: float) -> JobRecord:
        """End a job for good.

        Raises:
            UsageError: it is over already.
        """
        job = self._known(job_id)
        if not can(job.record, "cancel"):
            raise UsageError(
                f"job {job.spec.name} is {job.record.state}; there is nothing to cancel"
            )
        reason = f"cancelled on {self.site.me.name}"
        self.site.registry.put(advance(job.record, "cancel", reason))
        self._settle(now)
        return self._known(job_id).record

    def resume(self, job_id: JobId, now: float) -> JobRecord:
        """Let a stopped job wait for its next attempt; one whose ring has stalled, or has nobody
        left who is seen from here, is stopped first.

        Raises:
            UsageError: it goes on by itself, or is over.
        """
        job = self._known(job_id)
        record = job.record
        if record.state == "training" and (
            is_stalled(record) or self.standing.captain_of(record) is None
        ):
            record = advance(record, "stop", f"given up on {self.site.me.name}: {record.reason}")
            self.site.registry.put(record)
        if not can(record, "resume"):
            raise UsageError(
                f"job {job.spec.name} is {record.state}; only a stopped job can be resumed"
            )
        reason = f"resumed on {self.site.me.name} from step {record.checkpoint.step}"
        self.site.registry.put(advance(record, "resume", reason))
        self._settle(now)
        return self._known(job_id).record

    def leave(self, why: str, now: float) -> None:
        """The daemon ends in good order: hand over what runs here, then say goodbye. `left` is true
        when that is done, at most `LEAVE_S` later."""
        self.member.ending = why
        self.relay.leave(why, now)
        if self.member.now is not None and self.member.now.leaves_at is None:
            self.member.leave(why)
        self._settle(now)

    @property
    def left(self) -> bool:
        """Whether this machine has said goodbye."""
        return self._left

    # --- time ------------------------------------------------------------------------------------

    def handle_timer(self, now: float) -> None:
        """Do what is due. It may be called early, late or in vain."""
        late = now - self._beat_at
        if late > ASLEEP_S:
            self.site.peers.forgive(late)
        for peer in self.site.peers.expire(now):
            self._lost(peer.key, "was lost: not heard for 3 s", now)
        for key in [key for key, at in self._broken.items() if now >= at]:
            del self._broken[key]
            self.rings.lost(key, "broke its links", now)
        if now >= self._beat_at:
            self._beat_at = now + HEARTBEAT_S
            self._sequence += 1
            for peer in self.site.peers:
                self._beat(peer, now)
        for peer in self.site.peers.try_others(now):
            self.site.out.add(Connect(peer.key, peer.host, peer.port))
            self._say_hello(peer, now)
        if now >= self._refresh_at:
            self._refresh_at = now + REFRESH_S
            self._refresh()
        self.captain.handle_timer(now)
        self.member.handle_timer(now)
        self.relay.handle_timer(now)
        self.rings.handle_timer(now)
        self._settle(now)

    def next_timer(self, now: float) -> float:
        """When `handle_timer` is due next."""
        return min(
            self._beat_at,
            self._refresh_at,
            self.site.peers.next_expiry(),
            self.captain.next_timer(now),
            self.member.next_timer(),
            self.relay.next_timer(),
            self.rings.next_timer(now),
            min(self._broken.values(), default=float("inf")),
        )

    def drain(self) -> list[Effect]:
        """The effects since the last call, in the order in which to perform them."""
        return self.site.out.drain()

    # --- views -----------------------------------------------------------------------------------

    def own_machine(self) -> Machine:
        """This machine as the scheduler sees it."""
        available, why = self.member.availability()
        return Machine(self.site.me.key, self.site.me.name, available, why)

    # --- messages --------------------------------------------------------------------------------

    def _on_hello(self, peer: Peer, hello: Hello, now: float) -> None:
        if hello.protocol != self.site.me.protocol:
            peer.why = f"speaks protocol {hello.protocol}, this machine {self.site.me.protocol}"
            self.site.refused["protocol-version"] += 1
            return
        is_new = hello.boot != peer.boot
        if self.site.peers.hello(peer.key, hello, now):
            self._lost(peer.key, "restarted", now)
        if hello.boot != peer.boot:
            return  # the other one of two machines with this key
        if self.site.peers.sighted(peer.key, hello.host, hello.port, now, sure=is_new):
            self.site.out.add(Connect(peer.key, hello.host, hello.port))
        due = peer.said_hello is None or now - peer.said_hello >= HELLO_ANSWER_S
        if is_new or not peer.alive or due:
            self._say_hello(peer, now)
            self._say_heartbeat(peer)

    def _on_goodbye(self, sender: MachineKey, goodbye: Goodbye, now: float) -> None:
        if self.site.peers.leave(sender):
            self._lost(sender, f"left ({goodbye.reason[:200]})", now)

    def _on_ready(self, sender: MachineKey, ready: Ready, now: float) -> None:
        job = self.site.registry.get(ready.job)
        if job is not None and job.record.state == "training":
            self.rings.on_ready(sender, ready, now)
        else:
            self.captain.on_ready(sender, ready, now)

    def _on_refuse(self, sender: MachineKey, refuse: Refuse, now: float) -> None:
        if self.rings.leads(refuse.job):
            self.rings.on_refuse(sender, refuse, now)
        else:
            self.captain.on_refuse(sender, refuse, now)

    def _on_progress(self, sender: MachineKey, message: Progress, now: float) -> None:
        job = self.site.registry.get(message.job)
        if job is None or job.record.generation != message.generation:
            self.site.refused["other-generation"] += 1
        elif job.record.state != "training" or all(m.key != sender for m in job.record.members):
            self.site.refused["not-a-member"] += 1
        else:
            job.told(sender, message.progress, now)

    # --- steps -----------------------------------------------------------------------------------

    def _welcome(self, peer: Peer, now: float) -> None:
        """A machine came alive: it gets everything that we know about jobs."""
        if peer.may_note(now):
            self.site.out.add(Note(f"{peer.name} is here ({peer.host}:{peer.port})"))
        for job in self.site.registry:
            self.site.out.send(peer.key, JobUpdate(job.record))
        self.relay.welcome(peer.key)

    def _say_hello(self, peer: Peer | None, now: float) -> None:
        if peer is None or not peer.linked or self._left:
            return
        me = self.site.me
        peer.said_hello = now
        hello = Hello(me.protocol, me.name, me.host, me.port, me.boot, me.version)
        self.site.out.send(peer.key, hello)

    def _say_heartbeat(self, peer: Peer) -> None:
        available, why = self.member.availability()
        self._sequence += 1
        beat = Heartbeat(self.site.me.boot, self._sequence, available, why)
        if peer.linked and not self._left:  # it would be taken for a return
            self.site.out.send(peer.key, beat)

    def _beat(self, peer: Peer, now: float) -> None:
        if peer.audible(now):
            self._say_heartbeat(peer)
        else:
            self._say_hello(peer, now)

    def _lost(self, key: MachineKey, why: str, now: float) -> None:
        peer = self.site.peers.get(key)
        if peer is None or peer.may_note(now):
            self.site.out.add(Note(f"{self.site.name(key)} {why}"))
        self.captain.lost(key, why, now)
        self.member.lost(key, why)
        self.rings.lost(key, why, now)

    def _refresh(self) -> None:
        for job in self.site.registry:
            if job.record.state in FINAL or job.record.state == "stopped":
                continue
            captain = self.captain.captain_of(job.record.job)
            leads = self.rings.leads(job.record.job)
            if leads or self.site.me.key in (captain, job.record.submitter):
                self.site.out.send_all(self.site.peers.alive(), JobUpdate(job.record))

    def _known(self, job_id: JobId) -> Job:
        job = self.site.registry.get(job_id)
        if job is None:
            raise UsageError(f"no job {job_id[:8]}; `meshd status` lists them")
        return job

    def _settle(self, now: float) -> None:
        """Let every consequence of an input happen before the next input."""
        registry, own = self.site.registry, self.site.out.to_self
        while True:
            if registry.changed:
                self._record_changed(registry.changed.pop(0), now)
            elif own:
                message = own.pop(0)
                self._handlers[type(message)](self.site.me.key, message, now)
            else:
                self.captain.consider(self.own_machine(), now)
                self.rings.look(now)
                self._invite(now)
                if not registry.changed and not own:
                    break
        self._tell()
        if self.member.ending and self.member.now is None and not self._left:
            self._left = True
            self.site.out.send_all(self.site.peers.alive(), Goodbye(self.member.ending))

    def _invite(self, now: float) -> None:
        """Free machines that no waiting job gets may join what trains."""
        for job, room in self.rings.room():
            if room > 0:
                free = self.captain.left_over(self.own_machine())
                self.rings.invitations.invite(job, room, free, now)

    def _record_changed(self, job_id: JobId, now: float) -> None:
        """Each part acts on the record as it is now; one that changes it again is heard again."""
        for part in (
            self.member.changed,
            lambda record: self.captain.changed(record, now),
            self._collector.changed,
            self.relay.changed,
            lambda record: self.rings.changed(record, now),
        ):
            job = self.site.registry.get(job_id)
            if job is not None:
                part(job.record)

    def _tell(self) -> None:
        """Say at once that this machine became free or busy, and what its disk must keep."""
        told = self.member.availability()
        if told != self._told:
            self._told = told
            for peer in self.site.peers:
                if peer.alive:
                    self._say_heartbeat(peer)
        pinned = pins(self.site, self.member), cached(self.site)
        if pinned != self._pinned:
            self._pinned = pinned
            self.site.out.add(PinBlobs(*pinned))
