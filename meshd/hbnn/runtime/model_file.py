"""Model files, format version 2: one safetensors file holds the network as it computes.

    NAME.bits    U8  (rows, ceil(columns/8))     a binary parameter's signs: the packed words of
                                                 `meshd.bits.layout` without their unused bytes
    NAME.scales  F16 (rows, ceil(columns/beta))  and its segment scales
    NAME         F32 the parameter's own shape   a dense parameter; a matrix or filters may be F16
    NAME         F32 (channels,)                 running statistics

NAME runs over `Network.parameters()` and `Network.statistics()`. The metadata has one key, `meshd`,
a JSON object (`Header`): the library writes several keys in any order, one makes equal networks
equal files, byte for byte.

Latents are not in the file: it is for using the network, not for going on with its training.
Nothing in a file is executed, and what it describes is compared with what it holds before anything
of that size is allocated.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from meshd.bits.layout import Floats, Words, padding_is_zero, segments, words
from meshd.core.errors import UsageError
from meshd.core.network.graph import Network, Parameter, resolve
from meshd.core.network.spec import describe, parse_description
from meshd.hbnn.runtime.errors import ModelError

METADATA_KEY = "meshd"
FORMAT_VERSION = 2
# The cap keeps a forged file from feeding the JSON reader: 1,024 layers take about 150,000
# characters, CIFAR-100's names of classes 1,000.
MAX_METADATA_CHARACTERS = 1 << 20
MAX_NAME_CHARACTERS = 200  # of one class
MAX_NAMED_CLASSES = 4096
KEYS = {"format_version", "input", "classes", "network", "dense", "scale", "weight_hash"}
CLASS_NAMES = "class_names"  # the one key that may be missing

DENSE_TYPES = {"float32": "F32", "float16": "F16"}

# numpy's little-endian forms of safetensors' U8, F16 and F32.
_U8, _F16, _F32 = "u1", "<f2", "<f4"

Tensors = dict[str, NDArray[Any]]
Layout = dict[str, tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class Header:
    """What a file says about itself.

    `scale`: samples times this are what the network was trained on, float32. `class_names`: one for
    each class, or (). `dense`: how matrices of dense parameters are stored.
    """

    network: Network
    scale: float = 1.0
    class_names: tuple[str, ...] = ()
    dense: str = "float32"
    weight_hash: str = ""


@dataclass(frozen=True)
class Weights:
    """Every parameter and statistic by its core name.

    `binary`: words (rows, W(columns)) uint64 and scales (rows, S(columns, beta)) float32 of float16
    values. `dense`: float32 in the parameter's shape; running statistics too.
    """

    binary: dict[str, tuple[Words, Floats]]
    dense: dict[str, Floats]


def read_model(path: str | os.PathLike[str]) -> tuple[Header, Weights]:
    """Read and check a model file.

    Raises:
        ModelError: one line that begins with the path, if the file is not a whole model of this
            format: names, types, shapes, value ranges and the weights' hash are all checked.
        OSError: it cannot be read.
    """
    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            header = parse_header(file.metadata() or {})
            _check_layout(file, layout(header.network, header.dense))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            weights = _from_tensors(header.network, tensors)
        if weight_hash(header.network, weights) != header.weight_hash:
            raise ValueError("the weights do not match the file's own hash")
    except (ValueError, UsageError, SafetensorError) as error:
        raise ModelError(f"{os.fspath(path)} is not a usable model: {error}") from error
    return header, weights


def model_bytes(header: Header, weights: Weights) -> bytes:
    """A model file's bytes, the weights' hash put in.

    With `dense` "float16", `weights` must hold the rounded values: see `stored_dense`.

    Raises:
        ValueError: a name, shape or value that a file cannot have.
    """
    _check_values(header.network, weights)
    text = json.dumps(
        _header_table(header, weight_hash(header.network, weights)),
        sort_keys=True,
        allow_nan=False,
        separators=(",", ":"),
    )
    parse_header({METADATA_KEY: text})  # what is written can be read
    tensors = _to_tensors(header.network, weights, header.dense)
    return save(tensors, metadata={METADATA_KEY: text})


def weight_hash(network: Network, weights: Weights) -> str:
    """`hash_of` a network's parameters and statistics."""
    return hash_of(network.parameters(), network.statistics(), weights)


