"""What a data set holds, told without loading it: one pass over its blocks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from meshd.data.dataset import input_shape
from meshd.data.load import open_source
from meshd.data.source import Part, Source, checked_blocks


@dataclass(frozen=True)
class PartSummary:
    """Samples, the range of their values, and how many each label has."""

    samples: int
    smallest: float
    largest: float
    counts: dict[int, int]


@dataclass(frozen=True)
class Summary:
    """`shape`: of a sample as stored; `input_shape`: as a network sees it; `dtype`: a NumPy name.

    `classes`: the highest label plus one, or as many as there are names.
    """

    format: str
    shape: tuple[int, ...]
    input_shape: tuple[int, ...]
    dtype: str
    classes: int
    class_names: tuple[str, ...]
    train: PartSummary
    test: PartSummary


def summarise(path: Path | str) -> Summary:
    """Read a data set through; needs memory for one block.

    Raises:
        DataError, DownloadError: as `load_dataset`.
    """
    source = open_source(path)
    header = source.header("train")
    train, test = _part(source, "train"), _part(source, "test")
    highest = max(*train.counts, *test.counts)
    return Summary(
        source.format,
        header.shape,
        input_shape(header.shape),
        header.dtype.name,
        max(highest + 1, len(source.class_names)),
        source.class_names,
        train,
        test,
    )


def _part(source: Source, part: Part) -> PartSummary:
    smallest, largest = np.inf, -np.inf
    counts: Counter[int] = Counter()
    for x, y in checked_blocks(source, part):
        smallest, largest = min(smallest, float(x.min())), max(largest, float(x.max()))
        labels, found = np.unique(y, return_counts=True)
        counts.update(dict(zip(labels.tolist(), found.tolist(), strict=True)))
    return PartSummary(source.header(part).samples, smallest, largest, dict(sorted(counts.items())))
