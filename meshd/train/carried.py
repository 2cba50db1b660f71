"""What exchanges in bits have in common: a carried error, and weights that travel as differences.

    v = what this member wants to be said in this step + e        e: what earlier steps did not say
    e = v - what of it was said                                   staged; the state's at the commit

Law: nothing that was wanted is lost. Over all members, what the decisions say and what is carried
add up to what was wanted, step by step, whoever comes and goes; an aborted step never was.

What v is (`_want`), how it is said, and what a decision moves (`_apply`) are the exchanges'. Here
is the rest: v with its bits and means, weights for those who do not hold a slice, and the errors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from meshd.bits import ops
from meshd.core.ring.agreement import Plan
from meshd.core.ring.replica import BadPayloadError, Payload
from meshd.core.ring.route import Route
from meshd.core.slices import Slice
from meshd.train import state_bytes
from meshd.train.chunk import Chunk
from meshd.train.delta import (
    OtherBaseError,
    PackedSlice,
    WeightsError,
    decode_weights,
    encode_weights,
)
from meshd.train.errors import TrainingError
from meshd.train.holding import Packed, SliceHolding
from meshd.train.optimizer import Optimizer, SliceState, SliceVotes, StepRule
from meshd.train.parameters import Floats, NetworkParameters, Words
from meshd.train.scale_code import decode_scales
from meshd.train.statistics import RunningStatistics


class CarryingHolding(SliceHolding):
    """One member's side of an exchange in bits; subclasses say how v is said."""

    def __init__(
        self,
        parameters: NetworkParameters,
        optimizer: Optimizer,
        statistics: RunningStatistics,
        copies: int,
    ) -> None:
        super().__init__(parameters, optimizer, statistics, copies)
        size, gamma = parameters.slice_map.padded, parameters.slice_map.gamma
        self.carried: Floats = np.zeros(size, np.float32)
        """e, of the whole flat vector."""
        self.flips = 0
        """Signs of weights that this member's chunks flipped, since the start."""
        self._wanted: Floats = np.zeros(size, np.float32)
        """v of the running step; what is settled of it is the new e."""
        self._bits: Words = np.zeros(size // 64, np.uint64)
        self._means: Floats = np.zeros(size // gamma, np.float32)
        self._gamma = gamma
        self._correction = parameters.segment_correction()
        self._bucket_runs = _bucket_runs(self.slices, self.buckets)
        self._chunks: dict[int, Chunk] = {}
        self._chunks_before: dict[int, Chunk] = {}
        """Those of the last committed step: the ring may be another one since."""

    def lay_out(self, plan: Plan, rank: int) -> Route:
        """As `SliceHolding.lay_out`."""
        route = super().lay_out(plan, rank)
        self._chunks = {c: Chunk(self.parts(c), self._gamma) for c in route.every_chunk()}
        return route

    # --- this member's part ----------------------------------------------------------------------

    def open(self, bucket: int) -> None:
        """As `Replica.open`: v, bits and means of the bucket's slices."""
        for start, stop in self._bucket_runs[bucket]:
            wanted = self._wanted[start:stop]
            self._want(start, stop, wanted)
            segments = slice(start // self._gamma, stop // self._gamma)
            ops.carry_binarize(
                self.carried[start:stop],
                wanted,
                1.0,
                self._gamma,
                out_bits=self._bits[start // 64 : stop // 64],
                out_means=self._means[segments],
            )
            self._means[segments] *= self._correction[segments]
            if not bool(np.isfinite(self._means[segments]).all()):
                raise TrainingError(
                    f"training diverged at step {self.step}: the gradient is not finite; lower"
                    " training.learning_rate"
                )

    def _want(self, start: int, stop: int, out: Floats) -> None:
        """What is to be said of a range of whole slices, (stop - start,), padding 0: the gradient
        of the batch's mean loss, as far as it is this member's."""
        self.parameters.copy_gradient(start, stop, self.weight, out)

    def _settle(self, runs: Sequence[tuple[int, int]], scale: Floats) -> None:
        """e = v - A sign(v), in place of v; padding is cleared at the commit."""
        at = 0
        for start, stop in runs:
            segments = (stop - start) // self._gamma
            ops.carry_settle(
                self._wanted[start:stop],
                self._bits[start // 64 : stop // 64],
                scale[at : at + segments],
                self._gamma,
            )
            at += segments

    # --- results ---------------------------------------------------------------------------------

    def _move(self, own: Chunk, planes: Words, scale: Floats, members: int) -> None:
        """Stage new states of a chunk's slices, moved by scale (2 V - members) / members.

        Raises:
            BadPayloadError: counts of more votes than members.
        """
        rule = self._rule()
        for part in own.slices:
            votes = own.votes_on(part, planes, scale, members)
            try:
                self.stage_move(part, rule, votes)
            except ValueError as error:
                raise BadPayloadError(f"impossible votes: {error}") from None

    def _rule(self) -> StepRule:
        """How the running step moves latents."""
        return self.optimizer.at(self.step)

    def _apply(self, part: Slice, state: SliceState, move: StepRule, by: object) -> Packed | None:
        assert isinstance(by, SliceVotes)  # noqa: S101 - as `_move` calls it
        if not part.binary:
            move.move_dense_by_votes(state, by)
            return None
        return move.move_by_votes(state, by, self.matrix(part))

    def finished(self, chunk: int) -> Payload:
        """As `Replica.finished`: of dense slices the decision, which every member applies."""
        own, payload = self._chunks[chunk], self.staged.finished.get(chunk)
        if not own.binary:
            return self.staged.decisions[chunk]
        if payload is None:
            last = [self.packed_slice(part, self.parameters.packed_of(part)) for part in own.slices]
            encoded = encode_weights(self._weights(own, self.staged.packed), last)
            self.staged.flips += encoded.flips or 0
            payload = self._said(own, self.staged.decisions[chunk]) + encoded.payload
            self.staged.finished[chunk] = payload
        return payload

    def _weights(self, own: Chunk, packed: dict[int, Packed]) -> list[PackedSlice]:
        return [self.packed_slice(part, packed[part.index]) for part in own.slices]

    def _said(self, own: Chunk, decision: Payload) -> bytes:
        """What of a decision everybody needs: codes of the scales A, which end it."""
        return bytes(decision[len(decision) - own.segments :])

    def _said_length(self, own: Chunk) -> int:
        """Bytes of `_said`."""
        return own.segments

    def _take_said(self, own: Chunk, said: Payload) -> None:
        """Settle by what of a decision everybody needs."""
        self._settle(own.runs, decode_scales(np.frombuffer(said, np.uint8)))

    def take_finished(self, chunk: int, payload: Payload) -> None:
        """As `Replica.take_finished`."""
        own = self._chunks[chunk]
        if not own.binary:
            self.take_decision(chunk, payload)
            return
        length = self._said_length(own)
        if len(payload) < length:
            raise BadPayloadError(f"{len(payload)} bytes are no finished chunk")
        last = [self.packed_slice(part, self.parameters.packed_of(part)) for part in own.slices]
        try:
            came = decode_weights(payload[length:], last)
        except WeightsError as error:
            own_fault = isinstance(error, OtherBaseError)
            raise BadPayloadError(str(error), own=own_fault) from None
        for part, new in zip(own.slices, came, strict=True):
            scales = new.codes.view(np.float16).astype(np.float32)
            self.staged.packed[part.index] = new.words, scales
        self._take_said(own, payload[:length])
        self.staged.finished[chunk] = payload

    def past(self, chunk: int, decided: bool) -> Payload:
        """As `Holding.past`; weights that were decided here go whole, since their base is gone."""
        before, own = self.before, self._chunks_before[chunk]
        if decided or not own.binary:
            return before.decisions[chunk]
        if chunk in before.finished:
            return before.finished[chunk]
        whole = encode_weights(self._weights(own, before.packed), None)
        return self._said(own, before.decisions[chunk]) + whole.payload

    def commit(self) -> None:
        """As `Replica.commit`: v has become the new e, chunk by chunk."""
        self.flips += self.staged.flips
        super().commit()
        self._chunks_before = self._chunks
        self.parameters.clear_padding(self._wanted)
        self.carried, self._wanted = self._wanted, self.carried

    # --- carried error ---------------------------------------------------------------------------

    def carried_error(self) -> Floats:
        """e without padding, float32 (parameters,)."""
        return self.carried[self.parameters.real_places()]

    def set_carried(self, carried: Floats) -> None:
        """Resume with this carried error (parameters,)."""
        self.carried[self.parameters.real_places()] = carried

    def forget(self) -> None:
        """As `Holding.forget`: without the state there is nothing that was not said of it."""
        super().forget()
        self.carried[:] = 0

    def hand_over(self, index: int) -> Payload:
        """As `SliceHolding.hand_over`: float32 (size,)."""
        own = self._carried_on(index)
        payload = own.tobytes()
        own[:] = 0
        return payload

    def take_over(self, index: int, payload: Payload) -> None:
        """As `SliceHolding.take_over`: it is added to this member's own."""
        own = self._carried_on(index)
        with np.errstate(over="ignore"):
            total = own + state_bytes.unpack_floats(payload, own.size)
        if not bool(np.isfinite(total).all()):
            raise BadPayloadError("a carried error that cannot be")
        own[:] = total

    def _carried_on(self, index: int) -> Floats:
        """A view of e on one slice (size,)."""
        part = self.slices[index]
        return self.carried[part.offset : part.offset + part.size]


def _bucket_runs(
    slices: Sequence[Slice], buckets: Sequence[int]
) -> list[tuple[tuple[int, int], ...]]:
    """Ranges of the flat vector of each bucket."""
    runs = []
    for bucket in range(max(buckets) + 1):
        parts = [part for part in slices if buckets[part.index] == bucket]
        runs.append(Chunk(parts, 64).runs)
    return runs
