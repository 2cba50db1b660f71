"""Training of a torch module in one process: what the experiments on settings compare.

Law: everything random comes from the seed; nothing here knows what the module is made of, but that
latents are the weights of binary layers. A job file is trained by `meshd train`, with the bit-equal
optimizers of the ring; here torch's own are used, on any device, with settings a job does not have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from meshd.hbnn.networks import binary_layers
from meshd.train.order import epoch_order

EVALUATION_BATCH = 1000
OPTIMIZERS = ("adam", "sgd")
SCHEDULES = ("constant", "linear", "cosine", "step")


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    optimizer: "adam" (0.9, 0.999) or "sgd" with momentum 0.9. schedule: "constant"; "linear" or
    "cosine" down to nothing; "step": a tenth every `step_epochs` epochs. warmup: steps in which the
    rate rises. clip: latents are kept within +-clip after a step, 0: off. weight_decay: of dense
    parameters, decoupled (arXiv 1711.05101). latent_rate: latents' learning rate as a multiple.
    """

    optimizer: str = "adam"
    learning_rate: float = 1e-3
    schedule: str = "linear"
    epochs: int = 5
    batch: int = 100
    warmup: int = 0
    step_epochs: int = 15
    clip: float = 0.0
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    latent_rate: float = 1.0


@dataclass(frozen=True)
class Samples:
    """Training and test part on one device: x (n, *input shape) float32, y (n,) int64."""

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor


@dataclass(frozen=True)
class Epoch:
    """What an epoch gave: number from 1, mean training loss, percent right of the test part."""

    number: int
    loss: float
    accuracy: float


def fit(
    net: nn.Module,
    forward: Callable[[Tensor], Tensor],
    samples: Samples,
    recipe: Recipe,
    seed: int,
    before_epoch: Callable[[int], None] | None = None,
) -> Iterator[Epoch]:
    """Train `net`; yields after each epoch.

    `forward` maps inputs to logits (B, classes). `before_epoch` is told the epoch, from 0: settings
    that change during training change there. A last batch that is not whole is left out.
    A loss that is not finite ends the training: the last epoch's loss says so.
    """
    latents, groups = _groups(net, recipe)
    optimizer = _optimizer(groups, recipe)
    per_epoch = len(samples.y_train) // recipe.batch
    torch.manual_seed(seed)
    for epoch in range(recipe.epochs):
        if before_epoch is not None:
            before_epoch(epoch)
        order = torch.from_numpy(epoch_order(seed, epoch, len(samples.y_train)))
        order = order.to(samples.y_train.device)
        net.train()
        total = torch.zeros((), device=samples.y_train.device)
        for index in range(per_epoch):
            picked = order[index * recipe.batch : (index + 1) * recipe.batch]
            _set_rate(optimizer, rate_at(recipe, epoch * per_epoch + index, per_epoch))
            total += _step(forward, samples, picked, optimizer, recipe)
            _clip(latents, recipe.clip)
        loss = float(total) / per_epoch
        yield Epoch(epoch + 1, loss, accuracy(net, forward, samples))
        if not math.isfinite(loss):
            return


def rate_at(recipe: Recipe, step: int, per_epoch: int) -> float:
    """Learning rate of a step, counted from 0. ValueError for a schedule there is not."""
    rate, steps = recipe.learning_rate, recipe.epochs * per_epoch
    if step < recipe.warmup:
        return rate * (step + 1) / recipe.warmup
    u = (step - recipe.warmup) / max(1, steps - 1 - recipe.warmup)
    if recipe.schedule == "constant":
        return rate
    if recipe.schedule == "linear":
        return rate * (1 - u)
    if recipe.schedule == "cosine":
        return rate * 0.5 * (1 + math.cos(math.pi * u))
    if recipe.schedule == "step":
        return rate * 0.1 ** (step // per_epoch // recipe.step_epochs)
    raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, not {recipe.schedule!r}")


@torch.no_grad()
def accuracy(net: nn.Module, forward: Callable[[Tensor], Tensor], samples: Samples) -> float:
    """Percent of the test part that `net` puts into its class."""
    net.eval()
    right = 0
    for start in range(0, len(samples.y_test), EVALUATION_BATCH):
        part = slice(start, start + EVALUATION_BATCH)
        right += int((forward(samples.x_test[part]).argmax(-1) == samples.y_test[part]).sum())
    return 100 * right / len(samples.y_test)


def _groups(net: nn.Module, recipe: Recipe) -> tuple[list[nn.Parameter], list[dict[str, object]]]:
    """The latents, and the optimizer's groups: latents, dense parameters."""
    latents = [layer.weight for layer in binary_layers(net).values()]
    chosen = {id(parameter) for parameter in latents}
    dense = [parameter for parameter in net.parameters() if id(parameter) not in chosen]
    groups: list[dict[str, object]] = [
        {"params": dense, "factor": 1.0, "weight_decay": recipe.weight_decay},
        {"params": latents, "factor": recipe.latent_rate, "weight_decay": 0.0},
    ]
    return latents, [group for group in groups if group["params"]]


def _optimizer(groups: list[dict[str, object]], recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "adam":
        return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=0.9, fused=True)
    raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, not {recipe.optimizer!r}")


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


def _step(
    forward: Callable[[Tensor], Tensor],
    samples: Samples,
    picked: Tensor,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
) -> Tensor:
    """One step; returns the batch's loss, detached."""
    outputs, y = forward(samples.x_train[picked]), samples.y_train[picked]
    loss = nn.functional.cross_entropy(outputs, y, label_smoothing=recipe.label_smoothing)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.detach()


@torch.no_grad()
def _clip(latents: list[nn.Parameter], clip: float) -> None:
    if clip:
        for weight in latents:
            weight.clamp_(-clip, clip)
