"""A job's spec: declarative, every key known, every number bounded; the job file is its TOML form.

A job file names a network, its training, the exchange and the ring's size; it holds no code, no
path and no address. The data is given beside it and named by content hash in the job record.
Canonical form: JSON with sorted keys and no spaces, so that equal specs are equal bytes.
"""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from dataclasses import dataclass, field
from typing import Any

from meshd.core.errors import UsageError
from meshd.core.network.spec import NetworkSpec, network_table, parse_network
from meshd.core.tables import bounded, choice, parse_table, refuse_unknown

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
MAX_JOB_FILE_BYTES = 64 * 1024  # a page of settings; the precedent is the size of a large unit file


@dataclass(frozen=True)
class TrainingSpec:
    """[training]: optimizer on the latents, and the order of the data."""

    epochs: int = bounded(5, 1, 10_000, "passes over the training data")
    batch: int = bounded(120, 1, 65_536, "samples of one step, over all members")
    optimizer: str = choice("adam", "sgd", about="sgd: gradient descent with momentum")
    learning_rate: float = bounded(1e-3, 1e-7, 10.0, "size of a step, before the schedule")
    momentum: float = bounded(0.9, 0.0, 0.9999, "of sgd: share of the last step's velocity")
    schedule: str = choice(
        "linear", "constant", "cosine", "step", about="how the learning rate falls"
    )
    final_rate: float = bounded(
        0.05, 0.0, 1.0, "linear, cosine: share of the learning rate at the last step"
    )
    step_epochs: int = bounded(15, 1, 10_000, "schedule step: epochs between two falls")
    step_factor: float = bounded(0.1, 1e-6, 1.0, "schedule step: factor of each fall")
    warmup: int = bounded(0, 0, 1_000_000, "first steps, over which the learning rate rises")
    clip: float = bounded(0.0, 0.0, 1000.0, "latents are kept in [-clip, clip]; 0: off")
    backward: str = choice(
        "exact",
        "int8",
        *(f"planes({k})" for k in range(1, 5)),
        about="precision of the gradients of binary layers",
    )
    augment: str = choice(
        "none", "shift", "shift-flip", about="how training images are varied (docs/data.md)"
    )
    patience: int = bounded(
        0, 0, 10_000, "meshd train: evaluations without a better one before it stops; 0: off"
    )
    checkpoint_steps: int = bounded(200, 1, 1_000_000, "steps between checkpoints")
    seed: int = bounded(0, 0, 2**53 - 1, "of the initial weights and the order of samples")


@dataclass(frozen=True)
class ExchangeSpec:
    """[exchange]: what crosses the ring."""

    kind: str = choice(
        "votes",
        "direct",
        "onebit",
        "float32",
        about="votes: bit planes by ring; direct: straight to owners; onebit: a bit a hop;"
        " float32: the reference",
    )
    gamma: int = bounded(64, 64, 65_536, "elements of a gradient segment that share one scale")
    local_steps: int = bounded(
        1, 1, 1024, "batches that members train on their own between two exchanges"
    )


@dataclass(frozen=True)
class MeshSpec:
    """[mesh]: how many machines."""

    members_min: int = bounded(1, 1, 256, "the job waits for so many machines")
    members_max: int = bounded(8, 1, 256, "no more than so many machines take part")
    copies: int = bounded(2, 1, 256, "members that hold each slice's state, if so many take part")
    shares: str = choice(
        "measured",
        "equal",
        about="parts of a batch: by each member's measured speed; or alike, so that a run repeats",
    )


@dataclass(frozen=True)
class JobSpec:
    """A whole job file. Field names are the file's keys."""

    name: str
    network: NetworkSpec = field(default_factory=NetworkSpec)
    training: TrainingSpec = field(default_factory=TrainingSpec)
    exchange: ExchangeSpec = field(default_factory=ExchangeSpec)
    mesh: MeshSpec = field(default_factory=MeshSpec)


TABLES: dict[str, type] = {
    "training": TrainingSpec,
    "exchange": ExchangeSpec,
    "mesh": MeshSpec,
}


