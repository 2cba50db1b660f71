"""Exchanges with `local_steps = H`: the ring says how latents changed in H steps, not gradients.

Every member holds everything. A round is a step of the ring, and H steps of the optimizer:

    w_p = w                       all members begin with the same latents, the reference
    H times:  w_p <- step(w_p)    on a batch of its own, with moments of its own
    v_p = (w_p - w) b_p / B + e_p
    the ring decides D = what the exchange makes of all v_p; e_p = v_p - what was said of it
    w   <- w + D                  at the commit; the new reference, and what members go on from

sum v_p = D + sum e_p, as in the exchange below (`votes`, `direct`, `onebit`), whose payloads these
are: D has the units of latents instead of a gradient's, and is added instead of given to an
optimizer. Everybody takes the decision, so nobody needs finished weights. Moments stay where they
are: they are sums over a member's own gradients, which differ little in H steps, and a newcomer's
are a copy of another member's (local SGD with compressed changes: Basu et al., "Qsparse-local-SGD",
NeurIPS 2019).

Law: until the commit a round touches copies only, `self._own`, and what the network shows. Undone
is a round by `abort`, which shows the reference again; a new one begins with new copies.
"""

from __future__ import annotations

import numpy as np

from meshd.bits import ops
from meshd.core.slices import Slice
from meshd.train.carried import CarryingHolding
from meshd.train.holding import Packed
from meshd.train.onebit import OnebitHolding
from meshd.train.optimizer import SliceState, SliceVotes, StepRule, binarized
from meshd.train.parameters import Floats
from meshd.train.votes import DirectHolding, VotesHolding


class LocalSteps(CarryingHolding):
    """One member's side; joined with an exchange that says what v is in bits.

    `states` are the reference and this member's own moments, equal to the ring's at every commit.
    """

    _own: dict[int, SliceState]
    _taken = 0

    def shared(self, part: Slice) -> bool:
        """Every slice is everybody's."""
        return True

    # --- local steps -----------------------------------------------------------------------------

    def begin_round(self) -> None:
        """From the reference on; whatever an undone round left is forgotten."""
        self._own = {index: _copied(state) for index, state in self.states.items()}
        self.show_reference()

    def step_alone(self, number: int) -> None:
        """Move this member's own latents by the gradients that lie in the parameters.

        `number`: of the optimizer's step, over all rounds.

        Raises:
            TrainingError: the gradient is not finite any more.
        """
        self._taken = number
        rule = self.optimizer.at(number)
        whole = self.parameters.take_gradients()
        for part in self.slices:
            state, gradient = self._own[part.index], whole[part.tensor.name][part.start : part.stop]
            if part.binary:
                words, scales = rule.move(state, gradient, self.matrix(part))
                self.parameters.set_binarized(part, words, scales)
            else:
                rule.move_dense(state, gradient)
                self.parameters.set_from_latents(part, state.latents)
        self.parameters.show()

    def show_reference(self) -> None:
        """Let the network compute with what the ring agreed on last."""
        for index, state in self.states.items():
            self.parameters.set_from_latents(self.slices[index], state.latents)
        self.parameters.show()

    # --- the exchange's parts --------------------------------------------------------------------

    def _want(self, start: int, stop: int, out: Floats) -> None:
        """The change of a range's latents, as far as it is this member's."""
        for part in self.slices:
            if not start <= part.offset < stop:
                continue
            place = out[part.offset - start : part.offset - start + part.padded]
            np.subtract(
                self._own[part.index].latents,
                self.states[part.index].latents,
                out=place[: part.size],
            )
            place[: part.size] *= np.float32(self.weight)
            place[part.size :] = 0.0

    def _rule(self) -> StepRule:
        """Of the round's last step; the decision is added without one."""
        return self.optimizer.at(self._taken)

    def _apply(self, part: Slice, state: SliceState, move: StepRule, by: object) -> Packed | None:
        assert isinstance(by, SliceVotes)  # noqa: S101 - as `_move` calls it
        planes = np.ascontiguousarray(by.planes)
        state.latents += ops.apply_votes(planes, by.members, by.scale, by.gamma, part.size)
        state.moments = self._own[part.index].moments
        return binarized(state, self.matrix(part)) if part.binary else None

    def digest(self, state: SliceState) -> bytes:
        """As `SliceHolding.digest`: moments are each member's own."""
        return super().digest(SliceState(state.latents, ()))

    def abort(self) -> None:
        """As `Replica.abort`."""
        super().abort()
        self.show_reference()


class LocalVotesHolding(LocalSteps, VotesHolding):
    """Changes as counts of votes, also on the way back."""


class LocalDirectHolding(LocalSteps, DirectHolding):
    """Changes as votes that go straight to the owners."""


class LocalOnebitHolding(LocalSteps, OnebitHolding):
    """Changes in one bit a hop."""


def _copied(state: SliceState) -> SliceState:
    return SliceState(state.latents.copy(), tuple(moment.copy() for moment in state.moments))
