"""What a model takes in its file, tensor by tensor, beside float32."""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import prod
from typing import Any

from meshd.core.network.graph import Network
from meshd.hbnn.runtime.model_file import layout, read_model

ITEM_BYTES = {"U8": 1, "F16": 2, "F32": 4}


@dataclass(frozen=True)
class LayerSize:
    """One parameter or running statistic: bytes in the file, bits and scales together."""

    name: str
    kind: str  # "binary", "dense" or "statistic"
    elements: int
    file_bytes: int

    @property
    def float32_bytes(self) -> int:
        """As torch has it."""
        return 4 * self.elements

    @property
    def ratio(self) -> float:
        """How many times smaller than float32."""
        return self.float32_bytes / self.file_bytes


@dataclass(frozen=True)
class ModelSize:
    """All of a file; `file_bytes` with its header where it was measured, else without."""

    layers: tuple[LayerSize, ...]
    file_bytes: int

    @property
    def float32_bytes(self) -> int:
        """Parameters and running statistics in float32, without any header."""
        return sum(layer.float32_bytes for layer in self.layers)

    @property
    def ratio(self) -> float:
        """How many times smaller than float32."""
        return self.float32_bytes / self.file_bytes

    @property
    def binary_ratio(self) -> float:
        """The same over binary parameters alone; 1 where there are none."""
        binary = [layer for layer in self.layers if layer.kind == "binary"]
        if not binary:
            return 1.0
        return sum(la.float32_bytes for la in binary) / sum(la.file_bytes for la in binary)

    def report(self) -> dict[str, Any]:
        """As a table for JSON."""
        return {
            "file_bytes": self.file_bytes,
            "float32_bytes": self.float32_bytes,
            "ratio": self.ratio,
            "binary_ratio": self.binary_ratio,
            "layers": [
                {
                    "name": layer.name,
                    "kind": layer.kind,
                    "elements": layer.elements,
                    "file_bytes": layer.file_bytes,
                    "float32_bytes": layer.float32_bytes,
                    "ratio": layer.ratio,
                }
                for layer in self.layers
            ],
        }


def model_size_report(model: str | os.PathLike[str] | Network, dense: str = "float32") -> ModelSize:
    """Sizes of a model file, measured, or of the file that a network would have, computed.

    `dense`: of a network, how its dense matrices would be stored.

    Raises:
        ModelError: not a usable model file. OSError: it cannot be read.
    """
    if isinstance(model, Network):
        layers = _layers(model, dense)
        return ModelSize(layers, sum(layer.file_bytes for layer in layers))
    header, _ = read_model(model)
    return ModelSize(_layers(header.network, header.dense), os.stat(model).st_size)


def _layers(network: Network, dense: str) -> tuple[LayerSize, ...]:
    stored = {
        name: ITEM_BYTES[kind] * prod(shape)
        for name, (kind, shape) in layout(network, dense).items()
    }
    found = []
    for p in network.parameters():
        parts = (p.name,) if p.kind == "dense" else (f"{p.name}.bits", f"{p.name}.scales")
        found.append(LayerSize(p.name, p.kind, p.size, sum(stored[part] for part in parts)))
    for name, length in network.statistics():
        found.append(LayerSize(name, "statistic", length, stored[name]))
    return tuple(found)
