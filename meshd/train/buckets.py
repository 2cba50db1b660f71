"""Opens each bucket while the backward pass still runs: the last layers travel first.

Gradients appear from the last layer back to the first. A hook on every parameter counts which of a
bucket are there (`torch.Tensor.register_post_accumulate_grad_hook`); with the last one the bucket
is opened, and its frames travel while the layers before it are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from meshd.train.parameters import NetworkParameters


class Opens(Protocol):
    """The part of a `Collective` that takes buckets."""

    def opened(self, bucket: int) -> None:
        """The gradient of a bucket is there."""
        ...


class BucketOpener:
    """Watches one network's parameters. `buckets`: of each slice."""

    def __init__(self, parameters: NetworkParameters, buckets: Sequence[int]) -> None:
        self._names: list[set[str]] = [set() for _ in range(max(buckets) + 1)]
        for part in parameters.slice_map.slices:
            self._names[buckets[part.index]].add(part.tensor.name)
        self._missing: list[set[str]] = []
        self._opens: Opens | None = None
        for name in sorted(set().union(*self._names)):
            tensor = parameters.tensor(name)
            tensor.register_post_accumulate_grad_hook(self._hook(name))  # type: ignore[no-untyped-call]

    def begin(self, opens: Opens) -> None:
        """A step begins: no gradient is there."""
        self._missing = [set(names) for names in self._names]
        self._opens = opens

    def open_rest(self) -> None:
        """The backward pass is over, or there was none: what has no gradient has a zero one."""
        for bucket, missing in enumerate(self._missing):
            if missing:
                missing.clear()
                self._open(bucket)
        self._opens = None

    def _hook(self, name: str) -> Callable[[torch.Tensor], None]:
        def there(_: torch.Tensor) -> None:
            if self._opens is None:
                return
            for bucket, missing in enumerate(self._missing):
                if name in missing:
                    missing.discard(name)
                    if not missing:
                        self._open(bucket)

        return there

    def _open(self, bucket: int) -> None:
        assert self._opens is not None  # noqa: S101 - between `begin` and `open_rest`
        self._opens.opened(bucket)
