"""All job records of this machine. A record changes here and nowhere else.

Each change is saved, gossiped to every living machine, logged, and queued in `changed` for the
parts of the node that act on it. A record that arrives is merged; if ours knew more, the sender
gets ours back. Both stop by themselves, because merging only ever climbs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from meshd.core.effects import ForgetJob, LogJob, Note, Outbox, SaveRecord
from meshd.core.errors import FailureError, RemoteProtocolError
from meshd.core.job import FINAL, check_record, merge
from meshd.core.jobspec import JobSpec
from meshd.core.messages import JobProgress, JobRecord, JobUpdate
from meshd.core.peers import Peers
from meshd.core.types import Generation, JobId, MachineKey

MAX_JOBS = 200
"""Records kept; finished ones are forgotten oldest first. A record is some kilobytes, and all of
them go to every machine that comes: 200 are a busy month of an office and about a megabyte."""


@dataclass
class Job:
    """A record and what is known beside it about the present generation."""

    record: JobRecord
    spec: JobSpec
    progress: dict[MachineKey, JobProgress] = field(default_factory=dict)
    moved: float | None = None
    """When a further step was last heard of, in this machine's time; None before the first."""

    def step(self) -> int:
        """The furthest step that any member told."""
        return max([self.record.step, *(part.step for part in self.progress.values())])

    def most(self) -> int:
        """Members that the job can use at most."""
        return min(self.spec.mesh.members_max, self.spec.training.batch)

    def told(self, sender: MachineKey, progress: JobProgress, now: float) -> None:
        """A member says how far it is."""
        if progress.step > self.step():
            self.moved = now
        self.progress[sender] = progress


def ring_of(record: JobRecord) -> tuple[Generation, MachineKey]:
    """What names a job's present attempt; its rings come and go within it."""
    return record.generation, record.captain


class Registry:
    """The jobs by id."""

    def __init__(self, peers: Peers, out: Outbox) -> None:
        self._peers = peers
        self._out = out
        self._jobs: dict[JobId, Job] = {}
        self.changed: list[JobId] = []
        """Jobs whose record changed, the first first; the node takes them out. What a part of the
        node then looks at is the present record: an older one has nothing to say any more."""
        self.refused: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Job]:
        return iter(list(self._jobs.values()))

    def __len__(self) -> int:
        return len(self._jobs)

    def get(self, job: JobId) -> Job | None:
        """The job with this id."""
        return self._jobs.get(job)

    def restore(self, record: JobRecord) -> None:
        """Take over a record that lay on disk and was checked: neither saved nor gossiped."""
        self._jobs[record.job] = Job(record, check_record(record))

    def submit(self, record: JobRecord) -> None:
        """A new job of this machine.

        Raises:
            FailureError: there are `MAX_JOBS` unfinished ones already.
        """
        if len(self._jobs) >= MAX_JOBS and not self._oldest_final():
            raise FailureError(
                f"{MAX_JOBS} jobs are unfinished already; cancel some with `meshd cancel JOB`"
            )
        self._change(record, None)

    def put(self, record: JobRecord) -> None:
        """A decision of this machine about a job that it knows."""
        self._change(record, None)

    def absorb(self, record: JobRecord, sender: MachineKey) -> None:
        """A peer's view of a job; refused ones are counted, and ours is sent where it is later."""
        try:
            check_record(record)
            self._change(record, sender)
        except RemoteProtocolError as error:
            self.refused[error.code] += 1
            if (
                self.refused[error.code].bit_count() == 1
            ):  # 1st, 2nd, 4th, 8th...: no flood of lines
                self._out.add(Note(f"refused from {self._peers_name(sender)}: {error}"))

    def _change(self, record: JobRecord, sender: MachineKey | None) -> None:
        known = self._jobs.get(record.job)
        before = known.record if known else None
        after = merge(before, record) if before else record
        if sender is not None and after != record:
            self._out.send(sender, JobUpdate(after))
        if after == before:
            return
        if known is None:
            self._jobs[record.job] = Job(after, check_record(after))
            if not self._make_room(record.job):
                return
        else:
            if ring_of(known.record) != ring_of(after):
                known.progress, known.moved = {}, None
            known.record = after
        self._out.add(SaveRecord(after))
        if before is None or (before.state, before.reason) != (after.state, after.reason):
            line = f"{after.state}: {after.reason}"
            self._out.add(LogJob(after.job, line))
            self._out.add(Note(f"job {self._jobs[after.job].spec.name}: {line}"))
        informed = {sender} if sender is not None and after == record else set()
        others = [key for key in self._peers.alive() if key not in informed]
        self._out.send_all(others, JobUpdate(after))
        if after.job not in self.changed:
            self.changed.append(after.job)

    def _oldest_final(self) -> JobRecord | None:
        final = [job.record for job in self._jobs.values() if job.record.state in FINAL]
        return min(final, key=lambda record: (record.submitted_at, record.job), default=None)

    def _make_room(self, newest: JobId) -> bool:
        """Forget the oldest finished job if there is one too many; whether `newest` was kept."""
        if len(self._jobs) <= MAX_JOBS:
            return True
        oldest = self._oldest_final()
        gone = oldest.job if oldest else newest
        del self._jobs[gone]
        if gone == newest:
            self.refused["too-many-jobs"] += 1
            return False
        self._out.add(ForgetJob(gone))
        return True

    def _peers_name(self, key: MachineKey) -> str:
        peer = self._peers.get(key)
        return peer.name if peer else "a stranger"