def parse_toml(text: str) -> JobSpec:
    """Read a job file's text.

    Raises:
        UsageError: not TOML, too large, or not a valid spec; one line that names the key.
    """
    return parse_spec(_toml_table(text))


def parse_network_toml(text: str) -> NetworkSpec:
    """Read the network of a job file, whole or only its [network] table.

    Raises:
        UsageError: as for `parse_toml`.
    """
    table = _toml_table(text)
    if "name" in table:
        return parse_spec(table).network
    refuse_unknown(table, {"network"}, "")
    return parse_network(_part(table, "network"))


def _toml_table(text: str) -> dict[str, Any]:
    if len(text.encode("utf-8", "surrogatepass")) > MAX_JOB_FILE_BYTES:
        raise UsageError(f"job file: larger than {MAX_JOB_FILE_BYTES} bytes; is it a job file?")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # int() refuses more than 4,300 digits
        reason = str(error).splitlines()[0] if str(error) else "nested too deeply"
        raise UsageError(f"job file: not valid TOML: {reason}") from None


def parse_json(text: str) -> JobSpec:
    """Read the canonical form back; it is checked as strictly as a file, since it may be a peer's.

    Raises:
        UsageError: as for `parse_toml`.
    """
    if len(text) > MAX_JOB_FILE_BYTES:
        raise UsageError(f"job spec: larger than {MAX_JOB_FILE_BYTES} bytes")
    try:
        table = json.loads(text)
    except (ValueError, RecursionError):
        raise UsageError("job spec: not valid JSON") from None
    if not isinstance(table, dict):
        raise UsageError("job spec: must be a table")
    return parse_spec(table)


def canonical_json(spec: JobSpec) -> str:
    """The spec as JSON with sorted keys: equal specs give equal bytes on every machine."""
    table = {"name": spec.name, "network": network_table(spec.network)}
    for key in TABLES:
        table[key] = dataclasses.asdict(getattr(spec, key))
    return json.dumps(table, sort_keys=True, separators=(",", ":"))


def parse_spec(table: dict[str, Any]) -> JobSpec:
    """Check a table of tables and build the spec.

    Raises:
        UsageError: unknown key, wrong type, out of bounds, or a contradiction.
    """
    refuse_unknown(table, {"name", "network", *TABLES}, "")
    name = table.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise UsageError(
            "job file: name: needs 1 to 32 lower-case letters, digits, dots, dashes or"
            " underscores, beginning with a letter or digit"
        )
    parts: dict[str, Any] = {"network": parse_network(_part(table, "network"))}
    for key, kind in TABLES.items():
        parts[key] = parse_table(_part(table, key), kind, key)
    spec = JobSpec(name=name, **parts)
    _refuse_contradictions(spec)
    return spec


def _part(table: dict[str, Any], key: str) -> dict[str, Any]:
    """A table of a job file, empty where it is left out."""
    part = table.get(key, {})
    if not isinstance(part, dict):
        raise UsageError(f"job file: {key}: must be a table, written [{key}]")
    return part


def _refuse_contradictions(spec: JobSpec) -> None:
    mesh, training = spec.mesh, spec.training
    if spec.exchange.gamma % 64:
        raise UsageError(
            f"job file: exchange.gamma {spec.exchange.gamma} must be a multiple of 64, so that"
            " gradient segments are whole words"
        )
    if spec.exchange.local_steps > 1 and spec.exchange.kind == "float32":
        raise UsageError(
            f"job file: exchange.local_steps {spec.exchange.local_steps} is for exchanges in bits;"
            ' with exchange.kind "float32" leave it out'
        )
    if mesh.members_min > mesh.members_max:
        raise UsageError(
            f"job file: mesh.members_min {mesh.members_min} is more than"
            f" mesh.members_max {mesh.members_max}; make it smaller"
        )
    if training.batch < mesh.members_min:
        raise UsageError(
            f"job file: training.batch {training.batch} gives some of mesh.members_min"
            f" {mesh.members_min} members no sample; make the batch larger"
        )
