"""A checkpoint of a run in one process: one safetensors file, whole or not at all.

    latents-I, moment-J-I   F32 (size,)   slice I's state
    carried                 F32           this member's carried error, where the exchange has one
    statistics              F32           running statistics, where the network has any

The metadata has two keys. `meshd`: a JSON object of the job's canonical form, the data's hash and
the run's `Progress`; `hash`: BLAKE2b-256 of that text and of all tensors. Nothing of a file is
used before its hash is right. It is read only into the job and the data that it was written for,
and what it holds is compared with what they need before it is loaded.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from meshd.core.jobspec import canonical_json
from meshd.data.dataset import Dataset
from meshd.hbnn.whole_file import written_whole
from meshd.train.errors import TrainingError
from meshd.train.optimizer import SliceState
from meshd.train.trainer import Trainer

METADATA_KEY = "meshd"
HASH_KEY = "hash"
FORMAT_VERSION = 2

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


NO_FILE = "it is not a file; move it away, or name another folder with --checkpoints"
NOT_OURS = "it was not written by this version of meshd train"


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
    """Write the state after `progress.step` steps, with the mode that any new file gets.

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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays, text = dict(_arrays(trainer)), json.dumps(about)
        metadata = {METADATA_KEY: text, HASH_KEY: content_hash(text, arrays)}
        with written_whole(path) as file:
            save_file(arrays, file, metadata)
    except (OSError, SafetensorError) as error:
        raise NotWrittenError(getattr(error, "strerror", None) or str(error)) from None


def read_checkpoint(path: Path, trainer: Trainer, data: str) -> Progress:
    """Put what `write_checkpoint` wrote into `trainer`; returns how far it is.

    Raises:
        TrainingError: no such file, or one that is broken, or of another job or other data.
    """
    try:
        text, arrays = _verified(path)
        progress = _read_progress(text, trainer, data)
        wanted = dict(_arrays(trainer))
        _check_names(arrays.keys(), wanted.keys())
        for name, array in arrays.items():
            _check_array(name, array, wanted[name])
    except FileNotFoundError:
        raise TrainingError(f"{path}: no checkpoint is there; begin without --resume") from None
    except (OSError, SafetensorError, ValueError) as error:
        raise TrainingError(f"checkpoint {path} cannot be used: {error}") from None
    _restore(trainer, arrays)
    return progress


def is_unfinished(path: Path) -> bool:
    """Whether a file is there that somebody might want to go on from; broken ones count.

    Raises:
        TrainingError: what is there is not even a file.
    """
    if path.exists() and not path.is_file():
        raise TrainingError(f"checkpoint {path} cannot be written: {NO_FILE}")
    try:
        return not json.loads(_verified(path)[0])["progress"]["finished"]
    except FileNotFoundError:
        return False
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return True


def content_hash(text: str, arrays: Arrays) -> str:
    """BLAKE2b-256, in hex, of the metadata's `text` and of all arrays with names and shapes."""
    digest = hashlib.blake2b(digest_size=32)
    facts = [[name, array.dtype.str, array.shape] for name, array in sorted(arrays.items())]
    digest.update(json.dumps([text, facts]).encode())  # says where each array below ends
    for _, array in sorted(arrays.items()):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _verified(path: Path) -> tuple[str, Arrays]:
    """The metadata's text and all arrays, as they were written.

    Raises:
        FileNotFoundError: nothing is there.
        OSError, SafetensorError: it cannot be read.
        ValueError: it is not a file, not a checkpoint of this version, or damaged.
    """
    if path.exists() and not path.is_file():
        raise ValueError(NO_FILE)
    with safe_open(os.fspath(path), framework="numpy") as file:
        metadata = file.metadata() or {}
        if metadata.keys() != {METADATA_KEY, HASH_KEY}:
            raise ValueError(NOT_OURS)
        text = metadata[METADATA_KEY]
        try:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (TypeError, AttributeError, KeyError):  # a dtype that numpy lacks
            raise ValueError(NOT_OURS) from None
    if content_hash(text, arrays) != metadata[HASH_KEY]:
        raise ValueError("it is damaged: its content is not what was written; begin anew")
    return text, arrays


def _arrays(trainer: Trainer) -> Iterator[tuple[str, NDArray[Any]]]:
    """Everything that a run's further steps depend on."""
    for part in trainer.parameters.slice_map.slices:
        state = trainer.holding.states[part.index]
        yield f"latents-{part.index}", state.latents
        for number, moment in enumerate(state.moments):
            yield f"moment-{number}-{part.index}", moment
    carried = trainer.holding.carried_error()
    if carried.size:
        yield "carried", carried
    if trainer.statistics.size:
        yield "statistics", trainer.statistics.vector()


def _read_progress(text: str, trainer: Trainer, data: str) -> Progress:
    """Check whose checkpoint it is. ValueError says what does not fit."""
    try:
        about = json.loads(text)
        if about["version"] != FORMAT_VERSION:
            raise ValueError
        job, its_data, progress = json.loads(about["job"]), about["data"], about["progress"]
        read = Progress(**progress)
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError(NOT_OURS) from None
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


def _check_names(names: Set[str], wanted: Set[str]) -> None:
    for name in sorted(names ^ wanted):
        raise ValueError(f"{name} is {'missing' if name in wanted else 'no part of this network'}")


def _check_array(name: str, array: NDArray[Any], wanted: NDArray[Any]) -> None:
    """ValueError unless it is what is needed."""
    if array.shape != wanted.shape:
        raise ValueError(f"{name} has another shape than the network's")
    if array.dtype.str != wanted.dtype.str:
        raise ValueError(f"{name} is {array.dtype}, not {wanted.dtype.str}")
    if array.dtype.kind == "f" and not bool(np.isfinite(array).all()):
        raise ValueError(f"{name} holds numbers that are not finite")


def _restore(trainer: Trainer, arrays: Arrays) -> None:
    states = {}
    for part in trainer.parameters.slice_map.slices:
        moments = tuple(
            arrays[f"moment-{number}-{part.index}"] for number in range(trainer.optimizer.moments)
        )
        states[part.index] = SliceState(arrays[f"latents-{part.index}"], moments)
    trainer.resume(states, arrays.get("carried"), arrays.get("statistics"))
