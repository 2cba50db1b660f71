"""Torch networks to model files and back; `meshd.hbnn.runtime.model_file` says what a file holds.

A network that is saved from latents is not quite the one that was trained: its scales are rounded
to 16 bits. `load_model` gives the network of the file, binary layers packed, and that is what
`meshd.hbnn.runtime` computes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from meshd.core.network.graph import resolve
from meshd.core.network.spec import NetworkDescription
from meshd.hbnn.networks import binary_layers, build_network, parameter_table
from meshd.hbnn.runtime.model_file import (
    Header,
    Weights,
    hash_of,
    model_bytes,
    read_model,
    stored_dense,
)
from meshd.hbnn.whole_file import written_whole


def save_model(
    path: str | os.PathLike[str],
    net: nn.Sequential,
    description: NetworkDescription,
    *,
    scale: float = 1.0,
    class_names: Sequence[str] = (),
    dense: str = "float32",
) -> None:
    """Write `net`, which `description` describes, to `path`; it appears whole or not at all.

    The rest as for `model_content`; OSError from the file system.
    """
    content = model_content(net, description, scale=scale, class_names=class_names, dense=dense)
    with written_whole(Path(path)) as file:
        file.write_bytes(content)


def model_content(
    net: nn.Module,
    description: NetworkDescription,
    *,
    scale: float = 1.0,
    class_names: Sequence[str] = (),
    dense: str = "float32",
) -> bytes:
    """The model file of `net`, which `description` describes, as bytes.

    Latents are binarized and their scales rounded to 16 bits on the way. `scale`: what samples are
    multiplied by before the network sees them, rounded to float32; `class_names`: one for each
    class, or none. `dense` "float16" rounds matrices of dense parameters, which is another network,
    of half the dense bytes.

    ValueError if `description` is not one or describes another network, or if a weight has no form
    in the file.
    """
    network = resolve(description)
    if parameter_table(net) != network.parameters() or _statistics(net) != network.statistics():
        raise ValueError("the network spec describes another network than the one to be saved")
    weights = weights_of(net)
    for p in network.parameters():
        if p.kind == "dense":
            weights.dense[p.name] = stored_dense(p, weights.dense[p.name], dense)
    header = Header(network, float(np.float32(scale)), tuple(class_names), dense)
    return model_bytes(header, weights)


def load_model(path: str | os.PathLike[str]) -> tuple[nn.Sequential, NetworkDescription]:
    """Read a model file: the network, its binary layers packed, and its description.

    `meshd.hbnn.runtime.model_file.read_model` gives the rest of what the file says. ModelError, a
    ValueError of one line that begins with the path, if the file is not a whole model of this
    format; OSError if it cannot be read.
    """
    header, weights = read_model(path)
    net = build_network(header.network)
    for name, layer in binary_layers(net).items():
        layer.load_packed(*weights.binary[name])
    places: dict[str, Tensor] = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    with torch.no_grad():
        for name, values in weights.dense.items():
            places[name].copy_(torch.from_numpy(values))
    return net, header.network.description


def weights_of(net: nn.Module) -> Weights:
    """What `net` computes with, as a file has it: bits, 16-bit scales, float32; copies.

    ValueError if a scale has no 16-bit form, or a value is not finite: the weights have diverged.
    """
    layers = binary_layers(net)
    binary, dense = {}, {}
    for entry in parameter_table(net):
        if entry.kind == "binary":
            packed = layers[entry.name].packed()
            binary[entry.name] = packed.words, packed.scales
        else:
            dense[entry.name] = _floats(entry.name, net.get_parameter(entry.name))
    for name, buffer in net.named_buffers():
        dense[name] = _floats(name, buffer)
    return Weights(binary, dense)


def weight_hash(net: nn.Module) -> str:
    """Return the BLAKE2b-256 hash, in hex, of the network that `net` computes.

    As `meshd.hbnn.runtime.model_file.hash_of` says: the same on every machine, before and after a
    file, for latents and for what they pack to.
    """
    return hash_of(parameter_table(net), _statistics(net), weights_of(net))


def _statistics(net: nn.Module) -> list[tuple[str, int]]:
    return [(name, len(buffer)) for name, buffer in net.named_buffers()]


def _floats(name: str, tensor: Tensor) -> NDArray[np.float32]:
    values = np.array(tensor.detach().cpu().numpy(), np.float32, order="C")
    if not np.isfinite(values).all():
        raise ValueError(f"parameter {name} is not finite: the weights have diverged")
    return values
