"""The exchange of bits: exact votes in bit planes one way, binarized weights the other.

One step, for member p of N with share b_p of the batch B (docs/algorithm.md has the derivation):

    v_p  = g_p b_p / B + e_p              e_p: what earlier steps could not say
    bits = v_p >= 0,  a_p = mean |v_p|    over gradient segments of gamma
    reduce:  V = number of members whose bit is 1, m = mean of a_p, rounded at each hop
    A    = m as the owner has it          one byte, so everyone has the same
    update with A (2 V - N)               owner and backups; dense slices: everyone
    e_p  = v_p - A sign(v_p)              exact: it is the A that was applied

In these units the carried errors of all members and what they sent add up to their gradients, also
when members come and go: nothing depends on N. The scale travels beside the votes (adr/0002), in
one byte (adr/0018): nobody needs A before the step ends.
"""

from __future__ import annotations

import numpy as np

from meshd.bits import ops
from meshd.core.ring.replica import BadPayloadError, Payload
from meshd.train.carried import CarryingHolding
from meshd.train.parameters import Words
from meshd.train.scale_code import decode_scales, encode_scales, mean_with


class VotesHolding(CarryingHolding):
    """One member's side of the exchange of votes."""

    # --- this member's part ----------------------------------------------------------------------

    def own(self, chunk: int) -> Payload:
        """As `Replica.own`."""
        own = self._chunks[chunk]
        codes = encode_scales(own.segments_of(self._means))
        return own.pack(own.bits_of(self._bits)[None, :], codes)

    def add(self, chunk: int, payload: Payload, voters: int) -> Payload:
        """As `Replica.add`."""
        own = self._chunks[chunk]
        planes, codes = own.unpack(payload, voters, room=1)
        _count(planes, own.bits_of(self._bits))
        mean = mean_with(codes, own.segments_of(self._means), voters + 1)
        return own.pack(planes, encode_scales(mean))

    def merge(self, chunk: int, total: Payload, voters: int, part: Payload) -> Payload:
        """As `Replica.merge`."""
        own = self._chunks[chunk]
        planes, codes = own.unpack(total, voters, room=1)
        bits, other = own.unpack(part, 1)
        _count(planes, bits[0])
        mean = mean_with(codes, decode_scales(other), voters + 1)
        return own.pack(planes, encode_scales(mean))

    # --- results ---------------------------------------------------------------------------------

    def decide(self, chunk: int, payload: Payload) -> Payload:
        """As `Replica.decide`: the partial result of all is the decision."""
        self.take_decision(chunk, payload)
        return payload

    def take_decision(self, chunk: int, payload: Payload) -> None:
        """As `Replica.take_decision`."""
        own = self._chunks[chunk]
        planes, codes = own.unpack(payload, self.members)
        scale = decode_scales(codes)
        self._move(own, planes, scale * np.float32(self.members), self.members)
        self._settle(own.runs, scale)
        self.staged.decisions[chunk] = payload


class DirectHolding(VotesHolding):
    """Votes that go straight to the owners, for switched networks."""

    direct = True


def _count(planes: Words, bits: Words) -> None:
    """Add one voter; planes that hold more votes than voters came from a broken peer."""
    try:
        ops.planes_add(planes, np.ascontiguousarray(bits))
    except ValueError as error:
        raise BadPayloadError(f"impossible votes: {error}") from None
