"""The experiments by name. Law: what measures is loaded when it is asked for, not before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshd.reproduce.result import Experiment


@dataclass(frozen=True)
class Entry:
    """What a person reads before choosing. takes: time on one core of a desktop processor."""

    shows: str
    takes: str


CATALOGUE: Mapping[str, Entry] = {
    "accuracy": Entry("HBNN, sign-only BNN and float32 on Fashion-MNIST, 5 epochs", "25 min"),
    "activations": Entry("bits that training keeps of an activation", "1 s"),
    "angle": Entry("a binarized random vector stays within 37.07 degrees of itself", "15 s"),
    "communication": Entry("what a ring's members send: votes against float32", "1 min"),
    "histograms": Entry("weights of HBNN and BNN after training, beside float32's", "6 min"),
    "matmul": Entry("packed products against CMMA, MKL and oneDNN, 256 to 4096", "2 min"),
    "im2col": Entry("bytes and time of packed im2col against float32's", "20 s"),
    "size": Entry("model sizes of every preset, layer by layer", "1 s"),
}


def find(name: str) -> Experiment:
    """The experiment of that name, loaded; KeyError if there is none."""
    from meshd.reproduce import (
        accuracy,
        activations,
        angle,
        communication,
        histograms,
        im2col,
        matmul,
        size,
    )

    every = (
        *(
            accuracy.ACCURACY,
            activations.ACTIVATIONS,
            angle.ANGLE,
            communication.COMMUNICATION,
            histograms.HISTOGRAMS,
        ),
        *(matmul.MATMUL, im2col.IM2COL, size.SIZE),
    )
    return {experiment.name: experiment for experiment in every}[name]
