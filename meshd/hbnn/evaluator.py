"""The seed's layer evaluator: five layer types, folded over an input.

`evaluate` is the seed's netEvaluate: "Training" is FoldList, which begins with the input itself,
so seven layers give eight values; "Test" is Fold, the last of them. Two things are ours:

- Weights are (out_features, in_features), the transpose of the seed's, so that the reduction runs
  along memory and a row packs into words.
- Activations are coded unipolar unless told otherwise. The seed's hbActForward rests on Sign, and
  Sign[0] = 0; after a Ramp a two-valued code would make every sign +1 and carry no information.

BinLayer binarizes its input itself, also right after a BinarizeLayer, as the seed's text has it.
The unipolar coding then shrinks each segment a second time by its share of ones.

A network written down as the seed writes it, a list of associations: `meshd.hbnn.associations`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from itertools import accumulate
from typing import Literal, overload

import torch
from torch import Tensor, nn

from meshd.hbnn.activations import Binarize
from meshd.hbnn.binary_layer import check_size
from meshd.hbnn.initial import normal_latents
from meshd.hbnn.linear import HadamardLinear


class LinearLayer(nn.Module):
    """The seed's LinearLayer: x @ W^T without binarization, W (out_features, in_features).

    `weights` None draws normal deviates of variance 2 / in_features (a Ramp follows; He et al.,
    arXiv 1502.01852) from `generator` (None: torch's own). ValueError if a shape does not fit.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        weights: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_size(in_features=in_features, out_features=out_features)
        latents = normal_latents(out_features, in_features, 2 / in_features, generator)
        self.weight = nn.Parameter(latents)
        if weights is not None:
            _give_weights(self.weight, weights)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        return x @ self.weight.T


class BinarizeLayer(Binarize):
    """The seed's BinarizeLayer: H_beta of the activations, unipolar unless told otherwise."""

    def __init__(self, beta: int, coding: str = "unipolar", cut: float | None = 1.0) -> None:
        super().__init__(beta, coding, cut)


class BinLayer(HadamardLinear):
    """The seed's BinLayer: H_beta_a(x) @ H_beta_w(W)^T, W (out_features, in_features).

    `weights` gives the latents; None draws them as HadamardLinear does.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        beta_w: int,
        beta_a: int | None = None,
        weights: Tensor | None = None,
        *,
        coding: str = "unipolar",
        cut: float | None = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            in_features, out_features, beta_w, beta_a, coding, cut, generator=generator
        )
        if weights is not None:
            _give_weights(self.weight, weights)


class Sigmoid(nn.Module):
    """The seed's Sigmoid: 1 / (1 + exp(-x))."""

    def forward(self, x: Tensor) -> Tensor:
        """Map each element."""
        return torch.sigmoid(x)


@overload
def evaluate(net: Iterable[nn.Module], x: Tensor, mode: Literal["Training"]) -> list[Tensor]: ...
@overload
def evaluate(net: Iterable[nn.Module], x: Tensor, mode: Literal["Test"]) -> Tensor: ...
def evaluate(net: Iterable[nn.Module], x: Tensor, mode: str) -> list[Tensor] | Tensor:
    """Fold the layers of `net` over `x`: the seed's netEvaluate.

    "Training" returns [x, output of layer 1, output of layer 2, ...], "Test" the last of these.
    Both keep the autograd graph. ValueError for another word.
    """
    if mode not in ("Training", "Test"):
        raise ValueError(f'mode must be "Training" or "Test", not {mode!r}')
    if mode == "Training":
        return list(accumulate(net, _apply, initial=x))
    return reduce(_apply, net, x)


def _apply(x: Tensor, layer: nn.Module) -> Tensor:
    result: Tensor = layer(x)
    return result


def _give_weights(parameter: nn.Parameter, weights: Tensor) -> None:
    wanted, found = tuple(parameter.shape), tuple(weights.shape)
    if found != wanted:
        raise ValueError(f"weights must have shape {wanted} (out, in), not {found}")
    with torch.no_grad():
        parameter.copy_(weights)