def hash_of(
    parameters: Iterable[Parameter], statistics: Iterable[tuple[str, int]], weights: Weights
) -> str:
    """The BLAKE2b-256 hash, in hex, of what a network computes with.

    Over each parameter in order a JSON line [name, rows, columns, kind, beta], then the
    little-endian bytes of its packed words (whole ones) and float16 scales, or of its float32; then
    over each running statistic [name, 1, length, "statistic", 0] and its float32. So it is the same
    on every machine, before and after a file, for latents and for what they pack to.
    """
    digest = hashlib.blake2b(digest_size=32)
    for p in parameters:
        digest.update(_line(p.name, p.rows, p.columns, p.kind, p.beta))
        if p.kind == "binary":
            packed, scales = weights.binary[p.name]
            digest.update(packed.astype("<u8", copy=False).tobytes())
            digest.update(scales.astype(_F16).tobytes())
        else:
            digest.update(weights.dense[p.name].astype(_F32, copy=False).tobytes())
    for name, length in statistics:
        digest.update(_line(name, 1, length, "statistic", 0))
        digest.update(weights.dense[name].astype(_F32, copy=False).tobytes())
    return digest.hexdigest()


def _line(*fields: str | int) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def layout(network: Network, dense: str = "float32") -> Layout:
    """Type and shape of every tensor that a file of this network holds."""
    found: Layout = {}
    for p in network.parameters():
        if p.kind == "binary":
            found[f"{p.name}.bits"] = ("U8", (p.rows, -(-p.columns // 8)))
            found[f"{p.name}.scales"] = ("F16", (p.rows, segments(p.columns, p.beta)))
        else:
            found[p.name] = (_dense_type(p, dense), p.shape)
    for name, length in network.statistics():
        found[name] = ("F32", (length,))
    return found


def stored_dense(parameter: Parameter, values: Floats, dense: str) -> Floats:
    """The values that a file gives back: rounded to float16 where it stores those, else the same.

    Raises:
        ValueError: a value has no float16 form.
    """
    if _dense_type(parameter, dense) == "F32":
        return values
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float16).astype(np.float32)
    if not np.isfinite(rounded).all():
        raise ValueError(f"parameter {parameter.name}: values beyond float16; store float32")
    return rounded


def _dense_type(parameter: Parameter, dense: str) -> str:
    """Vectors stay float32: they are few, and normalisation needs their range."""
    return "F32" if parameter.rows == 1 else DENSE_TYPES[dense]


def parse_header(metadata: Mapping[str, str]) -> Header:
    """Read and check the metadata of a file; nothing is allocated for what it describes.

    Raises:
        ValueError, UsageError: anything that `model_bytes` does not write.
    """
    text = metadata.get(METADATA_KEY)
    if text is None:
        raise ValueError("it was not written by meshd")
    if len(text) > MAX_METADATA_CHARACTERS:
        raise ValueError(f"its description is longer than {MAX_METADATA_CHARACTERS} characters")
    try:
        table = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("its description is not JSON") from None
    if not isinstance(table, dict):
        raise ValueError("its description is not a JSON object")
    version = table.get("format_version")
    if version != FORMAT_VERSION:
        raise ValueError(
            f"its format version is {_short(version)}, this program reads {FORMAT_VERSION}"
        )
    if wrong := sorted((table.keys() - {CLASS_NAMES}) ^ KEYS):
        known = "is missing" if wrong[0] in KEYS else "is not known"
        raise ValueError(f"key {_short(wrong[0])} of its description {known}")
    description = {key: table[key] for key in ("network", "input", "classes")}
    network = resolve(parse_description(description))
    if table["dense"] not in tuple(DENSE_TYPES):
        raise ValueError(f"dense must be one of {', '.join(DENSE_TYPES)}")
    if not isinstance(table["weight_hash"], str):
        raise ValueError("weight_hash must be text")
    return Header(
        network,
        _scale(table["scale"]),
        _class_names(table.get(CLASS_NAMES, []), network.description.classes),
        table["dense"],
        table["weight_hash"],
    )


def _header_table(header: Header, digest: str) -> dict[str, Any]:
    table = {
        "format_version": FORMAT_VERSION,
        **describe(header.network.description),
        "dense": header.dense,
        "scale": float(header.scale),
        "weight_hash": digest,
    }
    if header.class_names:
        table[CLASS_NAMES] = list(header.class_names)
    return table


def _scale(value: Any) -> float:
    real = isinstance(value, int | float) and not isinstance(value, bool)
    if not real or not 0 < value < 3e38 or float(np.float32(value)) != value:
        raise ValueError("scale must be a positive float32")
    return float(value)


def _class_names(value: Any, classes: int) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MAX_NAMED_CLASSES:
        raise ValueError(f"class_names must be a list of at most {MAX_NAMED_CLASSES}")
    if value and len(value) != classes:
        raise ValueError(f"class_names has {len(value)} names for {classes} classes")
    for name in value:
        usable = isinstance(name, str) and 0 < len(name) <= MAX_NAME_CHARACTERS
        if not usable or not name.isprintable():
            raise ValueError(f"a class name must have 1 to {MAX_NAME_CHARACTERS} printable signs")
    return tuple(value)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "..."


def _check_layout(file: Any, wanted: Layout) -> None:
    names = set(file.keys())
    if strangers := sorted(names - wanted.keys()):
        raise ValueError(f"tensor {_short(strangers[0])} does not belong to its network")
    if missing := sorted(wanted.keys() - names):
        raise ValueError(f"tensor {missing[0]!r} is missing")
    for name, form in wanted.items():
        piece = file.get_slice(name)
        found = (piece.get_dtype(), tuple(piece.get_shape()))
        if found != form:
            raise ValueError(f"tensor {name!r} is {found}, its network needs {form}")


def _from_tensors(network: Network, tensors: Tensors) -> Weights:
    """The weights of tensors whose layout has been checked."""
    binary, dense = {}, {}
    for p in network.parameters():
        if p.kind == "binary":
            whole = np.zeros((p.rows, words(p.columns) * 8), np.uint8)
            bits = tensors.pop(f"{p.name}.bits")
            whole[:, : bits.shape[1]] = bits
            scales = tensors.pop(f"{p.name}.scales").astype(np.float32)
            binary[p.name] = (whole.view("<u8").astype(np.uint64, copy=False), scales)
        else:
            dense[p.name] = tensors.pop(p.name).astype(np.float32)
    for name, _ in network.statistics():
        dense[name] = tensors.pop(name).astype(np.float32)
    weights = Weights(binary, dense)
    _check_values(network, weights)
    return weights


def _to_tensors(network: Network, weights: Weights, dense: str) -> Tensors:
    tensors: Tensors = {}
    for p in network.parameters():
        if p.kind == "binary":
            tensors[f"{p.name}.bits"], tensors[f"{p.name}.scales"] = _stored(p, weights)
        else:
            form = _F32 if _dense_type(p, dense) == "F32" else _F16
            tensors[p.name] = np.ascontiguousarray(weights.dense[p.name], form)
    for name, _ in network.statistics():
        tensors[name] = np.ascontiguousarray(weights.dense[name], _F32)
    return tensors


def _stored(p: Parameter, weights: Weights) -> tuple[NDArray[Any], NDArray[Any]]:
    """Bits and scales of a binary parameter as the file has them."""
    packed, scales = weights.binary[p.name]
    bits = np.ascontiguousarray(packed, "<u8").view(_U8)[:, : -(-p.columns // 8)]
    return np.ascontiguousarray(bits), np.ascontiguousarray(scales, _F16)


def _check_values(network: Network, weights: Weights) -> None:
    """Raise ValueError for values that no network computes with."""
    for p in network.parameters():
        if p.kind == "binary":
            packed, scales = weights.binary[p.name]
            _check_form(p.name, packed, np.uint64, (p.rows, words(p.columns)))
            _check_form(p.name, scales, np.float32, (p.rows, segments(p.columns, p.beta)))
            if not padding_is_zero(packed, p.columns):
                raise ValueError(
                    f"parameter {p.name}: bits are set past the {p.columns} elements of a row"
                )
            with np.errstate(over="ignore"):
                exact = scales.astype(np.float16).astype(np.float32) == scales
            if not (exact & (scales >= 0) & np.isfinite(scales)).all():
                raise ValueError(
                    f"parameter {p.name}: scales must be finite float16 values of at least 0;"
                    " the weights have diverged"
                )
        else:
            _check_form(p.name, weights.dense[p.name], np.float32, p.shape)
            _check_finite(f"parameter {p.name}", weights.dense[p.name])
    for name, length in network.statistics():
        _check_form(name, weights.dense[name], np.float32, (length,))
        _check_finite(f"statistic {name}", weights.dense[name])
        if name.endswith("running_var") and weights.dense[name].min() < 0:
            raise ValueError(f"statistic {name}: a variance is negative")


def _check_form(name: str, array: NDArray[Any], kind: type, shape: tuple[int, ...]) -> None:
    if array.dtype != kind or array.shape != shape:
        wanted = f"{np.dtype(kind)} {shape}"
        raise ValueError(f"{name} is {array.dtype} {array.shape}, its network needs {wanted}")


def _check_finite(what: str, array: Floats) -> None:
    # The sum of finite float32 is finite in float64; NaN and infinity stay.
    if not math.isfinite(float(np.sum(array, dtype=np.float64))):
        raise ValueError(f"{what} is not finite: the weights have diverged")
