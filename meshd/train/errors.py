"""What ends a training run for a reason that a person can act on."""

from __future__ import annotations


class TrainingError(Exception):
    """One line: what is wrong and what to do. `fatal`: no other ring of this job could help."""

    def __init__(self, message: str, *, fatal: bool = True) -> None:
        super().__init__(message)
        self.fatal = fatal


class UnfitJobError(TrainingError):
    """The job file does not fit the data: the user's to mend, before anything is trained."""


class RingBrokenError(Exception):
    """A neighbour sent what the schedule does not expect, or cannot be heard; `blames`: its key."""

    def __init__(self, message: str, blames: str = "") -> None:
        super().__init__(message)
        self.blames = blames


class ReformedError(Exception):
    """The ring has changed: go on from the step that the state has now. Nobody's fault."""
