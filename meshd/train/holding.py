"""What one member holds of a job: slices' states, the network, and the step that is running.

The numbers of `meshd.core.ring.holding`, as far as all exchanges share them. Nothing of a running
step touches the state: what is decided goes into copies and waits in `Staged`; `commit` puts them
in place, `abort` drops them. So any step can be undone at any time, exactly.

A member holds the latents and moments of *its* slices, and of all others only what the network
computes with: packed weights of binary slices, and dense ones as every member holds them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from meshd.core.ring.agreement import Cargo, Plan
from meshd.core.ring.layout import Layout, cut_buckets, lay_out
from meshd.core.ring.plan import Shape
from meshd.core.ring.replica import BadPayloadError, Payload
from meshd.core.ring.route import Route
from meshd.core.ring.watch import DIGEST_BYTES, Digests
from meshd.core.slices import Slice
from meshd.train import state_bytes
from meshd.train.delta import PackedSlice
from meshd.train.errors import TrainingError
from meshd.train.optimizer import Matrix, Optimizer, SliceState, StepRule
from meshd.train.parameters import Floats, NetworkParameters, Words
from meshd.train.statistics import RunningStatistics

Packed = tuple[Words, Floats]


@dataclass
class Staged:
    """A running step's results, or those of the last committed one."""

    states: dict[int, SliceState] = field(default_factory=dict)
    """Slice -> its new state."""
    packed: dict[int, Packed] = field(default_factory=dict)
    """Binary slice -> its new words and scales."""
    decisions: dict[int, Payload] = field(default_factory=dict)
    """Chunk -> its decision, where one came or was made here."""
    finished: dict[int, Payload] = field(default_factory=dict)
    """Chunk -> what was finished, as it came or was sent."""
    flips: int = 0
    """Signs of weights that differ from before in what was finished here."""


