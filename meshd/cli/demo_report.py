"""What `meshd demo` ends with: a table for people, an object for scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from meshd.cli.figures import bytes_text, percent_text, printable, ratio_text

if TYPE_CHECKING:
    from rich.table import Table


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
    """Gather the figures from two finished jobs' entries of the status object."""
    results = job["results"]
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


def report_table(report: Report, names: Sequence[str]) -> Table:
    """The closing table.

    Args:
        report: the figures.
        names: of the members, in the order of the report's lists.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    ring = report.bytes_float32_ring
    each = "\n".join(
        f"{printable(name)}  {bytes_text(sent)}, {ratio_text(ring, sent)} less"
        for name, sent in zip(names, report.bytes_sent_per_member, strict=True)
    )
    equal = len(set(report.weight_hashes)) == 1
    hashes = "\n".join(
        f"{printable(name)}  {printable(digest)}"
        for name, digest in zip(names, report.weight_hashes, strict=True)
    )
    rows = [
        ("members", str(report.members)),
        ("epochs", str(report.epochs)),
        ("test accuracy", percent_text(report.accuracy)),
        ("float32 exchange, one process", percent_text(report.accuracy_float32_exchange)),
        ("seconds", f"{report.seconds:.1f}"),
        ("a float32 ring sends, each", bytes_text(ring)),
        ("sent", each),
        ("weights", ("equal on all members\n" if equal else "DIFFERENT\n") + hashes),
    ]
    for title, value in rows:
        table.add_row(title, value, style="bold red" if value.startswith("DIFF") else "")
    return table
