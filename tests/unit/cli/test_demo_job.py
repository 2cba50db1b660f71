"""The demo's job file, and that the examples are jobs."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.cli.demo_job import JOB_FILE, reference_job, ring_job, to_toml
from meshd.core.jobspec import parse_toml

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


def test_the_example_is_the_demos_job() -> None:
    assert (EXAMPLES / "digits.toml").read_bytes() == JOB_FILE.read_bytes()


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_example_is_a_job(path: Path) -> None:
    assert parse_toml(path.read_text()).name == path.stem


@pytest.mark.parametrize("members", [1, 2, 3, 8])
def test_the_ring_job_differs_in_its_members_only(members: int) -> None:
    job, spec = parse_toml(JOB_FILE.read_text()), parse_toml(ring_job(members))
    assert (spec.mesh.members_min, spec.mesh.members_max) == (members, members)
    assert dataclasses.replace(spec, mesh=job.mesh) == job


def test_the_reference_is_the_same_network_and_training() -> None:
    job, spec = parse_toml(JOB_FILE.read_text()), parse_toml(reference_job())
    assert (spec.network, spec.training) == (job.network, job.training)
    assert spec.exchange.kind == "float32"
    assert (spec.mesh.members_min, spec.mesh.members_max) == (1, 1)


VALUES = st.one_of(
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text('aä"\\\n\t =[]#\u2028𝄞'),
)
KEYS = st.text("abc_", min_size=1, max_size=4)


@given(st.dictionaries(KEYS, st.one_of(VALUES, st.dictionaries(KEYS, VALUES))))
def test_what_is_written_reads_back(table: dict[str, object]) -> None:
    assert tomllib.loads(to_toml(table)) == table