class SliceHolding:
    """One member's state; exchanges add what their payloads mean (`Replica`)."""

    direct = False
    """Whether partial results go straight to owners."""

    def __init__(
        self,
        parameters: NetworkParameters,
        optimizer: Optimizer,
        statistics: RunningStatistics,
        copies: int,
    ) -> None:
        self.states: dict[int, SliceState] = {}
        """State of each slice that is held here."""
        self.parameters = parameters
        self.optimizer = optimizer
        self.statistics = statistics
        self.copies = copies
        self.slices = parameters.slice_map.slices
        self.buckets = cut_buckets(parameters.slice_map)
        self.step = 0
        """Number of the step that runs, or is to be run next."""
        self.weight = 1.0
        """This member's part of the batch, 0..1: what its gradient is multiplied by."""
        self.staged = Staged()
        self.before = Staged()
        self.layout: Layout | None = None
        self.members = 1
        self._kept = frozenset(range(len(self.slices)))

    # --- what the captain knows ------------------------------------------------------------------

    def shared(self, part: Slice) -> bool:
        """Whether every member holds this slice's state."""
        return not part.binary

    def carries(self) -> bool:
        """Whether this exchange has a carried error."""
        return True

    def shape(self) -> Shape:
        """The job's slices for those who plan its rings."""
        words = 1 + self.optimizer.moments
        return Shape(
            sizes=tuple(4 * words * part.size for part in self.slices),
            buckets=self.buckets,
            weights=tuple(0 if self.shared(part) else part.size // 8 + 1 for part in self.slices),
            copies=self.copies,
            statistics=self.statistics.size > 0,
            carries=self.carries(),
        )

    def lay_out(self, plan: Plan, rank: int) -> Route:
        """A step of this ring begins: its chunks."""
        self.layout = lay_out(plan, rank, self.buckets, self.direct)
        self.members = len(plan.order)
        return self.layout.route

    def kept(self, plan: Plan, rank: int) -> list[int]:
        """Slices that a member writes into checkpoints: as if none were everybody's."""
        size, copies = len(plan.order), min(plan.copies, len(plan.order))
        return [i for i, owner in enumerate(plan.owners) if (rank - owner) % size < copies]

    def parts(self, chunk: int) -> list[Slice]:
        """The slices of a chunk of the present ring."""
        assert self.layout is not None  # noqa: S101 - a step has begun
        return [self.slices[index] for index in self.layout.chunks[chunk]]

    # --- beginning -------------------------------------------------------------------------------

    def begin(self, states: Mapping[int, SliceState]) -> None:
        """Start from these slices' states; the network shows them already."""
        self.states = dict(states)
        self._kept = frozenset(states)

    def held(self) -> tuple[int, ...]:
        """As `Holding.held`."""
        return tuple(sorted(self.states))

    def going(self) -> tuple[int, ...]:
        """As `Holding.going`."""
        return tuple(sorted(self.states.keys() - self._kept))

    def forget(self) -> None:
        """As `Holding.forget`."""
        self.states.clear()
        self.staged, self.before = Staged(), Staged()

    def adopt(self, held: tuple[int, ...]) -> None:
        """As `Holding.adopt`."""
        missing = set(held) - self.states.keys()
        if missing:
            raise BadPayloadError(f"slices {sorted(missing)} did not come")
        self._kept = frozenset(held)

    # --- a step's parts: what payloads mean is the exchange's -------------------------------------

    def open(self, bucket: int) -> None:
        """As `Replica.open`."""
        raise NotImplementedError

    def own(self, chunk: int) -> Payload:
        """As `Replica.own`."""
        raise NotImplementedError

    def add(self, chunk: int, payload: Payload, voters: int) -> Payload:
        """As `Replica.add`."""
        raise NotImplementedError

    def merge(self, chunk: int, total: Payload, voters: int, part: Payload) -> Payload:
        """As `Replica.merge`."""
        raise NotImplementedError

    def decide(self, chunk: int, payload: Payload) -> Payload:
        """As `Replica.decide`."""
        raise NotImplementedError

    def take_decision(self, chunk: int, payload: Payload) -> None:
        """As `Replica.take_decision`."""
        raise NotImplementedError

    def finished(self, chunk: int) -> Payload:
        """As `Replica.finished`."""
        raise NotImplementedError

    def take_finished(self, chunk: int, payload: Payload) -> None:
        """As `Replica.take_finished`."""
        raise NotImplementedError

    def past(self, chunk: int, decided: bool) -> Payload:
        """As `Holding.past`."""
        raise NotImplementedError

    # --- a step's results ------------------------------------------------------------------------

    def stage_move(self, part: Slice, move: StepRule, by: object) -> None:
        """Move a copy of a slice's state; exchanges say by what (`_apply`)."""
        old = self.states.get(part.index)
        if old is None:
            raise BadPayloadError(f"a decision on slice {part.index}, which is not held here")
        state = SliceState(old.latents.copy(), tuple(moment.copy() for moment in old.moments))
        packed = self._apply(part, state, move, by)
        self.staged.states[part.index] = state
        if packed is not None:
            words, scales = packed
            self.staged.packed[part.index] = words, self.parameters.rounded(part, scales)

    def _apply(self, part: Slice, state: SliceState, move: StepRule, by: object) -> Packed | None:
        """Move `state` in place; returns the new binarized weights of a binary slice."""
        raise NotImplementedError

    def matrix(self, part: Slice) -> Matrix:
        """How a binary slice's latents stand."""
        columns, beta = part.tensor.columns, part.tensor.beta
        return Matrix(columns, beta, self.parameters.cut_of(part), self.optimizer.clip)

    def packed_slice(self, part: Slice, packed: Packed) -> PackedSlice:
        """Words and scales as they travel."""
        words, scales = packed
        return PackedSlice(words, scales.astype(np.float16).view(np.uint16), part.tensor.columns)

    def commit(self) -> None:
        """As `Replica.commit`: states and weights take their place."""
        for part in self.slices:
            staged = self.staged.states.get(part.index)
            if staged is not None and not part.binary:
                self.parameters.set_from_latents(part, staged.latents)
            if part.index in self.staged.packed:
                self.parameters.set_packed(part, *self.staged.packed[part.index])
        moved = self.staged.states
        self.states = {index: moved[index] for index in sorted(moved) if index in self._kept}
        self.parameters.show()
        self.before, self.staged = self.staged, Staged()
        self.step += 1

    def abort(self) -> None:
        """As `Replica.abort`."""
        self.staged = Staged()

    # --- the watch -------------------------------------------------------------------------------

    def digests(self) -> Digests:
        """What is here after the committed steps: of all weights, and of each slice's state."""
        found = hashlib.blake2b(digest_size=DIGEST_BYTES)
        for part in self.slices:
            if part.binary:
                for array in self.parameters.packed_of(part):
                    found.update(np.ascontiguousarray(array).data)
            else:
                found.update(self.states[part.index].latents.data)
        return Digests(found.digest(), {i: self.digest(s) for i, s in self.states.items()})

    def digest(self, state: SliceState) -> bytes:
        """Of one slice's state, as far as all its holders have it alike."""
        found = hashlib.blake2b(state.latents.data, digest_size=DIGEST_BYTES)
        for moment in state.moments:
            found.update(moment.data)
        return found.digest()

    # --- state that moves ------------------------------------------------------------------------

    def load(self, cargo: Cargo, index: int) -> Payload:
        """As `Holding.load`."""
        if cargo is Cargo.SLICE:
            return state_bytes.pack_state(self.states[index])
        if cargo is Cargo.WEIGHTS:
            part = self.slices[index]
            return state_bytes.pack_weights(
                self.packed_slice(part, self.parameters.packed_of(part))
            )
        if cargo is Cargo.STATISTICS:
            return self.statistics.vector().tobytes()
        return self.hand_over(index)

    def store(self, cargo: Cargo, index: int, payload: Payload) -> None:
        """As `Holding.store`."""
        if cargo is Cargo.SLICE:
            part = self.slices[index]
            state = state_bytes.unpack_state(payload, part.size, self.optimizer.moments)
            if not self.optimizer.is_possible(state):
                raise BadPayloadError("moments that cannot be")
            try:
                self.parameters.set_from_latents(part, state.latents)
            except TrainingError:  # the sender's network would have shown it before
                raise BadPayloadError("latents beyond what weights can be") from None
            self.states[index] = state
        elif cargo is Cargo.WEIGHTS:
            part = self.slices[index]
            like = self.packed_slice(part, self.parameters.packed_of(part))
            came = state_bytes.unpack_weights(payload, like)
            scales = came.codes.view(np.float16).astype(np.float32)
            self.parameters.set_packed(part, came.words, scales)
        elif cargo is Cargo.STATISTICS:
            vector = state_bytes.unpack_floats(payload, self.statistics.size)
            if not self.statistics.are_possible(vector):
                raise BadPayloadError("running statistics that are impossible")
            self.statistics.load(vector)
        else:
            self.take_over(index, payload)
        self.parameters.show()

    def carried_error(self) -> Floats:
        """What this member could not say yet, float32 (parameters,); (0,) if nothing is carried."""
        return np.zeros(0, np.float32)

    def set_carried(self, carried: Floats) -> None:
        """Resume with this carried error."""
        if carried.size:
            raise ValueError("a carried error where nothing is carried")

    def hand_over(self, index: int) -> Payload:
        """A leaver's carried error on a slice, which is gone from here then."""
        return b""

    def take_over(self, index: int, payload: Payload) -> None:
        """A leaver's carried error on a slice comes here."""
        if len(payload):
            raise BadPayloadError("a carried error where nothing is carried")
