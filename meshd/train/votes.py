"""The exchange of bits: exact votes in bit planes one way, binarized weights the other.

One step, for member p of N with share b_p of the batch B (docs/algorithm.md has the derivation):

    v_p  = g_p N b_p / B + e_p            e_p: what earlier steps could not say
    bits = v_p >= 0,  a_p = mean |v_p|    over gradient segments of gamma
    reduce-scatter:  V = number of members whose bit is 1, S = sum of a_p in ring order
    A    = bfloat16(S / N)                one rounding, by the owner, so everyone has the same bytes
    update with A (2 V - N) / N           binary slice: owner and backups; dense slice: everyone
    e_p  = v_p - A sign(v_p)              exact: it is the A that was applied

The scale travels beside the votes (adr/0002): nobody needs A before the step ends. The first
copies - 1 hops of the gather carry A and the votes, so the backups apply the same update to the
same latents and know the new weights themselves; later hops carry A, the votes of dense slices and
the finished weights of binary ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from meshd.bits import ops
from meshd.bits.layout import padding_is_zero
from meshd.core.schedule import (
    Hop,
    Phase,
    held_chunks,
    reduce_hops,
    vote_gather_hops,
)
from meshd.core.slices import Slice, own_regions
from meshd.train.chunk import Chunk, Floats, Words, decode_scale, encode_scale
from meshd.train.collective import Collective, Payload
from meshd.train.errors import RingBrokenError, TrainingError
from meshd.train.optimizer import Matrix, Optimizer, SliceState, SliceVotes, StepRule
from meshd.train.parameters import NetworkParameters


class VotesExchange:
    """One member's side of the exchange, and the slices that it holds."""

    def __init__(
        self,
        collective: Collective,
        parameters: NetworkParameters,
        optimizer: Optimizer,
        copies: int,
    ) -> None:
        self.carried: Floats = np.zeros(parameters.slice_map.padded, np.float32)
        self.states: dict[int, SliceState] = {}
        self.takes_flat_gradient = True
        self._collective = collective
        self._parameters = parameters
        self._optimizer = optimizer
        self._copies = min(copies, collective.size)
        self._gamma = parameters.slice_map.gamma
        self._correction = parameters.segment_correction()
        regions = own_regions(parameters.slice_map, collective.size)
        self._chunks = [Chunk(region, parameters.slice_map) for region in regions]
        self._held = set(held_chunks(collective.rank, collective.size, self._copies))

    def held_slices(self) -> list[int]:
        """Slices whose state this member must have: all dense ones, and the chunks it holds."""
        held = {part.index for part in self._parameters.slice_map.slices if not part.binary}
        for chunk in self._held:
            held.update(part.index for part in self._chunks[chunk].slices)
        return sorted(held)

    def kept_slices(self) -> list[int]:
        """Slices that this member writes into checkpoints: its own and those that it backs up."""
        return sorted(part.index for c in self._held for part in self._chunks[c].slices)

    def begin(self, states: Mapping[int, SliceState], carried: Floats | None) -> None:
        """Take over slice states and, when resuming, this member's carried error (parameters,)."""
        self.states = dict(states)
        if carried is not None:
            self.carried[self._parameters.real_places()] = carried

    def carried_error(self) -> Floats:
        """This member's carried error without padding, float32 (parameters,)."""
        return self.carried[self._parameters.real_places()]

    def step(self, step: int, weight: float) -> None:
        """Exchange `parameters.flat_gradient`, weighted by N b_p / B, and commit the step.

        Raises:
            TrainingError: the gradient is not finite any more.
            RingBrokenError: a neighbour breaks the schedule.
        """
        gradient = self._parameters.flat_gradient
        bits, means = ops.carry_binarize(gradient, self.carried, weight, self._gamma)
        if not bool(np.isfinite(means).all()):
            raise TrainingError(
                f"training diverged at step {step}: the gradient is not finite; lower"
                " training.learning_rate"
            )
        means *= self._correction
        planes, sums = self._reduce(step, bits, means)
        codes = encode_scale(sums / np.float32(self._collective.size))
        shared = self._gather(step, planes, codes)
        ops.carry_settle(self.carried, bits, shared, self._gamma)
        self._parameters.clear_padding(self.carried)
        self._parameters.show()

    def _reduce(self, step: int, bits: Words, means: Floats) -> tuple[Words, Floats]:
        """Reduce-scatter: the own chunk's planes (P, words) and scale sums (segments,)."""
        rank, size = self._collective.rank, self._collective.size
        first = self._chunks[rank if size == 1 else (rank - 1) % size]
        planes, sums = first.words_of(bits)[None, :].copy(), first.segments_of(means)
        for hop in reduce_hops(rank, size, Phase.VOTES):
            chunk = self._chunks[hop.receive_chunk]
            voters = hop.hop + 1
            expected = chunk.vote_bytes(voters)
            payload = self._collective.swap(step, hop, _join(planes, sums), expected)
            planes, sums = chunk.read_votes(payload, voters)
            _count(planes, chunk.words_of(bits))
            sums = sums + chunk.segments_of(means)
        return planes, sums

    def _gather(self, step: int, planes: Words, codes: np.ndarray) -> Floats:
        """All-gather: apply what arrives; return the shared scale of the whole vector."""
        shared = np.zeros(self._parameters.slice_map.padded // self._gamma, np.float32)
        rule = self._optimizer.at(step)
        rank, size = self._collective.rank, self._collective.size
        own = self._chunks[rank]
        own.segments_of(shared)[:] = decode_scale(codes)
        self._apply_votes(own, planes, own.segments_of(shared), rule)
        votes: Payload = _join(planes, codes)
        for hop in vote_gather_hops(rank, size, self._copies):
            sending, chunk = self._chunks[hop.send_chunk], self._chunks[hop.receive_chunk]
            if hop.phase is Phase.GATHER_FINISHED and self._holds(hop.send_chunk):
                votes = self._finished_payload(sending, votes)
            votes = self._collective.swap(step, hop, votes, self._expected(hop, chunk))
            scale = chunk.segments_of(shared)
            if hop.phase is Phase.GATHER_VOTES:
                planes, codes = chunk.read_counts(votes, size)
                scale[:] = decode_scale(codes)
                self._apply_votes(chunk, planes, scale, rule)
            else:
                self._apply_finished(chunk, votes, scale, rule)
        return shared

    def _holds(self, chunk: int) -> bool:
        return chunk in self._held

    def _expected(self, hop: Hop, chunk: Chunk) -> int:
        size = self._collective.size
        if hop.phase is Phase.GATHER_VOTES:
            return chunk.count_bytes(size)
        return chunk.finished_bytes(size)

    def _apply_votes(self, chunk: Chunk, planes: Words, scale: Floats, rule: StepRule) -> None:
        """Update the state of all of a chunk's slices from its counts, and the network."""
        if not _is_scale(scale):
            raise RingBrokenError("the predecessor sent an impossible gradient scale")
        self._update(chunk, chunk.slices, planes, scale, rule)

    def _update(
        self,
        chunk: Chunk,
        parts: Sequence[Slice],
        planes: Words,
        scale: Floats,
        rule: StepRule,
    ) -> None:
        """Move the latents of some of a chunk's slices by its votes, and show them."""
        for part in parts:
            votes = chunk.votes_on(part, planes, scale, self._collective.size)
            try:
                self._move(part, votes, rule)
            except ValueError as error:
                raise RingBrokenError(f"the predecessor sent impossible votes: {error}") from None

    def _move(self, part: Slice, votes: SliceVotes, rule: StepRule) -> None:
        """One slice's step; ValueError when its votes are impossible."""
        state = self.states[part.index]
        if not part.binary:
            rule.move_dense_by_votes(state, votes)
            self._parameters.set_from_latents(part, state.latents)
            return
        columns, beta = part.tensor.columns, part.tensor.beta
        matrix = Matrix(columns, beta, self._parameters.cut_of(part), self._optimizer.clip)
        self._parameters.set_binarized(part, *rule.move_by_votes(state, votes, matrix))

    def _finished_payload(self, chunk: Chunk, votes: Payload) -> bytes:
        """What hops after the last backup carry: dense counts, finished weights, A."""
        planes, codes = chunk.read_counts(memoryview(votes), self._collective.size)
        words, scales = [], []
        for part in chunk.binary_slices:
            part_words, part_scales = self._parameters.packed_of(part)
            words.append(part_words.reshape(-1))
            scales.append(part_scales.reshape(-1).astype(np.float16))
        dense = np.ascontiguousarray(planes[:, : chunk.dense_words])
        return _join(dense, *words, *scales, codes)

    def _apply_finished(
        self, chunk: Chunk, payload: memoryview, scale: Floats, rule: StepRule
    ) -> None:
        """A chunk of which this member holds only the dense slices."""
        finished = chunk.read_finished(payload, self._collective.size)
        scale[:] = decode_scale(finished.codes)
        if not _is_scale(scale):
            raise RingBrokenError("the predecessor sent an impossible gradient scale")
        self._update(chunk, chunk.dense_slices, finished.planes, scale, rule)
        for part, (words, scales) in zip(chunk.binary_slices, finished.weights, strict=True):
            if not _is_scale(scales) or not padding_is_zero(words, part.tensor.columns):
                raise RingBrokenError("the predecessor sent impossible weights")
            self._parameters.set_packed(part, words, scales)


def _is_scale(scale: Floats) -> bool:
    """Whether these can be means of absolute values."""
    return bool((np.isfinite(scale) & (scale >= 0)).all())


def _count(planes: Words, bits: Words) -> None:
    """Add one voter; planes that hold more votes than voters came from a broken peer."""
    try:
        ops.planes_add(planes, bits)
    except ValueError as error:
        raise RingBrokenError(f"the predecessor sent impossible votes: {error}") from None


def _join(*arrays: np.ndarray) -> bytes:
    """One payload out of C-ordered arrays, widest elements first so that each stays aligned."""
    return b"".join(array.data.cast("B") if array.size else b"" for array in arrays)
