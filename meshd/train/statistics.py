"""Running statistics of a ring: each member's own between evaluations, the ring's mean at each.

Batch normalisation uses the statistics of a member's own share; the running ones, which only
evaluation and the finished network use, drift apart with the shares. They are averaged before every
evaluation and checkpoint (design section 5): every member gathers all vectors and sums them in the
order of ranks, each addition and the division rounded on its own, so all hold the same bits.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from meshd.train.errors import RingBrokenError, TrainingError
from meshd.train.gatherings import Gatherer, Kind

Floats = NDArray[np.float32]

VARIANCE = "running_var"


class RunningStatistics:
    """The buffers of a network as one vector, in the order of `Network.statistics()`."""

    def __init__(self, net: torch.nn.Module) -> None:
        self._buffers = dict(net.named_buffers())
        self.size = sum(buffer.numel() for buffer in self._buffers.values())
        """Numbers, float32."""
        self._variances = np.zeros(self.size, np.bool_)
        for name, place in self._places():
            self._variances[place] = name.endswith(VARIANCE)

    def vector(self) -> Floats:
        """A copy of all of them: (size,)."""
        parts = [buffer.detach().numpy() for buffer in self._buffers.values()]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def load(self, vector: Floats) -> None:
        """Make these (size,) the network's."""
        for name, place in self._places():
            self._buffers[name].copy_(torch.from_numpy(vector[place]))

    def are_possible(self, vector: Floats) -> bool:
        """Whether these (size,) can be statistics: finite, and no variance negative."""
        return bool(np.isfinite(vector).all()) and not bool((vector[self._variances] < 0).any())

    def average(self, collective: Gatherer, step: int) -> None:
        """Replace every member's by their mean, the same bits everywhere.

        Raises:
            TrainingError: this member's are not finite any more.
            RingBrokenError: another member's are impossible; else as `Collective.gather`.
        """
        if not self.size:
            return
        own = self.vector()
        if not self.are_possible(own):
            raise TrainingError(
                f"training diverged at step {step}: running statistics are not finite; lower"
                " training.learning_rate"
            )
        payloads = collective.gather(Kind.STATISTICS, own.tobytes())
        total = np.zeros(self.size, np.float32)
        for payload in payloads:
            part = np.frombuffer(payload, np.float32) if len(payload) == own.nbytes else None
            if part is None or not self.are_possible(part):
                raise RingBrokenError("a member sent impossible running statistics")
            total += part
        total /= np.float32(len(payloads))
        self.load(total)

    def _places(self) -> list[tuple[str, slice]]:
        """Where each buffer stands in the vector."""
        places, start = [], 0
        for name, buffer in self._buffers.items():
            places.append((name, slice(start, start + buffer.numel())))
            start += buffer.numel()
        return places
