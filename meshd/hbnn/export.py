"""Model files: one safetensors file holds the network as it computes, bits and all.

    NAME.words   U64 (rows, ceil(columns/64))    a binary parameter's packed signs
    NAME.scales  F16 (rows, ceil(columns/beta))  and its segment scales
    NAME         F32 the parameter's own shape   a dense parameter
    NAME         F32 (channels,)                 running statistics

NAME runs over `Network.parameters()` and `Network.statistics()`. The metadata has one key, `meshd`,
a JSON object with the keys `format_version`, `weight_hash`, and those of `describe`: the library
writes several keys in any order, one makes equal networks equal files, byte for byte.

Latents are not in the file: it is for using the network, not for going on with its training.
Nothing in a file is executed, and what it describes is compared with what it holds before anything
of that size is allocated.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor, nn

from meshd.core.errors import UsageError
from meshd.core.network.graph import Network, resolve
from meshd.core.network.spec import NetworkDescription, describe, parse_description
from meshd.hbnn.binarize import segment_count
from meshd.hbnn.binary_layer import WORD_BITS
from meshd.hbnn.networks import binary_layers, build_network, parameter_table

METADATA_KEY = "meshd"
FORMAT_VERSION = 2
# A network of 1,024 layers takes about 150,000; the cap keeps a forged file from the JSON reader.
MAX_METADATA_CHARACTERS = 1 << 20

# numpy's little-endian forms of safetensors' U64, F16 and F32.
_U64, _F16, _F32 = "<u8", "<f2", "<f4"

Tensors = dict[str, NDArray[Any]]
Layout = dict[str, tuple[str, tuple[int, ...]]]


def save_model(
    path: str | os.PathLike[str], net: nn.Sequential, description: NetworkDescription
) -> None:
    """Write `net`, which `description` describes, to `path`; it appears whole or not at all.

    Latents are binarized and their scales rounded to 16 bits on the way. ValueError if
    `description` is not one or describes another network, or if a weight has no form in the file;
    OSError from the file system.
    """
    network = resolve(description)
    found = [(name, len(buffer)) for name, buffer in net.named_buffers()]
    if parameter_table(net) != network.parameters() or found != network.statistics():
        raise ValueError("the network spec describes another network than the one to be saved")
    table = {
        "format_version": FORMAT_VERSION,
        **describe(network.description),
        "weight_hash": weight_hash(net),
    }
    metadata = {METADATA_KEY: json.dumps(table, sort_keys=True, allow_nan=False)}
    tensors = {name: array for _, parts in _parts(net) for name, array in parts.items()}
    _write_atomically(Path(path), save(tensors, metadata=metadata))


def load_model(path: str | os.PathLike[str]) -> tuple[nn.Sequential, NetworkDescription]:
    """Read a file of `save_model`: the network, its binary layers packed, and its description.

    ValueError, one line that begins with the path, if the file is not a whole model of this
    format: names, types, shapes, value ranges and the weights' hash are all checked. OSError if it
    cannot be read.
    """
    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            network, claimed_hash = _read_description(file.metadata() or {})
            _check_layout(file, _layout(network))
            net = build_network(network)
            _fill(net, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        if weight_hash(net) != claimed_hash:
            raise ValueError("the weights do not match the file's own hash")
    except (ValueError, UsageError, SafetensorError) as error:
        raise ValueError(f"{os.fspath(path)} is not a usable model: {error}") from error
    return net, network.description


def weight_hash(net: nn.Module) -> str:
    """Return the BLAKE2b-256 hash, in hex, of the network that `net` computes.

    Over each entry of `parameter_table` in order: a JSON line of its fields, then the
    little-endian bytes of its packed words and float16 scales, or of its dense float32 values; then
    the same of running statistics. So it is the same on every machine, before and after a file, for
    latents and for what they pack to.
    """
    digest = hashlib.blake2b(digest_size=32)
    for fields, parts in _parts(net):
        digest.update(json.dumps(fields).encode() + b"\n")
        for array in parts.values():
            digest.update(array.tobytes())
    return digest.hexdigest()


def _parts(net: nn.Module) -> Iterator[tuple[list[str | int], Tensors]]:
    """Yield what identifies each parameter and statistic, and its arrays as the file has them.

    Arrays are in C order, little-endian.
    """
    layers = binary_layers(net)
    for entry in parameter_table(net):
        fields: list[str | int] = [entry.name, entry.rows, entry.columns, entry.kind, entry.beta]
        if entry.kind == "binary":
            packed = layers[entry.name].packed()
            yield (
                fields,
                {
                    f"{entry.name}.words": np.ascontiguousarray(packed.words, _U64),
                    f"{entry.name}.scales": np.ascontiguousarray(packed.scales, _F16),
                },
            )
        else:
            yield fields, {entry.name: _floats(entry.name, net.get_parameter(entry.name))}
    for name, buffer in net.named_buffers():
        yield [name, 1, len(buffer), "statistic", 0], {name: _floats(name, buffer)}


def _floats(name: str, tensor: Tensor) -> NDArray[np.float32]:
    values = tensor.detach().cpu().numpy()
    if not np.isfinite(values).all():
        raise ValueError(f"parameter {name} is not finite: the weights have diverged")
    return np.ascontiguousarray(values, _F32)


def _layout(network: Network) -> Layout:
    """Return the type and shape of every tensor that a file of `network` holds."""
    layout: Layout = {}
    for entry in network.parameters():
        if entry.kind == "binary":
            words = segment_count(entry.columns, WORD_BITS)
            scales = segment_count(entry.columns, entry.beta)
            layout[f"{entry.name}.words"] = ("U64", (entry.rows, words))
            layout[f"{entry.name}.scales"] = ("F16", (entry.rows, scales))
        else:
            layout[entry.name] = ("F32", entry.shape)
    for name, length in network.statistics():
        layout[name] = ("F32", (length,))
    return layout


def _read_description(metadata: Mapping[str, str]) -> tuple[Network, object]:
    """Return the checked network and the weights' hash that the file claims."""
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
    version = table.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise ValueError(f"its format version is {version!r}, this program reads {FORMAT_VERSION}")
    claimed_hash = table.pop("weight_hash", None)
    return resolve(parse_description(table)), claimed_hash


