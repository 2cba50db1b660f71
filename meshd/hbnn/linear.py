"""A linear layer that sees its weights and its inputs through Hadamard binarization.

The weight is in one of two states:

    latents  `weight` is what an optimizer moves; every forward binarizes it, and `weight.grad` is
             the straight-through estimate, cut where |w| > cut. A single process trains so.
    packed   `load_packed` has said what the network sees. `weight` then holds those dequantized
             values, and `weight.grad` is dLoss/d(w_hat) without a cut: on the ring, the cut needs
             the latents, and only the slice's owner has them.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from meshd.hbnn.binarize import (
    check_beta,
    check_coding,
    quantize_scales,
    segment_count,
)
from meshd.hbnn.estimator import check_cut
from meshd.hbnn.gradient import check_backward
from meshd.hbnn.initial import normal_latents
from meshd.hbnn.product import (
    PackedWeight,
    ProductRule,
    native_route_takes,
    pack_weight,
    product_native,
    product_tensor,
    unpack_weight,
)

WORD_BITS = 64


class HadamardLinear(nn.Module):
    """y = H_beta_a(x) @ H_beta_w(W)^T (+ bias), W (out_features, in_features).

    `beta_a` None means `beta_w`: the seed has one aggression for both. `coding` is the
    activations' ("unipolar" after a Ramp, else "signed"); weights are signed. `cut` bounds the
    straight-through estimator on activations and latents, None lifts it. `bias` adds a dense
    parameter. `backward` is the precision of the gradients on the native route: "exact", "int8" or
    "planes(k)" (see `meshd.hbnn.gradient`). Weights start as normal deviates of variance
    1 / in_features, drawn from `generator` (None: torch's own).

    An input that is already binarized is binarized again, as the seed's BinLayer does. In the
    signed coding that changes nothing; in the unipolar one each segment shrinks by its share of
    ones (see `meshd.hbnn.binarize`).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        beta_w: int,
        beta_a: int | None = None,
        coding: str = "unipolar",
        cut: float | None = 1.0,
        bias: bool = False,
        *,
        backward: str = "exact",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_features(in_features, out_features)
        beta_w = check_beta(beta_w, "beta_w")
        beta_a = beta_w if beta_a is None else check_beta(beta_a, "beta_a")
        self.in_features = in_features
        self.out_features = out_features
        self.beta_w = beta_w
        self.beta_a = beta_a
        # A segment longer than the row is the row: the kernels need not know of larger numbers.
        self.rule = ProductRule(
            min(beta_w, in_features),
            min(beta_a, in_features),
            check_coding(coding),
            check_cut(cut),
            check_backward(backward),
        )
        latents = normal_latents(out_features, in_features, 1 / in_features, generator)
        self.weight = nn.Parameter(latents)
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None
        self._packed: PackedWeight | None = None

    @property
    def is_packed(self) -> bool:
        """Whether the network sees loaded packed weights rather than binarized latents."""
        return self._packed is not None

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features); ValueError for another last dimension.

        `product.native_route_takes` says when the kernels do it and when the tensor implementation.
        """
        if x.dim() == 0 or x.shape[-1] != self.in_features:
            raise ValueError(
                f"the layer takes {self.in_features} features, the input has shape {tuple(x.shape)}"
            )
        rows = x.reshape(-1, self.in_features)
        if native_route_takes(rows, self.weight, self.rule):
            y = product_native(rows, self.weight, self._packed, self.rule)
        else:
            y = product_tensor(rows, self.weight, not self.is_packed, self.rule)
        y = y.reshape(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self.bias

    def load_packed(self, words: NDArray[np.uint64], scales: NDArray[np.float32]) -> None:
        """Make these binarized weights the ones that the network sees, and enter the packed state.

        `words` (out, ceil(in/64)) uint64 with zero bits past `in_features`, `scales`
        (out, ceil(in/beta_w)) float32 of float16 values (see `quantize_scales`). Both are copied.
        ValueError, with the layer unchanged, for anything else.
        """
        self._check_packed(words, scales)
        packed = PackedWeight(np.array(words, order="C"), np.array(scales, order="C"))
        with torch.no_grad():
            self.weight.copy_(unpack_weight(packed, self.rule.beta_w, self.in_features))
        self._packed = packed

    def packed(self) -> PackedWeight:
        """Return the binarized weights with scales of float16 values, as ring and files have them.

        In the packed state these are the loaded ones (not to be written to); latents are binarized
        and their scales rounded. ValueError if a scale has no float16 form.
        """
        if self._packed is not None:
            return self._packed
        exact = pack_weight(self.weight, self.rule.beta_w)
        scales = quantize_scales(torch.from_numpy(exact.scales)).numpy()
        return PackedWeight(exact.words, scales)

    def extra_repr(self) -> str:
        """Describe the layer in `print(net)`."""
        return (
            f"{self.in_features} -> {self.out_features}, beta_w={self.beta_w}, "
            f"beta_a={self.beta_a}, {self.rule.coding}, cut={self.rule.cut}, "
            f"backward={self.rule.backward}"
        )

    def _check_packed(self, words: NDArray[np.uint64], scales: NDArray[np.float32]) -> None:
        rows, columns = self.out_features, self.in_features
        _check_array("words", words, np.uint64, (rows, segment_count(columns, WORD_BITS)))
        _check_array("scales", scales, np.float32, (rows, segment_count(columns, self.rule.beta_w)))
        used = columns % WORD_BITS
        if used and bool((words[:, -1] >> np.uint64(used)).any()):
            raise ValueError(f"words have bits set past the {columns} elements of a row")
        # NaN fails the comparison as well.
        with np.errstate(over="ignore"):
            exact = scales.astype(np.float16).astype(np.float32) == scales
        if not bool((exact & (scales >= 0) & np.isfinite(scales)).all()):
            raise ValueError("scales must be finite float16 values of at least 0: quantize_scales")


def check_features(in_features: int, out_features: int) -> None:
    """Raise ValueError unless both are integers of at least 1."""
    for name, value in (("in_features", in_features), ("out_features", out_features)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be an integer of at least 1, not {value!r}")


def _check_array(name: str, array: object, dtype: type, shape: tuple[int, int]) -> None:
    wanted = f"{np.dtype(dtype).name} of shape {shape}"
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{name} must be a numpy array, {wanted}, not {type(array).__name__}")
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(f"{name} must be {wanted}, not {array.dtype} of shape {array.shape}")
