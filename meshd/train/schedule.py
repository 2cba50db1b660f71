"""The learning rate of every step: a function of the job and the step alone, equal everywhere.

Members that hold the same latents must move them by the same bits, so the rate must have the same
bits on every machine. Python's numbers are float64 and +, -, *, / on them are IEEE 754 operations,
each rounded on its own: whatever is made of these alone is defined to the last bit. The mathematics
library's cos and pow are not, they differ in the last place between libraries. Hence powers are
products, and the cosine is its Taylor polynomial:

    cos(pi x) = sum over k of (-1)^k z^k / (2k)!     z = (pi x)^2, 0 <= x <= 1/2
    cos(pi x) = -cos(pi (1 - x))                     1/2 < x <= 1

With COSINE_TERMS terms the rest is below (pi/2)^24 / 24! = 8e-20, less than float64 resolves.
The rate is rounded to float32 once, where the optimizer takes it.
"""

from __future__ import annotations

from meshd.core.jobspec import TrainingSpec

PI = 3.141592653589793
COSINE_TERMS = 12


def cosine_of_pi(x: float) -> float:
    """cos(pi x) for 0 <= x <= 1, in float64, the same bits on every machine."""
    if x > 0.5:
        return -cosine_of_pi(1.0 - x)
    z = (PI * x) * (PI * x)
    total = 0.0
    for k in range(COSINE_TERMS - 1, 0, -1):  # Horner: each term is the one before times z / ...
        total = (total + 1.0) * (-z / float((2 * k - 1) * (2 * k)))
    return total + 1.0


class LearningRate:
    """The learning rate of a job of `steps` steps, `per_epoch` of them an epoch.

    The rate rises in `warmup` equal stairs to `learning_rate`. From there, with u from 0 at the
    first step after the warm-up to 1 at the last one:

        constant  learning_rate
        linear    falls on a line to final_rate * learning_rate
        cosine    falls on half a cosine to the same
        step      is multiplied by step_factor every step_epochs epochs, warm-up epochs included
    """

    def __init__(self, training: TrainingSpec, steps: int, per_epoch: int) -> None:
        self._training = training
        self._steps = steps
        self._per_epoch = per_epoch

    def at(self, step: int) -> float:
        """Rate of step number `step`, counted from 0."""
        training = self._training
        rate = training.learning_rate * self._share(step)
        if step < training.warmup:
            rate = rate * ((step + 1) / training.warmup)
        return rate

    def _share(self, step: int) -> float:
        """What the schedule leaves of the rate."""
        training = self._training
        if training.schedule == "constant":
            return 1.0
        if training.schedule == "step":
            share = 1.0
            for _ in range(step // self._per_epoch // training.step_epochs):
                share = share * training.step_factor
            return share
        u = max(0, step - training.warmup) / max(1, self._steps - 1 - training.warmup)
        u = min(1.0, u)
        fallen = u if training.schedule == "linear" else 0.5 * (1.0 - cosine_of_pi(u))
        return 1.0 - (1.0 - training.final_rate) * fallen
