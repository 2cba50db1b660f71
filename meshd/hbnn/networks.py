"""The networks that a job can name, and what the rest of the program asks of a network.

A network is a `torch.nn.Sequential` of the evaluator's layers that ends in a Sigmoid. Training
minimises softmax cross-entropy on the value before it (`logits`): far better than squared error or
binary cross-entropy on the Sigmoid, and, the Sigmoid being monotone, with the same prediction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from meshd.hbnn.activations import Ramp
from meshd.hbnn.binarize import check_beta
from meshd.hbnn.binary_layer import BinaryLayer
from meshd.hbnn.estimator import check_cut
from meshd.hbnn.evaluator import BinarizeLayer, BinLayer, LinearLayer, Sigmoid

# What a spec describes is allocated: these keep a forged spec from asking for a machine's memory.
# The widest fully connected networks in use are a tenth of MAX_UNITS wide.
MAX_UNITS = 1 << 20
MAX_PARAMETERS = 1 << 32

SPEC_KEYS = frozenset({"preset", "inputs", "classes", "width", "beta_w", "beta_a", "cut"})


@dataclass(frozen=True)
class ParameterEntry:
    """One parameter, a matrix of `rows` x `columns` in row-major order; a vector is one row.

    `kind` "binary": the network sees H_beta of each row; "dense": the floats, and beta is 0.
    """

    name: str
    rows: int
    columns: int
    kind: Literal["binary", "dense"]
    beta: int


def seed_network(
    inputs: int,
    classes: int,
    width: int,
    beta_w: int,
    beta_a: int,
    cut: float | None,
    seed: int,
) -> nn.Sequential:
    """Return the seed's seven layers, `inputs` -> `width` -> `width` -> `classes`.

    LinearLayer, Ramp, BinarizeLayer, BinLayer, Ramp, BinLayer, Sigmoid, all activations unipolar.
    Latents are normal deviates, of variance 2 / inputs in the LinearLayer and 1 / fan-in in the
    BinLayers, drawn layer by layer from a generator of their own: `seed` alone decides them.
    """
    generator = torch.Generator().manual_seed(seed)
    return nn.Sequential(
        LinearLayer(inputs, width, generator=generator),
        Ramp(),
        BinarizeLayer(beta_a, cut=cut),
        BinLayer(width, width, beta_w, beta_a, cut=cut, generator=generator),
        Ramp(),
        BinLayer(width, classes, beta_w, beta_a, cut=cut, generator=generator),
        Sigmoid(),
    )


def check_spec(spec: object) -> dict[str, Any]:
    """Return a copy of `spec`, which describes a network that can be built.

    ValueError that names the key if it does not.

    Keys, all required, no others: `preset` "seed"; `inputs`, `classes`, `width` 1 to MAX_UNITS;
    `beta_w`, `beta_a` at least 1; `cut` a positive number or None.
    """
    if not isinstance(spec, Mapping):
        raise ValueError(f"a network spec is a table of keys, not {type(spec).__name__}")
    if unknown := sorted(str(key) for key in spec.keys() - SPEC_KEYS):
        raise ValueError(f"network spec: unknown key {unknown[0]!r}")
    if missing := sorted(SPEC_KEYS - spec.keys()):
        raise ValueError(f"network spec: key {missing[0]!r} is missing")
    if spec["preset"] != "seed":
        raise ValueError(f'network spec: preset must be "seed", not {spec["preset"]!r}')
    for key in ("inputs", "classes", "width"):
        value = spec[key]
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_UNITS:
            raise ValueError(f"network spec: {key} must be 1 to {MAX_UNITS}, not {value!r}")
    check_beta(spec["beta_w"], "network spec: beta_w")
    check_beta(spec["beta_a"], "network spec: beta_a")
    check_cut(spec["cut"])
    parameters = spec["width"] * (spec["inputs"] + spec["width"] + spec["classes"])
    if parameters > MAX_PARAMETERS:
        raise ValueError(f"network spec: {parameters} parameters, at most {MAX_PARAMETERS} allowed")
    return dict(spec)


def build_network(spec: Mapping[str, Any], seed: int = 0) -> nn.Sequential:
    """Return the network that `spec` (see `check_spec`) describes, initialised from `seed`."""
    check_spec(spec)
    sizes = {key: spec[key] for key in SPEC_KEYS - {"preset"}}
    return seed_network(**sizes, seed=seed)


def parameter_table(net: nn.Module) -> list[ParameterEntry]:
    """Return every parameter of `net` in the order of its layers: the order that slices are cut in.

    ValueError for a parameter of more than two dimensions.
    """
    table = []
    for prefix, module in net.named_modules():
        for own_name, parameter in module.named_parameters(prefix, recurse=False):
            if isinstance(module, BinaryLayer) and parameter is module.weight:
                size = (module.rows, module.columns)
                table.append(ParameterEntry(own_name, *size, "binary", module.beta_w))
                continue
            if not 1 <= parameter.dim() <= 2:
                raise ValueError(
                    f"parameter {own_name} has {parameter.dim()} dimensions, not 1 or 2"
                )
            rows, columns = parameter.shape if parameter.dim() == 2 else (1, *parameter.shape)
            table.append(ParameterEntry(own_name, rows, columns, "dense", 0))
    return table


def binary_layers(net: nn.Module) -> dict[str, BinaryLayer]:
    """Return the layers of the table's binary entries, by parameter name, in the table's order."""
    return {
        f"{prefix}.weight" if prefix else "weight": module
        for prefix, module in net.named_modules()
        if isinstance(module, BinaryLayer)
    }


def logits(net: nn.Sequential, x: Tensor) -> Tensor:
    """Return the value before the final Sigmoid, (B, classes); ValueError if there is none."""
    layers = list(net)
    if not layers or not isinstance(layers[-1], Sigmoid):
        raise ValueError("the network's last layer must be a Sigmoid")
    for layer in layers[:-1]:
        x = layer(x)
    return x


@torch.no_grad()
def predict(net: nn.Sequential, x: Tensor) -> Tensor:
    """Return the class of each row of `x` (B, inputs): (B,) int64, the first of equal ones."""
    return logits(net, x).argmax(-1)
