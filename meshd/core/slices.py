"""How a job's parameters are cut, once, into slices.

The flat vector of a job lists the dense slices first and then the binary ones, each beginning at a
multiple of gamma, so that a run of slices is one array to the kernels: bits pack into whole words
(gamma is a multiple of 64) and no gradient segment crosses a slice.

    tensor A (dense)        tensor B (binary, rows of `columns` weights)
    |--slice 0--|-slice 1|..|--slice 2: rows 0..11--|--slice 3: rows 12..23--|..
                          ^ padding up to a multiple of gamma: never part of a scale, never an error

A binary slice is whole rows of its matrix: segments of beta_w lie along a row, so a slice's scales
are its own. Whole slices are owned and move (`ring/ownership.py`), and travel together by bucket
(`ring/layout.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SLICES_WANTED = 48  # even owners to about 2 % in a ring of 8, at 40 bytes of checkpoint list each
DENSE_UNIT = 512  # dense slices are cut at multiples of it: whole pages of float32 and whole words


@dataclass(frozen=True)
class TensorShape:
    """One parameter tensor. `beta`: weights that share a scale, along a row; 0: dense."""

    name: str
    rows: int
    columns: int
    beta: int

    @property
    def size(self) -> int:
        """Elements."""
        return self.rows * self.columns


@dataclass(frozen=True)
class Slice:
    """One slice: elements [start, stop) of its tensor, at `offset` of the flat vector."""

    index: int
    tensor: TensorShape
    start: int
    stop: int
    offset: int
    padded: int
    """Length in the flat vector: stop - start rounded up to a multiple of gamma."""

    @property
    def size(self) -> int:
        """Real elements."""
        return self.stop - self.start

    @property
    def binary(self) -> bool:
        """Whether its weights are binarized."""
        return self.tensor.beta > 0

    @property
    def rows(self) -> tuple[int, int]:
        """First row and the one after the last, for a binary slice."""
        return self.start // self.tensor.columns, self.stop // self.tensor.columns


@dataclass(frozen=True)
class SliceMap:
    """All slices of a job, dense before binary; a pure function of the tensors and gamma."""

    slices: tuple[Slice, ...]
    gamma: int

    @property
    def padded(self) -> int:
        """Length of the flat vector, elements."""
        return sum(part.padded for part in self.slices)

    @property
    def parameters(self) -> int:
        """Real parameters, elements."""
        return sum(part.size for part in self.slices)


def cut_slices(tensors: Sequence[TensorShape], gamma: int) -> SliceMap:
    """Cut tensors into about SLICES_WANTED slices of about equal size.

    Raises:
        ValueError: gamma is not a positive multiple of 64.
    """
    if gamma < 64 or gamma % 64:
        raise ValueError(f"gamma {gamma} must be a positive multiple of 64")
    total = sum(tensor.size for tensor in tensors)
    target = max(1, -(-total // SLICES_WANTED))
    slices: list[Slice] = []
    offset = 0
    for tensor in sorted(tensors, key=lambda tensor: tensor.beta > 0):  # stable: dense first
        unit = tensor.columns if tensor.beta else DENSE_UNIT
        length = max(1, round(target / unit)) * unit
        for start in range(0, tensor.size, length):
            stop = min(start + length, tensor.size)
            padded = -(-(stop - start) // gamma) * gamma
            slices.append(Slice(len(slices), tensor, start, stop, offset, padded))
            offset += padded
    return SliceMap(tuple(slices), gamma)


def padding_ranges(slice_map: SliceMap) -> list[tuple[int, int]]:
    """Where the flat vector holds no parameter: [start, stop) ranges."""
    return [
        (part.offset + part.size, part.offset + part.padded)
        for part in slice_map.slices
        if part.size < part.padded
    ]
