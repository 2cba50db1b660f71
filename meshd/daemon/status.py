"""The status object, version 1: what `meshd status` shows, built from the node's facts.

A state is one word, a `why` is one sentence, an age is seconds since the machine was last heard.
What is not known is null.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from meshd.core.job import is_stalled
from meshd.core.messages import JobProgress, JobRecord
from meshd.core.node import Node
from meshd.core.peers import Peer
from meshd.core.registry import Job
from meshd.core.types import JobId

STATUS_VERSION = 1

STALLED_S = 15.0
"""So long without a step is worth a word: a worker may be stopped or hang, though nobody has died.
The slowest steps of large networks on old machines take some seconds."""


def build_status(
    node: Node, now: float, started: float, bytes_sent: int, trouble: Callable[[Any], str]
) -> dict[str, Any]:
    """The whole object. `trouble`: why the link to a machine is not up, or empty."""
    machines = [_own_line(node)]
    for peer in sorted(node.site.peers, key=lambda peer: peer.name):
        machines.append(_peer_line(peer, now, trouble(peer.key)))
    waiting = {d.job: d.reason for d in node.captain.decisions(node.own_machine())}
    jobs = sorted(node.site.registry, key=lambda job: (job.record.submitted_at, job.record.job))
    return {
        "status_version": STATUS_VERSION,
        "machine": _machine(node, now, started, bytes_sent),
        "machines": machines,
        "jobs": [_job(node, job, waiting, now) for job in jobs],
    }


def _machine(node: Node, now: float, started: float, bytes_sent: int) -> dict[str, Any]:
    me = node.site.me
    available, why = node.member.availability()
    return {
        "name": me.name,
        "key": me.key,
        "host": me.host,
        "port": me.port,
        "version": me.version,
        "pid": os.getpid(),
        "uptime_s": round(now - started, 1),
        "rss_bytes": rss_bytes(),
        "available": available,
        "why": why,
        "bytes_sent": bytes_sent,
    }


def _own_line(node: Node) -> dict[str, Any]:
    me = node.site.me
    available, why = node.member.availability()
    return {
        "name": me.name,
        "key": me.key,
        "state": "here",
        "age_s": 0.0,
        "host": me.host,
        "port": me.port,
        "available": available,
        "why": why,
        "version": me.version,
    }


def _peer_line(peer: Peer, now: float, trouble: str) -> dict[str, Any]:
    why = peer.why
    if not peer.alive:
        why = trouble or ("not found yet" if peer.heard is None else "does not answer")
        if peer.why.startswith("speaks protocol"):
            why = peer.why
    return {
        "name": peer.name,
        "key": peer.key,
        "state": peer.state(),
        "age_s": None if peer.heard is None else round(max(0.0, now - peer.heard), 1),
        "host": peer.host,
        "port": peer.port,
        "available": peer.alive and peer.available,
        "why": why,
        "version": peer.version,
    }


def _job(node: Node, job: Job, waiting: dict[JobId, str], now: float) -> dict[str, Any]:
    record, spec = job.record, job.spec
    told = list(job.progress.values())
    newest = max(told, key=lambda part: part.step, default=None)
    step = job.step()
    return {
        "job": record.job,
        "name": spec.name,
        "state": record.state,
        "why": _why(node, job, waiting, now),
        "generation": record.generation,
        "ring": record.ring.generation,
        "stalled": is_stalled(record),
        "members": [_member(node, job, member.key, member.name) for member in record.members],
        "step": step,
        "steps": record.steps,
        "epoch": newest.epoch if newest else (spec.training.epochs if record.results else 0),
        "epochs": spec.training.epochs,
        "loss": sum(part.loss for part in told) / len(told) if told else None,
        "accuracy": _accuracy(record, newest),
        "seconds": max((part.seconds for part in told), default=None),
        "checkpoint_step": record.checkpoint.step,
        "submitted_at": record.submitted_at,
        "exchange": spec.exchange.kind,
        "float32_ring_bytes": float32_ring_bytes(record, step),
        "results": [
            {
                "name": result.name,
                "key": result.key,
                "accuracy": result.accuracy,
                "weight_hash": result.weight_hash,
                "bytes_sent": result.bytes_sent,
            }
            for result in record.results
        ],
    }


def _why(node: Node, job: Job, waiting: dict[JobId, str], now: float) -> str:
    """The record's sentence, completed by what this machine sees now."""
    record = job.record
    if record.state == "waiting":
        sentence = waiting.get(record.job, record.reason)
        failed = record.reason if record.reason.startswith("the last ring") else ""
        return f"{sentence}; {failed}" if failed else sentence
    if record.state in ("forming", "training") and not is_stalled(record):
        gone = [member.name for member in record.members if not node.site.here(member.key)]
        if gone:
            return f"{record.reason}, but {', '.join(gone)} cannot be heard from here"
        if job.moved is not None and now - job.moved > STALLED_S:
            return f"{record.reason}, but no step was committed for {now - job.moved:.0f} s"
    return record.reason


def _member(node: Node, job: Job, key: Any, name: str) -> dict[str, Any]:
    progress = job.progress.get(key)
    result = next((part for part in job.record.results if part.key == key), None)
    sent = result.bytes_sent if result else (progress.bytes_sent if progress else 0)
    return {
        "name": name,
        "key": key,
        "alive": node.site.here(key),
        "step": progress.step if progress else job.record.step,
        "bytes_sent": sent,
    }


def _accuracy(record: JobRecord, newest: JobProgress | None) -> float | None:
    """Of the results if there are any; all members evaluate the same weights on the same data."""
    if record.results:
        return record.results[0].accuracy
    return newest.accuracy if newest and newest.accuracy >= 0 else None


def float32_ring_bytes(record: JobRecord, step: int) -> int | None:
    """What a float32 ring all-reduce would have sent per member: steps x 2 (N-1)/N x 4 bytes a
    parameter (Patarasuk and Yuan 2009), payload only, so a lower bound; null while unknown.
    Steps and `bytes_sent` are both those of the present generation."""
    size = len(record.members)
    if not record.parameters or not size:
        return None
    return max(0, step - record.began) * 8 * record.parameters * (size - 1) // size


def rss_bytes() -> int:
    """This process's resident memory now (proc(5), statm, second field, in pages)."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
