"""The reference exchange: the mean gradient in float32 by a ring all-reduce, all state everywhere.

Every member holds every slice and applies the same update; 2 (N - 1) / N x 4 bytes a parameter and
step cross each link. The others are judged by it. Payloads: float32 of a chunk's slices, padded.
"""

from __future__ import annotations

import numpy as np

from meshd.core.ring.agreement import Plan
from meshd.core.ring.replica import BadPayloadError, Payload
from meshd.core.ring.route import Route
from meshd.core.slices import Slice
from meshd.train.chunk import Chunk
from meshd.train.errors import TrainingError
from meshd.train.holding import Packed, SliceHolding
from meshd.train.optimizer import Optimizer, SliceState, StepRule
from meshd.train.parameters import Floats, NetworkParameters
from meshd.train.state_bytes import unpack_floats
from meshd.train.statistics import RunningStatistics


class Float32Holding(SliceHolding):
    """One member's side; there is no carried error."""

    def __init__(
        self,
        parameters: NetworkParameters,
        optimizer: Optimizer,
        statistics: RunningStatistics,
        copies: int,
    ) -> None:
        super().__init__(parameters, optimizer, statistics, copies)
        self._gradient: Floats = np.zeros(parameters.slice_map.padded, np.float32)
        self._chunks: dict[int, Chunk] = {}

    def shared(self, part: Slice) -> bool:
        """Every slice is everybody's."""
        return True

    def carries(self) -> bool:
        """It does not."""
        return False

    def lay_out(self, plan: Plan, rank: int) -> Route:
        """As `SliceHolding.lay_out`."""
        route = super().lay_out(plan, rank)
        gamma = self.parameters.slice_map.gamma
        self._chunks = {c: Chunk(self.parts(c), gamma) for c in route.every_chunk()}
        return route

    def open(self, bucket: int) -> None:
        """As `Replica.open`."""
        for part in self.slices:
            if self.buckets[part.index] != bucket:
                continue
            place = self._gradient[part.offset : part.offset + part.padded]
            self.parameters.copy_gradient(
                part.offset, part.offset + part.padded, self.weight, place
            )
            if not bool(np.isfinite(place).all()):
                raise TrainingError(
                    f"training diverged at step {self.step}: the gradient is not finite; lower"
                    " training.learning_rate"
                )

    def own(self, chunk: int) -> Payload:
        """As `Replica.own`."""
        return self._chunks[chunk].floats_of(self._gradient).tobytes()

    def add(self, chunk: int, payload: Payload, voters: int) -> Payload:
        """As `Replica.add`."""
        return self._sum(chunk, payload, self._chunks[chunk].floats_of(self._gradient))

    def merge(self, chunk: int, total: Payload, voters: int, part: Payload) -> Payload:
        """As `Replica.merge`."""
        return self._sum(chunk, total, unpack_floats(part, self._chunks[chunk].length))

    def _sum(self, chunk: int, payload: Payload, part: Floats) -> bytes:
        total = unpack_floats(payload, self._chunks[chunk].length)
        total += part
        return total.tobytes()

    def decide(self, chunk: int, payload: Payload) -> Payload:
        """As `Replica.decide`."""
        self.take_decision(chunk, payload)
        return payload

    def take_decision(self, chunk: int, payload: Payload) -> None:
        """As `Replica.take_decision`: the sum of all members' parts."""
        own = self._chunks[chunk]
        total = unpack_floats(payload, own.length)
        rule = self.optimizer.at(self.step)
        for part in own.slices:
            self.stage_move(part, rule, own.slice_of(part, total).copy())
        self.staged.decisions[chunk] = payload

    def _apply(self, part: Slice, state: SliceState, move: StepRule, by: object) -> Packed | None:
        assert isinstance(by, np.ndarray)  # noqa: S101 - as `take_decision` calls it
        if not part.binary:
            move.move_dense(state, by)
            return None
        return move.move(state, by, self.matrix(part))

    def finished(self, chunk: int) -> Payload:
        """As `Replica.finished`: everybody holds everything, so it is the decision."""
        return self.staged.decisions[chunk]

    def take_finished(self, chunk: int, payload: Payload) -> None:
        """As `Replica.take_finished`."""
        raise BadPayloadError("nothing is finished where everybody holds everything")

    def past(self, chunk: int, decided: bool) -> Payload:
        """As `Holding.past`."""
        return self.before.decisions[chunk]
