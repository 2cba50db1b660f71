"""How a layer binarizes, and its weights as bits."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from meshd.bits import ops
from meshd.bits.product import Panels
from meshd.hbnn.binarize import Coding
from meshd.hbnn.estimator import Estimator


@dataclass(frozen=True)
class ProductRule:
    """Segments, the activations' coding, the gradient's estimator and precision.

    Neither beta is longer than a row. `cut` bounds the estimator on latents, `cut_a` on
    activations, None lifts it; `estimator` is the shape of both (`meshd.hbnn.estimator`).
    """

    beta_w: int
    beta_a: int
    coding: Coding
    cut: float | None
    cut_a: float | None
    estimator: Estimator = "cut"
    backward: str = "exact"  # or "int8", "planes(k)": see meshd.hbnn.gradient

    @property
    def is_unipolar(self) -> bool:
        """Whether activations have the codes 0 and 1."""
        return self.coding == "unipolar"


@dataclass(frozen=True)
class PackedWeight:
    """Binarized weights (N, K): words (N, ceil(K/64)) uint64, scales (N, ceil(K/beta_w)) float32.

    Element i of a row is bit i % 64 of word i // 64, set for +; the bits past K are zero.
    """

    words: NDArray[np.uint64]
    scales: NDArray[np.float32]
    _panels: dict[tuple[ProductRule, str], Panels] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    def panels(self, rule: ProductRule, length: int) -> Panels:
        """Return the weights laid out for products with rows of `length`: made once, kept.

        Neither array may change from then on.
        """
        use = rule, ops.isa()
        if use not in self._panels:
            prepare = ops.prepare_unipolar if rule.is_unipolar else ops.prepare_signed
            panels = prepare(self.words, self.scales, rule.beta_w, rule.beta_a, length)
            self._panels.clear()  # those of another rule or instruction set are not wanted again
            self._panels[use] = panels
        return self._panels[use]

    def times(self, gain: Tensor | None) -> PackedWeight:
        """Return these weights with each row's scales multiplied by `gain` (N), None for 1."""
        if gain is None:
            return self
        return PackedWeight(self.words, self.scales * gain.detach().numpy()[:, None])


def pack_weight(rows: Tensor, beta_w: int) -> PackedWeight:
    """Binarize and pack the rows of latent weights (N, K), with their exact float32 scales."""
    latents = rows.detach().to(device="cpu", dtype=torch.float32).contiguous()
    return PackedWeight(*ops.pack_signed(latents.numpy(), beta_w))


def unpack_weight(packed: PackedWeight, beta_w: int, length: int) -> Tensor:
    """Return w_hat (N, K) float32 on the CPU."""
    w_hat = torch.empty(packed.words.shape[0], length)
    ops.unpack_signed(packed.words, packed.scales, beta_w, length, out=w_hat.numpy())
    return w_hat
