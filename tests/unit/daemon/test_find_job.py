"""Which job a person means by a word."""

from __future__ import annotations

import pytest

from meshd.core.errors import UsageError
from meshd.core.job import advance, new_record
from meshd.core.jobspec import canonical_json, parse_spec
from meshd.core.registry import Job
from meshd.core.types import BlobId, MachineKey
from meshd.daemon.local_api import find_job


def job(name: str, at: float, cancelled: bool = False) -> Job:
    spec = parse_spec({"name": name})
    record = new_record(canonical_json(spec), BlobId("da" * 32), 1, MachineKey("a" * 40), at)
    if cancelled:
        record = advance(record, "cancel", "cancelled by a person")
    return Job(record, spec)


def test_a_name_means_the_newest_job_that_has_not_ended() -> None:
    """`meshd cancel` twice left the older of two jobs of one name waiting."""
    older, newer = job("dupl", 1.0), job("dupl", 2.0)
    assert find_job([older, newer], "dupl") is newer
    ended = job("dupl", 3.0, cancelled=True)
    assert find_job([older, ended], "dupl") is older
    assert find_job([ended], "dupl") is ended


def test_the_beginning_of_an_id_must_be_of_one_job() -> None:
    jobs = [job("a", 1.0), job("b", 2.0)]
    assert find_job(jobs, jobs[0].record.job[:8]) is jobs[0]
    with pytest.raises(UsageError, match="no job 'zz'"):
        find_job(jobs, "zz")
    with pytest.raises(UsageError, match="no job ''"):
        find_job(jobs, "")
