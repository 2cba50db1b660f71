"""A linear layer that sees its weights and its inputs through Hadamard binarization."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from meshd.hbnn.binarize import check_beta
from meshd.hbnn.binary_layer import AS_CUT, BinaryLayer, CutA, check_size, settings
from meshd.hbnn.float_product import float_route_takes, product_floats
from meshd.hbnn.initial import normal_latents
from meshd.hbnn.operators import compiled_linear, rule_text
from meshd.hbnn.packed import ProductRule
from meshd.hbnn.product import native_route_takes, product_native, product_tensor


class HadamardLinear(BinaryLayer):
    """y = gain * (H_beta_a(x) @ H_beta_w(W)^T) (+ bias), W (out_features, in_features).

    `beta_a` None means `beta_w`: the seed has one aggression for both; `beta_a` = 1 keeps
    activations float: they and their gradients pass as they are, unless `coding` or `cut_a` is
    given. `coding` is the activations': "unipolar" (None, unless `beta_a` = 1) after a Ramp, else
    "signed"; weights are signed. `cut` bounds the straight-through estimator on latents, `cut_a`
    on activations ("as cut": alike); None lifts it, and of activations saves the bit that an
    element costs. `estimator` is its shape, "cut" or "polynomial" (see `meshd.hbnn.estimator`).
    `bias` adds a dense parameter, `gain` a learned scale for each output, 1 at first (XNOR-Net++,
    arXiv 1909.13863). `backward` is the precision of the gradients: "exact", "int8" or "planes(k)"
    (see `meshd.hbnn.gradient`). Weights start as normal deviates of variance 1 / in_features, drawn
    from `generator` (None: torch's own). ValueError for a setting that is not one of these.

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
        coding: str | None = None,
        cut: float | None = 1.0,
        bias: bool = False,
        *,
        cut_a: CutA = AS_CUT,
        estimator: str = "cut",
        gain: bool = False,
        backward: str = "exact",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_size(in_features=in_features, out_features=out_features)
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
            **settings(beta_a, coding, "unipolar", cut, cut_a, estimator, backward),  # type: ignore[arg-type]
        )
        self.rule_text = rule_text(self.rule)
        latents = normal_latents(out_features, in_features, 1 / in_features, generator)
        self.weight = nn.Parameter(latents)
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None
        self.gain = nn.Parameter(torch.ones(out_features)) if gain else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features); ValueError for another last dimension.

        TypeError for another dtype than the weight's, unless autocast is on.
        `product.native_route_takes` says when the kernels do it and when the tensor implementation.
        """
        if x.dim() == 0 or x.shape[-1] != self.in_features:
            raise ValueError(
                f"the layer takes {self.in_features} features, the input has shape {tuple(x.shape)}"
            )
        return self.without_autocast(x)

    def compute(self, x: Tensor) -> Tensor:
        """Map inputs of a shape that fits."""
        latent, rule, rows = not self.is_packed, self.rule, x.reshape(-1, self.in_features)
        if float_route_takes(rows, self.weight, rule):
            y = product_floats(rows, self.weight, self._packed, rule, self.gain)
        elif not native_route_takes(rows, self.weight, rule):
            y = product_tensor(rows, self.floats(), latent, rule, self.gain)
        elif torch.compiler.is_compiling():
            y = compiled_linear(rows, self.floats(), latent, self.rule_text, self.gain)
        else:
            y = product_native(rows, self.weight, self._packed, rule, self.gain)
        y = y.reshape(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        """Describe the layer in `print(net)`."""
        return f"{self.in_features} -> {self.out_features}, {super().extra_repr()}"
