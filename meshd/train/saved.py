"""A checkpoint of a run in one process: one safetensors file, whole or not at all.

    latents-I, moment-J-I   F32 (size,)   slice I's state
    carried                 F32           this member's carried error, where the exchange has one
    statistics              F32           running statistics, where the network has any

The metadata has one key, `meshd`: a JSON object of the job's canonical form, the data's hash and
the run's `Progress`. A file is read only into the job and the data that it was written for, and
what it holds is compared with what they need before it is loaded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from meshd.core.jobspec import canonical_json
from meshd.data.dataset import Dataset
from meshd.train.errors import TrainingError
from meshd.train.optimizer import SliceState
from meshd.train.trainer import Trainer

METADATA_KEY = "meshd"
FORMAT_VERSION = 1

Arrays = dict[str, NDArray[Any]]


@dataclass
class Progress:
    """How far a run is."""

    step: int = 0
    accuracy: float = -1.0
    """Test accuracy (0..1) of the last evaluation, -1 before the first."""
    best: float = -1.0
    """The best one."""
    best_step: int = 0
    best_hash: str = ""
    """The weight hash of the best network, if its file was written."""
    waited: int = 0
    """Evaluations since the best one."""
    seconds: float = 0.0
    """Training so far, over all parts of a run that was resumed."""
    finished: bool = False
    """Nothing is left to do but to write the model."""


class NotWrittenError(Exception):
    """The file system refused; the reason in a few words."""


def data_hash(data: Dataset) -> str:
    """BLAKE2b-256 of all samples and labels, in hex: a run resumes on the data that it began on."""
    digest = hashlib.blake2b(digest_size=32)
    for array in (data.x_train, data.y_train, data.x_test, data.y_test):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def write_checkpoint(path: Path, trainer: Trainer, data: str, progress: Progress) -> None:
    """Write the state after `progress.step` steps through a temporary file beside `path`.

    `data`: the data's hash.

    Raises:
        NotWrittenError: a full disk, no permission; an older file at `path` is as it was.
    """
    about = {
        "version": FORMAT_VERSION,
        "job": canonical_json(trainer.spec),
        "data": data,
        "progress": dataclasses.asdict(progress),
    }
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(dict(_arrays(trainer)), temporary, {METADATA_KEY: json.dumps(about)})
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise NotWrittenError(getattr(error, "strerror", None) or str(error)) from None


def read_checkpoint(path: Path, trainer: Trainer, data: str) -> Progress:
    """Put what `write_checkpoint` wrote into `trainer`; returns how far it is.

    Raises:
        TrainingError: no such file, or one that is broken, or of another job or other data.
    """
    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            progress = _read_progress(file.metadata() or {}, trainer, data)
            wanted = {name: (a.dtype.str, a.shape) for name, a in _arrays(trainer)}
            _check_names(set(file.keys()), set(wanted))
            arrays = {name: _read(file, name, *wanted[name]) for name in wanted}
    except FileNotFoundError:
        raise TrainingError(f"{path}: no checkpoint is there; begin without --resume") from None
    except (OSError, SafetensorError, ValueError) as error:
        raise TrainingError(f"checkpoint {path} cannot be used: {error}") from None
    _restore(trainer, arrays)
    return progress


def is_unfinished(path: Path) -> bool:
    """Whether a file is there that somebody might want to go on from; broken ones count."""
    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            about = json.loads((file.metadata() or {})[METADATA_KEY])
        return not about["progress"]["finished"]
    except FileNotFoundError:
        return False
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return True


def _arrays(trainer: Trainer) -> Iterator[tuple[str, NDArray[Any]]]:
    """Everything that a run's further steps depend on."""
    for part in trainer.parameters.slice_map.slices:
        state = trainer.exchange.states[part.index]
        yield f"latents-{part.index}", state.latents
        for number, moment in enumerate(state.moments):
            yield f"moment-{number}-{part.index}", moment
    carried = trainer.exchange.carried_error()
    if carried.size:
        yield "carried", carried
    if trainer.statistics.size:
        yield "statistics", trainer.statistics.vector()


def _read_progress(metadata: dict[str, str], trainer: Trainer, data: str) -> Progress:
    """Check whose checkpoint it is. ValueError says what does not fit."""
    try:
        about = json.loads(metadata.get(METADATA_KEY, ""))
        if about["version"] != FORMAT_VERSION:
            raise ValueError
        job, its_data, progress = json.loads(about["job"]), about["data"], about["progress"]
        read = Progress(**progress)
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError("it was not written by this version of meshd train") from None
    if different := difference(job, json.loads(canonical_json(trainer.spec))):
        raise ValueError(f"it is of another job: {different} differs; change it back")
    if its_data != data:
        raise ValueError("its run began on other data")
    if not isinstance(read.step, int) or not 0 <= read.step <= trainer.steps:
        raise ValueError("its step is not one of this job")
    return read


def difference(one: Any, other: Any, path: str = "") -> str:
    """The first key, dotted, in which two tables differ; empty if none does."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        return "" if one == other else path or "everything"
    for key in sorted(one.keys() | other.keys()):
        below = f"{path}.{key}" if path else str(key)
        if key not in one or key not in other:
            return below
        if found := difference(one[key], other[key], below):
            return found
    return ""


def _check_names(names: set[str], wanted: set[str]) -> None:
    for name in sorted(names ^ wanted):
        raise ValueError(f"{name} is {'missing' if name in wanted else 'no part of this network'}")


def _read(file: Any, name: str, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """One array, after its shape has been compared; ValueError unless it is what is needed."""
    if tuple(file.get_slice(name).get_shape()) != shape:
        raise ValueError(f"{name} has another shape than the network's")
    array: NDArray[Any] = file.get_tensor(name)
    if array.dtype.str != dtype:
        raise ValueError(f"{name} is {array.dtype}, not {dtype}")
    if array.dtype.kind == "f" and not bool(np.isfinite(array).all()):
        raise ValueError(f"{name} holds numbers that are not finite")
    return array


def _restore(trainer: Trainer, arrays: Arrays) -> None:
    states = {}
    for part in trainer.parameters.slice_map.slices:
        moments = tuple(
            arrays[f"moment-{number}-{part.index}"] for number in range(trainer.optimizer.moments)
        )
        states[part.index] = SliceState(arrays[f"latents-{part.index}"], moments)
    trainer.resume(states, arrays.get("carried"), arrays.get("statistics"))
