"""How much is measured: everything, what fits into 45 seconds, or next to nothing for the tests."""

from __future__ import annotations

from dataclasses import dataclass

from meshd.bench.products import Shape
from meshd.bench.timing import Effort

CUBES = (256, 512, 1024, 2048, 4096)


@dataclass(frozen=True)
class Plan:
    """What a run measures.

    all_isas: shapes at which every set of kernels but the scalar one is measured, not one alone.
    betas: of the forward products; 0 stands for K.
    backward: shapes of the backward products, m x k x n with k the sum's length; beta is 256.
    conv_batch: images of the convolution.
    elements: of an array that streams through; several times what the largest cache holds.
    limit_s: contests that would begin later than this are left out, and the report says which.
    """

    shapes: tuple[Shape, ...]
    all_isas: tuple[Shape, ...]
    betas: tuple[int, ...]
    backward: tuple[Shape, ...]
    conv_batch: int
    product: Effort
    stream: Effort
    elements: int
    ceilings_s: float
    limit_s: float


def cube(size: int) -> Shape:
    """A product size x size x size."""
    return size, size, size


LONG = (128, 4096, 4096)  # a batch of 128 through a layer of 4096

FULL = Plan(
    shapes=(*map(cube, CUBES), LONG),
    all_isas=(cube(1024),),
    betas=(0, 512, 256, 128, 64, 32, 16),
    backward=(cube(1024), cube(4096)),
    conv_batch=32,
    product=Effort(14.0),
    stream=Effort(4.0, least_turns=5),
    elements=1 << 26,
    ceilings_s=4.0,
    limit_s=320.0,
)

QUICK = Plan(
    shapes=(*map(cube, CUBES[:3]), LONG),
    all_isas=(),
    betas=(0, 256, 128, 64, 16),
    backward=(cube(1024),),
    conv_batch=32,
    product=Effort(2.6),
    stream=Effort(0.5, least_turns=4, most_turns=20),
    elements=1 << 25,
    ceilings_s=1.0,
    limit_s=32.0,
)

# The same code in a second, for tests: its figures say nothing.
TINY = Plan(
    shapes=(cube(64),),
    all_isas=(cube(64),),
    betas=(0, 16),
    backward=(cube(64),),
    conv_batch=1,
    product=Effort(0.1, least_turns=2, most_turns=2),
    stream=Effort(0.02, least_turns=2, most_turns=2),
    elements=1 << 16,
    ceilings_s=0.02,
    limit_s=60.0,
)