def _check_layout(file: Any, layout: Layout) -> None:
    names = set(file.keys())
    if strangers := sorted(names - layout.keys()):
        raise ValueError(f"tensor {strangers[0]!r} does not belong to its network")
    if missing := sorted(layout.keys() - names):
        raise ValueError(f"tensor {missing[0]!r} is missing")
    for name, wanted in layout.items():
        piece = file.get_slice(name)
        found = (piece.get_dtype(), tuple(piece.get_shape()))
        if found != wanted:
            raise ValueError(f"tensor {name!r} is {found}, its network needs {wanted}")


def _fill(net: nn.Sequential, tensors: Tensors) -> None:
    """Put the file's tensors into `net`; their layout has been checked, their values have not."""
    layers = binary_layers(net)
    places = dict(net.named_buffers())
    for entry in parameter_table(net):
        if entry.kind == "binary":
            words = tensors[f"{entry.name}.words"]
            scales = tensors[f"{entry.name}.scales"].astype(np.float32)
            try:
                layers[entry.name].load_packed(words, scales)
            except ValueError as error:
                raise ValueError(f"parameter {entry.name}: {error}") from None
        else:
            places[entry.name] = net.get_parameter(entry.name)
    with torch.no_grad():
        for name, place in places.items():
            place.copy_(torch.from_numpy(tensors[name]))


def _write_atomically(path: Path, content: bytes) -> None:
    """Write through a temporary file beside `path`; rename(2) replaces `path` in one step."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
