"""The settings that the study of training compares: a declarative list, no code that trains.

Each `Setting` differs from the base in what its name says and in nothing else, so that a row of the
table against the row "base" is the effect of one choice. The base: the seed's seven layers, 256
wide, beta 16, no cut, Adam 3e-3 falling on a line to nothing, batches of 100, 2 epochs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from meshd.reproduce.fit import Recipe


@dataclass(frozen=True)
class Setting:
    """One row of the study.

    group: the question that it answers. beta: of weights and activations alike, one for each epoch,
    the last one for all that follow. cut, cut_a: of latents and activations, None for no cut.
    initial: factor on the binary layers' initial latents. norm: batch normalisation "none",
    "before" binarization or "after" a binary product. once: activations are binarized once, not
    twice as in the seed. kind: "hbnn", "bnn" (signs without scales) or "float". first: beta_w of
    the first layer, 0 keeps it dense. temperature: factor on the logits. backward: precision of the
    binary layers' gradients.
    """

    group: str
    name: str
    recipe: Recipe = field(default_factory=lambda: Recipe(learning_rate=3e-3, epochs=2))
    kind: str = "hbnn"
    beta: tuple[int, ...] = (16,)
    cut: float | None = None
    cut_a: float | None = None
    estimator: str = "cut"
    initial: float = 1.0
    norm: str = "none"
    once: bool = False
    first: int = 0
    temperature: float = 1.0
    backward: str = "exact"


BASE = Setting("base", "base")


def _with(group: str, name: str, **changes: object) -> Setting:
    return replace(BASE, group=group, name=name, **changes)  # type: ignore[arg-type]


def _trained(group: str, name: str, **changes: object) -> Setting:
    recipe = replace(BASE.recipe, **changes)  # type: ignore[arg-type]
    return replace(BASE, group=group, name=name, recipe=recipe)


SETTINGS: Sequence[Setting] = (
    BASE,
    _with("cut", "cut 1 on activations", cut_a=1.0),
    _with("cut", "cut 1 on both", cut=1.0, cut_a=1.0),
    _with("cut", "polynomial on both", cut=1.0, cut_a=1.0, estimator="polynomial"),
    _trained("optimizer", "Adam 1e-3", learning_rate=1e-3),
    _trained("optimizer", "Adam 1e-2", learning_rate=1e-2),
    _trained("optimizer", "SGD momentum 0.03", optimizer="sgd", learning_rate=0.03),
    _trained("optimizer", "SGD momentum 0.1", optimizer="sgd", learning_rate=0.1),
    _trained("optimizer", "SGD momentum 0.3", optimizer="sgd", learning_rate=0.3),
    _trained("schedule", "constant", schedule="constant"),
    _trained("schedule", "cosine", schedule="cosine"),
    _trained("schedule", "linear after 300 steps of warm-up", warmup=300),
    _trained("clip", "latents within 0.1", clip=0.1),
    _trained("clip", "latents within 1", clip=1.0),
    _with("init", "latents x 0.3", initial=0.3),
    _with("init", "latents x 3", initial=3.0),
    _with("norm", "batch norm before binarization", norm="before"),
    _with("norm", "batch norm after the product", norm="after"),
    _with("norm", "before, cut 1 on both", norm="before", cut=1.0, cut_a=1.0),
    _with("norm", "before, beta 64", norm="before", beta=(64,)),
    _with("norm", "before, beta 64, cut 1 on both", norm="before", beta=(64,), cut=1.0, cut_a=1.0),
    _with("beta", "beta 4", beta=(4,)),
    _with("beta", "beta 64", beta=(64,)),
    _with("beta", "beta 256, a whole row", beta=(256,)),
    _with("beta schedule", "beta 4, then 64", beta=(4, 64)),
    _with("beta schedule", "beta 256, then 64", beta=(256, 64)),
    _with("layers", "activations binarized once", once=True),
    _with("layers", "first layer binary too, beta_w 16", first=16),
    _with("backward", "gradients int8", backward="int8"),
    _with("backward", "gradients planes(2)", backward="planes(2)"),
    _with("reference", "float", kind="float"),
    _with("reference", "signs without scales, cut 1", kind="bnn", cut=1.0, cut_a=1.0),
    _with(
        "reference",
        "signs without scales, cut 1, logits x 0.05",
        kind="bnn",
        cut=1.0,
        cut_a=1.0,
        temperature=0.05,
    ),
)
