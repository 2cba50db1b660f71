"""Networks written down as the seed writes them: a list of associations, weights (in, out).

net = [
    {"LayerType": "LinearLayer", "Parameters": {"Weights": w0}},
    {"LayerType": "Ramp"},
    {"LayerType": "BinarizeLayer"},
    {"LayerType": "BinLayer", "Parameters": {"Weights": w1}},
    {"LayerType": "Ramp"},
    {"LayerType": "BinLayer", "Parameters": {"Weights": w2}},
    {"LayerType": "Sigmoid"},
]
print(matrix_form(net_evaluate(net, inputs[0:3], "Test", bin_aggression=64)))

the seed       here
hbActForward   hb_act_forward   H_beta of each row, unipolar
hbWForward     hb_w_forward     H_beta of each column, signed: along the sum of Dot[x, w]
binAggression  bin_aggression   beta, of weights and activations alike
layerEval      a module's call; `network_of` makes the modules, which hold the transpose
netEvaluate    net_evaluate, or `meshd.hbnn.evaluator.evaluate` for modules
MatrixForm     matrix_form
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

from meshd.hbnn.activations import Ramp
from meshd.hbnn.binarize import check_beta, hadamard_binarize
from meshd.hbnn.evaluator import BinarizeLayer, BinLayer, LinearLayer, Sigmoid, evaluate

Association = Mapping[str, Any]


def hb_act_forward(x: Tensor, bin_aggression: int) -> Tensor:
    """The seed's hbActForward: H_beta of each row of activations (..., K), unipolar; same shape."""
    return hadamard_binarize(x, bin_aggression, "unipolar")


def hb_w_forward(weights: Tensor, bin_aggression: int) -> Tensor:
    """The seed's hbWForward: H_beta, signed, of each column of weights (in, out); same shape."""
    return hadamard_binarize(weights.T, bin_aggression, "signed").T


def network_of(
    net: Sequence[Association], bin_aggression: int, cut: float | None = 1.0
) -> nn.Sequential:
    """Return the modules of a network that is given as the seed gives it.

    `net`: associations with "LayerType" and, for LinearLayer and BinLayer, "Parameters" with the
    "Weights" (in, out), a tensor, array or list of rows; they are copied. `cut`: of the
    straight-through estimator. ValueError that names the layer, counted from 1 as the seed does.
    """
    layers = []
    for number, association in enumerate(net, start=1):
        try:
            layers.append(_layer_of(association, check_beta(bin_aggression), cut))
        except ValueError as error:
            raise ValueError(f"layer {number}: {error}") from None
    return nn.Sequential(*layers)


@overload
def net_evaluate(
    net: Sequence[Association], x: Tensor, mode: Literal["Training"], bin_aggression: int
) -> list[Tensor]: ...
@overload
def net_evaluate(
    net: Sequence[Association], x: Tensor, mode: Literal["Test"], bin_aggression: int
) -> Tensor: ...
def net_evaluate(
    net: Sequence[Association], x: Tensor, mode: str, bin_aggression: int
) -> list[Tensor] | Tensor:
    """The seed's netEvaluate, of associations: x (B, in), without a gradient for the weights.

    "Training" returns [x, output of layer 1, ...], "Test" the last of these. ValueError for another
    word, and as `network_of`.
    """
    modules = network_of(net, bin_aggression).requires_grad_(False)
    return evaluate(modules, x, mode)  # type: ignore[call-overload, no-any-return]


def matrix_form(matrix: Tensor, digits: int = 4) -> str:
    """The seed's MatrixForm: (M, N) as text, a row a line, in columns of equal width."""
    rows = [[f"{value:.{digits}g}" for value in row] for row in matrix.detach().tolist()]
    width = max((len(text) for row in rows for text in row), default=0)
    return "\n".join("  ".join(text.rjust(width) for text in row) for row in rows)


def _layer_of(association: Association, beta: int, cut: float | None) -> nn.Module:
    plain: dict[str, Callable[[], nn.Module]] = {
        "Ramp": Ramp,
        "Sigmoid": Sigmoid,
        "BinarizeLayer": lambda: BinarizeLayer(beta, cut=cut),
    }
    if not isinstance(association, Mapping) or "LayerType" not in association:
        raise ValueError('an association with "LayerType" is needed')
    if unknown := sorted(map(str, association.keys() - {"LayerType", "Parameters"})):
        raise ValueError(f"unknown key {unknown[0]!r}")
    kind, parameters = association["LayerType"], association.get("Parameters", {})
    if kind in plain:
        if parameters:
            raise ValueError(f"{kind} takes no parameters")
        return plain[kind]()
    if kind not in ("LinearLayer", "BinLayer"):
        known = ", ".join([*plain, "LinearLayer", "BinLayer"])
        raise ValueError(f"LayerType {kind!r} is not one of {known}")
    if not isinstance(parameters, Mapping) or parameters.keys() != {"Weights"}:
        raise ValueError(f'{kind} needs the parameter "Weights" and no other')
    weights = torch.as_tensor(parameters["Weights"], dtype=torch.float32)
    if weights.dim() != 2:
        raise ValueError(f"Weights must be a matrix (in, out), not {tuple(weights.shape)}")
    inputs, outputs = weights.shape
    if kind == "LinearLayer":
        return LinearLayer(inputs, outputs, weights.T)
    return BinLayer(inputs, outputs, beta, weights=weights.T, cut=cut)
