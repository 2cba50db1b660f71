"""Layers of declarative networks that torch lacks, or has with another rule.

Shapes are with the batch: (B, F) or (B, C, H, W); features and channels are dimension 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BatchNorm(nn.Module):
    """Batch normalisation (arXiv 1502.03167) of features or channels: `weight`, `bias` (F).

    The running statistics (F) move by `momentum` a step, the variance unbiased, as in torch. A
    batch with a single value a feature has no variance, and a ring's member may get one: it is
    normalised by the running statistics, which it leaves alone; torch's own layer would raise.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, features: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum = momentum
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, F) or (B, F, H, W), B >= 1."""
        of_batch = self.training and x.numel() > x.shape[1]
        return nn.functional.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            of_batch,
            self.momentum,
            self.eps,
        )

    def extra_repr(self) -> str:
        """Describe the layer in `print(net)`."""
        return f"{len(self.weight)}, momentum={self.momentum}, eps={self.eps}"


class Dropout(nn.Module):
    """While training, zero each element with probability `rate` and divide the rest by 1 - rate.

    Draws from a generator of its own once `seed` was called, so that a run can be repeated while
    other threads draw from torch's; before that, and on other devices than the CPU, from torch's.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self._generator: torch.Generator | None = None

    def seed(self, seed: int) -> None:
        """Draw from here on what follows from `seed`, 0 to 2^64 - 1."""
        self._generator = torch.Generator().manual_seed(seed)

    def forward(self, x: Tensor) -> Tensor:
        """Map each element."""
        if not self.training or self.rate == 0:
            return x
        generator = self._generator if x.device.type == "cpu" else None
        kept = torch.empty_like(x).bernoulli_(1 - self.rate, generator=generator)
        return x * kept / (1 - self.rate)

    def extra_repr(self) -> str:
        """Describe the layer in `print(net)`."""
        return f"{self.rate}"


class GlobalAvgPool(nn.Module):
    """(B, C, H, W) -> (B, C): the mean over all pixels."""

    def forward(self, x: Tensor) -> Tensor:
        """Average each channel."""
        return x.mean((2, 3))


class Residual(nn.Module):
    """body(x) + shortcut(x); an empty shortcut is x itself."""

    def __init__(self, body: nn.Sequential, shortcut: nn.Sequential) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Add both ways' outputs, which have one shape."""
        both: Tensor = self.body(x) + self.shortcut(x)
        return both
