"""The exchange of one bit: at each hop the sum so far is said in bits, what is lost stays there.

Chunk c goes round the ring through members 1..N, the owner last. With v_k as in `votes`, the
gradient's part of member k plus what it carries, and Q(x) = A sign(x), A = mean |x| over segments
of gamma, rounded to a byte (`scale_code`):

    t_1 = v_1                 s_1 = Q(t_1)      e_1 = t_1 - s_1
    t_k = s_(k-1) + v_k       s_k = Q(t_k)      e_k = t_k - s_k

s_k travels as bits and codes, e_k stays with member k as what it carries. Each member handles each
chunk once in a step, so the sums telescope:

    sum v_k = sum (t_k - s_(k-1)) = sum (e_k + s_k - s_(k-1)) = sum e_k + s_N        s_0 = 0

s_N is the decision: what was wanted is said by it or carried by somebody, whatever N is. v is not
divided by N, so s_N approximates the gradient of the whole batch. In float32, t_k and e_k are each
rounded once (s_k is exactly what travels), so the balance holds to 2^-24 of the largest of them.

One bit each way: (N - 1) / N for the sums, (copies - 1) / N for backups, 1 / gamma of that in
scales' bytes, and the finished weights (error feedback: Seide et al., "1-bit stochastic gradient
descent", Interspeech 2014, there without a ring; a hop's error kept at the hop is this design's).

Nobody needs a decision's scale to know its own error, so what is finished is weights alone; the
error of a step is staged in place of v and is the carried one with the commit.
"""

from __future__ import annotations

from meshd.bits import ops
from meshd.core.ring.replica import Payload
from meshd.train.carried import CarryingHolding
from meshd.train.chunk import Chunk
from meshd.train.scale_code import decode_scales, encode_scales


class OnebitHolding(CarryingHolding):
    """One member's side of the exchange of one bit."""

    def own(self, chunk: int) -> Payload:
        """As `Replica.own`: Q(v), where the chunk's way begins."""
        return self._say(self._chunks[chunk])

    def add(self, chunk: int, payload: Payload, voters: int) -> Payload:
        """As `Replica.add`: Q of what arrived plus v."""
        own = self._chunks[chunk]
        planes, codes = own.unpack(payload, 1)
        scales = decode_scales(codes)[None, :]
        arrived = ops.unpack_signed(planes, scales, self._gamma, own.length)[0]
        for start, stop in own.padding:
            arrived[start:stop] = 0.0  # a bit is never 0: in means it would count
        at = 0
        for start, stop in own.runs:
            segments = slice(start // self._gamma, stop // self._gamma)
            ops.carry_binarize(
                arrived[at : at + stop - start],
                self._wanted[start:stop],
                1.0,
                self._gamma,
                out_bits=self._bits[start // 64 : stop // 64],
                out_means=self._means[segments],
            )
            self._means[segments] *= self._correction[segments]
            at += stop - start
        return self._say(own)

    def _say(self, own: Chunk) -> bytes:
        """s = Q(t) as a payload, of the sum t that lies in place of v; e = t - s in its place."""
        codes = encode_scales(own.segments_of(self._means))
        self._settle(own.runs, decode_scales(codes))
        return own.pack(own.bits_of(self._bits)[None, :], codes)

    def decide(self, chunk: int, payload: Payload) -> Payload:
        """As `Replica.decide`: s_N is the decision."""
        self.take_decision(chunk, payload)
        return payload

    def take_decision(self, chunk: int, payload: Payload) -> None:
        """As `Replica.take_decision`: A sign is A (2 V - 1) of a single voter."""
        own = self._chunks[chunk]
        planes, codes = own.unpack(payload, 1)
        self._move(own, planes, decode_scales(codes), 1)
        self.staged.decisions[chunk] = payload

    def _said(self, own: Chunk, decision: Payload) -> bytes:
        return b""

    def _said_length(self, own: Chunk) -> int:
        return 0

    def _take_said(self, own: Chunk, said: Payload) -> None:
        pass
