"""The first member of a job's present ring collects checkpoints and results for all.

A checkpoint is complete when the parts of one step cover every slice. Each slice has several
holders, which must hold the same bytes: two that differ mean that the ring's promise (everyone
applies the same update to the same latents) is broken, and the job fails and names both. Carried
errors that arrive after completion are added to it. Results are complete when every member sent
one that the ring has at its end, and must agree on the weight hash.
"""

from __future__ import annotations

from dataclasses import replace

from meshd.core.job import MAX_SLICES, advance
from meshd.core.messages import (
    CarriedBlob,
    Checkpoint,
    CheckpointPart,
    Finished,
    JobRecord,
    MemberResult,
    SliceBlob,
)
from meshd.core.registry import Job, ring_of
from meshd.core.site import Site
from meshd.core.types import BlobId, Generation, JobId, MachineKey, Step

PENDING_STEPS = (
    2  # members are at most a step apart, so parts of more checkpoints are not in flight
)


class Collector:
    """What this machine has collected, for the jobs whose ring it is the first of."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._parts: dict[JobId, dict[Step, dict[MachineKey, CheckpointPart]]] = {}
        self._results: dict[JobId, dict[MachineKey, MemberResult]] = {}
        self._rings: dict[JobId, tuple[Generation, MachineKey]] = {}
        """The attempt that parts and results belong to."""

    def changed(self, record: JobRecord) -> None:
        """Another attempt, or the end: what was collected is void. Another ring of the same one:
        a result that was waited for may not be needed any more."""
        if record.state != "training" or self._rings.get(record.job) != ring_of(record):
            self._parts.pop(record.job, None)
            self._results.pop(record.job, None)
            self._rings.pop(record.job, None)
        job = self._site.registry.get(record.job)
        if job is not None and record.job in self._results:
            self._finish(job, self._results[record.job])

    def on_part(self, sender: MachineKey, part: CheckpointPart) -> None:
        """One member's share of one checkpoint."""
        job = self._ring(sender, part.job, part.generation)
        if job is None:
            return
        steps = self._parts.setdefault(part.job, {})
        if part.step < job.record.checkpoint.step or not _sound(part):
            self._site.refused["bad-checkpoint-part"] += 1
            return
        steps.setdefault(part.step, {})[sender] = part
        for old in sorted(steps)[:-PENDING_STEPS]:
            del steps[old]
        if part.step in steps:
            self._complete(job, part.step, steps[part.step])

    def on_finished(self, sender: MachineKey, finished: Finished) -> None:
        """One member's result; the last one ends the job."""
        job = self._ring(sender, finished.job, finished.generation)
        if job is None:
            return
        result = replace(finished.result, key=sender, name=self._site.name(sender))
        results = self._results.setdefault(finished.job, {})
        results[sender] = result
        self._finish(job, results)

    def _finish(self, job: Job, results: dict[MachineKey, MemberResult]) -> None:
        """End the job once every present member has sent its result."""
        members = [member.key for member in job.record.members]
        if members[0] != self._site.me.key or not results.keys() >= set(members):
            return
        ordered = tuple(results[key] for key in members)
        if len({result.weight_hash for result in ordered}) > 1:
            told = ", ".join(f"{result.name} {result.weight_hash[:12]}" for result in ordered)
            reason = f"the members' weights differ at the end: {told}"
            self._site.registry.put(advance(job.record, "fail", reason, results=ordered))
            return
        reason = f"finished on {self._site.names([result.key for result in ordered])}"
        self._site.registry.put(
            advance(
                job.record,
                "finish",
                reason,
                results=ordered,
                step=Step(max(job.record.steps, job.record.step)),
            )
        )

    def _ring(self, sender: MachineKey, job_id: JobId, generation: Generation) -> Job | None:
        """The job, if its ring trains, has this generation and sender, and is ours to collect."""
        job = self._site.registry.get(job_id)
        if job is None or job.record.state != "training" or job.record.generation != generation:
            self._site.refused["other-generation"] += 1
            return None
        members = [member.key for member in job.record.members]
        if sender not in members or members[0] != self._site.me.key:
            self._site.refused["not-a-member"] += 1
            return None
        self._rings[job_id] = ring_of(job.record)
        return job

    def _complete(self, job: Job, step: Step, parts: dict[MachineKey, CheckpointPart]) -> None:
        """Put the checkpoint into the record once its parts cover every slice."""
        held: dict[int, tuple[BlobId, MachineKey]] = {}
        count = next(iter(parts.values())).slice_count
        for key, part in sorted(parts.items()):
            for piece in part.slices:
                blob, other = held.setdefault(piece.slice, (piece.blob, key))
                if blob != piece.blob or part.slice_count != count:
                    names = self._site.names([other, key])
                    reason = f"{names} disagree about slice {piece.slice} at step {step}"
                    self._site.registry.put(advance(job.record, "fail", reason))
                    return
        if len(held) < count:
            return
        slices = tuple(SliceBlob(index, held[index][0]) for index in range(count))
        carried = tuple(
            CarriedBlob(key, part.carried) for key, part in sorted(parts.items()) if part.carried
        )
        checkpoint = Checkpoint(step, slices, carried)
        self._site.registry.put(replace(job.record, checkpoint=checkpoint))


def _sound(part: CheckpointPart) -> bool:
    indices = [piece.slice for piece in part.slices]
    return (
        0 < part.slice_count <= MAX_SLICES
        and len(set(indices)) == len(indices)
        and all(0 <= index < part.slice_count for index in indices)
    )
