"""What a product keeps of its activations, and what becomes of the gradients of its operands.

With D = (dL/dY)^T @ x_hat, gain g (N) or 1, and d(.) the derivative of `meshd.hbnn.estimator`:

    dL/dx = (dL/dY @ (g w_hat)) * d(x)
    dL/dw = g D * d(w)              packed weights: g D, their owner has the latents for d
    dL/dg = sum over a row of D * w_hat

since Y = x_hat @ (g w_hat)^T: a gain per output costs no activation, only another scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from meshd.bits import ops
from meshd.hbnn.estimator import derivative_bytes, estimated_derivative, times_bytes
from meshd.hbnn.gradient import masked
from meshd.hbnn.packed import ProductRule
from meshd.hbnn.tensor_bits import int64_of, words_of


@dataclass(frozen=True)
class KeptDerivative:
    """d(x) of activations (M, K) as the native route keeps it; neither: it is 1."""

    bits: NDArray[np.uint64] | None = None  # (M, ceil(K/64)), of the cut
    codes: Tensor | None = None  # uint8 (M, K), of the polynomial

    @staticmethod
    def of(x: Tensor, rule: ProductRule) -> KeptDerivative:
        """Keep what the rule's estimator asks for: `x` (M, K) float32 on the CPU, dense."""
        if rule.cut_a is None:
            return KeptDerivative()
        if rule.estimator == "polynomial":
            return KeptDerivative(codes=derivative_bytes(x, rule.cut_a))
        return KeptDerivative(bits=ops.within(x.numpy(), rule.cut_a))

    def times(self, grad: Tensor) -> Tensor:
        """Return grad (M, K) * d(x). `grad` may be overwritten."""
        return masked(grad, self.bits) if self.codes is None else times_bytes(grad, self.codes)

    def saved(self) -> Tensor | None:
        """Return it as autograd saves it: int64 words, uint8 codes, or nothing."""
        return self.codes if self.bits is None else int64_of(self.bits)

    @staticmethod
    def restored(saved: Tensor | None) -> KeptDerivative:
        """Return what `saved` gave."""
        if saved is None:
            return KeptDerivative()
        if saved.dtype == torch.uint8:
            return KeptDerivative(codes=saved)
        return KeptDerivative(bits=words_of(saved))


def weight_gradients(
    product: Tensor, latents: Tensor | None, w_hat: Tensor | None, gain: Tensor | None, rule: Any
) -> tuple[Tensor, Tensor | None]:
    """Return dL/dw (N, K) and dL/dg (N) from D: see this file's first lines.

    `latents` are rows (N, K), None where the cut is not ours to make; `w_hat` without the gain is
    asked for only where `gain` is given. D may be overwritten.
    """
    grad_gain = None
    if gain is not None and w_hat is not None:
        grad_gain = (product * w_hat).sum(1)
        product = product * gain[:, None]
    if latents is not None and rule.cut is not None:
        derivative = estimated_derivative(latents, rule.cut, rule.estimator)
        # Where d is 0 an infinite or undefined gradient is hidden as well: a cut is a choice.
        product = torch.where(derivative == 0, 0.0, product * derivative)
    return product, grad_gain
