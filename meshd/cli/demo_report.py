"""What `meshd demo` ends with: tables for people, an object for scripts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.text import Text

from meshd.cli.columns import Cell, Row, table
from meshd.cli.figures import (
    NONE,
    bytes_text,
    count_text,
    percent_text,
    printable,
    ratio_text,
)

HASH_DIGITS = 16  # of 64 in the table's column; the whole hash stands below


@dataclass(frozen=True)
class Report:
    """The demo's figures; the field names are the keys of `--json`."""

    members: int
    epochs: int
    accuracy: float
    """Test accuracy after the last epoch, 0..1; the lowest of all members."""
    accuracy_float32_exchange: float
    """The same network and data in one process with float32 exchange."""
    seconds: float
    """From submit until the daemon said done."""
    bytes_sent_per_member: Sequence[int]
    """Everything a member sent for the job: ring and control links with all their overhead."""
    bytes_float32_ring: int
    """What each member of a float32 ring sends at least: the payload alone."""
    weight_hashes: Sequence[str]

    def as_object(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def make_report(job: dict[str, Any], seconds: float, reference: dict[str, Any]) -> Report:
    """Gather the figures from two finished jobs' entries of the status object.

    The lists of the report follow `member_names`.
    """
    results = _by_name(job)
    return Report(
        members=len(job["members"]),
        epochs=job["epochs"],
        accuracy=min(result["accuracy"] for result in results),
        accuracy_float32_exchange=min(r["accuracy"] for r in reference["results"]),
        seconds=round(seconds, 2),
        bytes_sent_per_member=[result["bytes_sent"] for result in results],
        bytes_float32_ring=job["float32_ring_bytes"] or 0,
        weight_hashes=[result["weight_hash"] for result in results],
    )


def member_names(job: dict[str, Any]) -> list[str]:
    """A finished job's members, in the order of a report's lists."""
    return [result["name"] for result in _by_name(job)]


def _by_name(job: dict[str, Any]) -> list[dict[str, Any]]:
    return sorted(job["results"], key=lambda result: str(result["name"]))


def report_lines(report: Report, names: Sequence[str], width: int | None) -> Iterator[Text]:
    """The closing tables: the ring beside the reference, then each member.

    Args:
        report: the figures.
        names: of the members, in the order of the report's lists.
        width: of the terminal in cells; None: unbounded.
    """
    beside = [
        ("members", str(report.members), "1"),
        ("epochs", str(report.epochs), str(report.epochs)),
        ("test accuracy", *map(percent_text, (report.accuracy, report.accuracy_float32_exchange))),
        ("seconds", f"{report.seconds:.1f}", NONE),
    ]
    rows = [Row([Cell(title), Cell(ours, "bold"), Cell(theirs)]) for title, ours, theirs in beside]
    yield from table(("", "VOTES ON THE RING", "FLOAT32, ONE PROCESS"), rows, width)
    yield Text()
    ring = report.bytes_float32_ring
    sent = zip(names, report.bytes_sent_per_member, report.weight_hashes, strict=True)
    rows = [
        Row(
            [
                Cell(printable(name)),
                Cell(bytes_text(count)),
                Cell(bytes_text(ring) if ring else NONE),
                Cell(ratio_text(ring, count), "bold"),
                Cell(printable(digest)[:HASH_DIGITS]),
            ]
        )
        for name, count, digest in sent
    ]
    yield from table(("MEMBER", "SENT", "FLOAT32 RING", "LESS", "WEIGHTS"), rows, width)
    yield Text()
    yield from _verdict(report, names)


def _verdict(report: Report, names: Sequence[str]) -> Iterator[Text]:
    """Whether all members hold the same weights, with the whole hash."""
    if len(set(report.weight_hashes)) == 1:
        yield Text(f"equal weights on {count_text(report.members, 'member')}:", "green")
        yield Text(printable(report.weight_hashes[0]))
        return
    yield Text("the weights DIFFER:", "bold red")
    for name, digest in zip(names, report.weight_hashes, strict=True):
        yield Text(f"{printable(name)} {printable(digest)}")
