"""What the binary layers share: two states of their weights, the settings, loading of packed bits.

A binary layer's weight is a matrix of `rows` filters with `columns` elements, whatever shape the
parameter has (`as_rows`). It is in one of two states:

    latents  `weight` is what an optimizer moves; every forward binarizes it, and `weight.grad` is
             the straight-through estimate, cut where |w| > cut. A single process trains so.
    packed   `load_packed` has said what the network sees. `weight` then holds those dequantized
             values, and `weight.grad` is dLoss/d(w_hat) without a cut: on the ring, the cut needs
             the latents, and only the slice's owner has them.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from meshd.hbnn.binarize import Coding, check_coding, quantize_scales, segment_count
from meshd.hbnn.estimator import check_cut, check_estimator
from meshd.hbnn.gradient import check_backward
from meshd.hbnn.packed import PackedWeight, ProductRule, pack_weight, unpack_weight

WORD_BITS = 64
# Of `cut_a`: activations are cut where latents are; float ones (beta_a = 1) nowhere.
AS_CUT: Literal["as cut"] = "as cut"

CutA = float | Literal["as cut"] | None


class BinaryLayer(nn.Module):
    """A layer with binarized weights: `weight`, and `bias` and `gain` (outputs) or None."""

    weight: nn.Parameter
    bias: nn.Parameter | None
    gain: nn.Parameter | None
    rule: ProductRule
    rule_text: str  # the same, for `meshd.hbnn.operators`
    beta_w: int
    beta_a: int

    def __init__(self) -> None:
        super().__init__()
        self._packed: PackedWeight | None = None
        self._is_stale = False  # whether the floats of `weight` are older than `_packed`

    @property
    def rows(self) -> int:
        """Filters: outputs, each with a row of weights."""
        return self.weight.shape[0]

    @property
    def columns(self) -> int:
        """Elements of a row."""
        return self.weight[0].numel()

    def as_rows(self, tensor: Tensor) -> Tensor:
        """Return `tensor`, of the weight's shape, as the (rows, columns) that segments are cut in.

        A view where its memory allows.
        """
        return tensor

    def of_rows(self, rows: Tensor) -> Tensor:
        """Return (rows, columns) in the weight's shape: the inverse of `as_rows`, a view."""
        return rows

    def compute(self, x: Tensor) -> Tensor:
        """Map an input of a shape that fits, in the weight's dtype."""
        raise NotImplementedError

    def without_autocast(self, x: Tensor) -> Tensor:
        """Compute in the weight's dtype where autocast would have chosen another.

        Signs and scales gain nothing from less precision, and the kernels take float32. Where there
        is no autocast, TypeError for an input of another dtype than the weight's.
        """
        if not torch.is_autocast_enabled(x.device.type):
            self._check_dtype(x)
            return self.compute(x)
        with torch.autocast(x.device.type, enabled=False):
            return self.compute(x.to(self.weight.dtype))

    @property
    def is_packed(self) -> bool:
        """Whether the network sees loaded packed weights rather than binarized latents."""
        return self._packed is not None

    def load_packed(self, words: NDArray[np.uint64], scales: NDArray[np.float32]) -> None:
        """Make these binarized weights the ones that the network sees, and enter the packed state.

        `words` (rows, ceil(columns/64)) uint64 with zero bits past `columns`, `scales`
        (rows, ceil(columns/beta_w)) float32 of float16 values (see `quantize_scales`). Both are
        copied. ValueError, with the layer unchanged, for anything else.
        """
        self._check_packed(words, scales)
        packed = PackedWeight(np.array(words, order="C"), np.array(scales, order="C"))
        self._packed, self._is_stale = packed, True
        self.floats()

    def share_packed(self, packed: PackedWeight) -> None:
        """As `load_packed`, for who made these bits: nothing is checked, copied or dequantized.

        The arrays stay the caller's, who may change them between a backward and the next forward
        and calls this again then. `weight` gets its floats when something reads them: the kernels
        do not.
        """
        self._packed, self._is_stale = packed, True

    def floats(self) -> nn.Parameter:
        """Return `weight` with the values that the packed state says it has."""
        if self._is_stale and self._packed is not None:
            with torch.no_grad():
                rows = unpack_weight(self._packed, self.rule.beta_w, self.columns)
                self.weight.copy_(self.of_rows(rows))
            self._is_stale = False
        return self.weight

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        self.floats()
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def packed(self) -> PackedWeight:
        """Return the binarized weights with scales of float16 values, as ring and files have them.

        In the packed state these are the loaded ones (not to be written to); latents are binarized
        and their scales rounded. ValueError if a scale has no float16 form.
        """
        if self._packed is not None:
            return self._packed
        exact = pack_weight(self.as_rows(self.weight), self.rule.beta_w)
        scales = quantize_scales(torch.from_numpy(exact.scales)).numpy()
        return PackedWeight(exact.words, scales)

    def extra_repr(self) -> str:
        """Describe the layer in `print(net)`."""
        rule = self.rule
        return (
            f"beta_w={self.beta_w}, beta_a={self.beta_a}, {rule.coding}, cut={rule.cut}, "
            f"cut_a={rule.cut_a}, {rule.estimator}, backward={rule.backward}"
        )

    def _check_dtype(self, x: Tensor) -> None:
        """TypeError as `nn.Linear` has it: who converts, and when, is for the caller to say.

        Integers too, though some routes would bear them: which one, depends on beta_a.
        """
        wanted = self.weight.dtype
        if x.dtype != wanted:
            conversion = "x.float()" if wanted == torch.float32 else f"x.to({wanted})"
            raise TypeError(
                f"the layer's weights are {_name(wanted)}, the input is {_name(x.dtype)}: "
                f"give it {conversion}"
            )

    def _check_packed(self, words: NDArray[np.uint64], scales: NDArray[np.float32]) -> None:
        rows, columns = self.rows, self.columns
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


def settings(
    beta_a: int,
    coding: str | None,
    usual: Coding,
    cut: float | None,
    cut_a: CutA,
    estimator: str,
    backward: str,
) -> dict[str, object]:
    """Return a rule's fields but the betas, checked; ValueError that names a wrong one.

    `coding` None is the `usual` one of the kind of layer. With `beta_a` 1 nothing of an activation
    is estimated: what is not given leaves it, and its gradient, as it is (signed: H_1 is the
    identity), as `meshd.core.network.graph` resolves it.
    """
    cut = check_cut(cut)
    if beta_a == 1:
        usual, as_cut = "signed", None
    else:
        as_cut = cut
    return {
        "coding": usual if coding is None else check_coding(coding),
        "cut": cut,
        "cut_a": as_cut if cut_a == AS_CUT else check_cut(cut_a, "cut_a"),
        "estimator": check_estimator(estimator),
        "backward": check_backward(backward),
    }


def check_size(**sizes: int) -> None:
    """Raise ValueError unless all are integers of at least 1."""
    for name, value in sizes.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be an integer of at least 1, not {value!r}")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _check_array(name: str, array: object, dtype: type, shape: tuple[int, int]) -> None:
    wanted = f"{np.dtype(dtype).name} of shape {shape}"
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{name} must be a numpy array, {wanted}, not {type(array).__name__}")
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(f"{name} must be {wanted}, not {array.dtype} of shape {array.shape}")
