"""What a member of a ring sends: votes and packed weights against a float32 ring all-reduce.

Rings of `meshd.train.collective.local_ring`, the members threads of this process, train a real job
with the exchanges that a mesh uses; every payload is counted where it is sent. A float32 ring sends
2 (N - 1) / N numbers of 32 bits a parameter and step, whatever is in them.

Seconds are computed from the counted bytes and a link's rate, full duplex, nothing else on it: what
the bytes alone cost, without latency and without computing.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from meshd.core.jobspec import JobSpec, parse_spec
from meshd.data.dataset import Dataset
from meshd.data.load import load_dataset
from meshd.reproduce.picture import FLOAT, OURS, panels
from meshd.reproduce.result import Experiment, Figures, Options, Result, Say, Table
from meshd.train.collective import LocalMember, local_ring
from meshd.train.trainer import Evaluated, Trainer

CLAIM = "Reduced communication times for distributed deep learning."
KINDS = {"votes": "votes and packed weights", "float32": "float32 ring"}
LINKS = {"100 Mbit/s": 100e6, "1 Gbit/s": 1e9}
SHOWN_PARAMETERS = 10_000_000  # of the network whose seconds are computed
SEED = 0


@dataclasses.dataclass(frozen=True)
class Protocol:
    """What is trained."""

    members: tuple[int, ...] = (2, 3, 4, 6, 8)
    width: int = 256
    images: int = 6000
    epochs: int = 3
    test_images: int = 2000
    learning_rate: float = 2e-3


QUICK = Protocol((2, 4), 64, 240, 2, 100, 1e-2)


def run(options: Options, say: Say) -> Result:
    """Train with both exchanges on rings of every size."""
    protocol = QUICK if options.quick else Protocol()
    whole = load_dataset(options.data)
    data = dataclasses.replace(
        whole,
        x_train=whole.x_train[: protocol.images],
        y_train=whole.y_train[: protocol.images],
        x_test=whole.x_test[: protocol.test_images],
        y_test=whole.y_test[: protocol.test_images],
    )
    rings = []
    for members in protocol.members:
        for kind in KINDS:
            say(f"{members} members, {kind}")
            rings.append(trained_ring(job(kind, protocol), data, members))
    ratios = [_of(rings, n, "float32") / _of(rings, n, "votes") for n in protocol.members]
    return Result(
        experiment="communication",
        claim=CLAIM,
        finding=(
            f"{_of(rings, protocol.members[0], 'votes'):.1f} to"
            f" {_of(rings, protocol.members[-1], 'votes'):.1f} bits a parameter and step,"
            f" {min(ratios):.0f} to {max(ratios):.0f} times fewer than float32"
        ),
        settings={
            **dataclasses.asdict(protocol),
            "data": Path(options.data).name,
            "job": dataclasses.asdict(job("votes", protocol)),
        },
        seeds=[SEED],
        figures={
            "rings": rings,
            "links_bits_per_s": LINKS,
            "shown_parameters": SHOWN_PARAMETERS,
        },
        table=Table(
            (
                *("MEMBERS", "VOTES BITS", "FLOAT32 BITS", "LESS", "VOTES KB", "FLOAT32 KB"),
                *("100 MBIT/S", "1 GBIT/S", "VOTES %", "FLOAT32 %"),
            ),
            [_row(rings, n) for n in protocol.members],
        ),
        notes=(
            "BITS a parameter and step that the busiest member sends, KB a step: counted in real"
            " training, evaluations included; %: test accuracy after it",
            f"seconds a step for {SHOWN_PARAMETERS // 1_000_000} million parameters (votes /"
            " float32): computed from the bits and the link's rate alone, no latency",
        ),
    )


def job(kind: str, protocol: Protocol) -> JobSpec:
    """The seed's network, all of it binary, so that what is counted is about binary weights."""
    network = {"width": protocol.width, "beta_w": 64, "beta_a": 64, "first": "binary"}
    training = {
        "epochs": protocol.epochs,
        "batch": 120,
        "learning_rate": protocol.learning_rate,
        "seed": SEED,
    }
    exchange = {"kind": kind, "gamma": 256}
    table = {"name": "communication", "network": network, "training": training}
    return parse_spec({**table, "exchange": exchange, "mesh": {"copies": 2}})


def trained_ring(spec: JobSpec, data: Dataset, size: int) -> dict[str, Any]:
    """Train `spec` on a ring of `size` threads: what its busiest member sent, and the accuracy.

    Raises:
        MeshdError: what the first member to fail raised.
    """
    members = local_ring(size)
    failures: queue.Queue[BaseException] = queue.Queue()
    trainers: list[Trainer] = [Trainer(spec, data, member) for member in members]
    accuracies = [0.0] * size

    def work(rank: int, trainer: Trainer, member: LocalMember) -> None:
        torch.set_num_threads(1)  # OpenMP keeps the number for each thread
        try:
            trainer.begin()
            for event in trainer.run():
                if isinstance(event, Evaluated):
                    accuracies[rank] = event.accuracy
        except BaseException as error:
            failures.put(error)
            member.leave()

    threads = [
        threading.Thread(target=work, args=(rank, trainers[rank], member))
        for rank, member in enumerate(members)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not failures.empty():
        raise failures.get()
    steps = trainers[0].steps
    parameters = sum(p.numel() for p in trainers[0].net.parameters())
    sent = max(member.bytes_sent for member in members)
    return {
        "members": size,
        "kind": spec.exchange.kind,
        "steps": steps,
        "parameters": parameters,
        "bytes_a_step": sent / steps,
        "bits_a_parameter_and_step": 8 * sent / steps / parameters,
        "accuracy": accuracies[0],
    }


def _ring(rings: list[dict[str, Any]], members: int, kind: str) -> dict[str, Any]:
    return next(r for r in rings if (r["members"], r["kind"]) == (members, kind))


def _of(rings: list[dict[str, Any]], members: int, kind: str) -> float:
    return float(_ring(rings, members, kind)["bits_a_parameter_and_step"])


def _seconds(bits: float, rate: float) -> float:
    return bits * SHOWN_PARAMETERS / rate


def _row(rings: list[dict[str, Any]], members: int) -> list[str]:
    votes, floats = (_ring(rings, members, kind) for kind in KINDS)
    bits = [ring["bits_a_parameter_and_step"] for ring in (votes, floats)]
    return [
        str(members),
        f"{bits[0]:.2f}",
        f"{bits[1]:.1f}",
        f"{bits[1] / bits[0]:.1f}x",
        *(f"{ring['bytes_a_step'] / 1e3:.0f}" for ring in (votes, floats)),
        *(" / ".join(f"{_seconds(b, rate):.2f} s" for b in bits) for rate in LINKS.values()),
        *(f"{100 * ring['accuracy']:.1f}" for ring in (votes, floats)),
    ]


def draw(figures: Figures) -> Figure:
    """Bits a parameter and step, counted; seconds a step on two links, computed."""
    figure, (bits, seconds) = panels(2)
    colors = {"votes": OURS, "float32": FLOAT}
    shown = figures["shown_parameters"]
    for kind, label in KINDS.items():
        rings = [ring for ring in figures["rings"] if ring["kind"] == kind]
        x = [ring["members"] for ring in rings]
        y = [ring["bits_a_parameter_and_step"] for ring in rings]
        bits.plot(x, y, color=colors[kind], marker="o", label=label)
        for place, value in zip(x, y, strict=True):
            bits.annotate(f"{value:.1f}", (place, value), xytext=(0, 6), textcoords="offset points")
        for style, (link, rate) in zip("-:", figures["links_bits_per_s"].items(), strict=True):
            times = [value * shown / rate for value in y]
            seconds.plot(x, times, style, color=colors[kind], marker="o", label=f"{kind}, {link}")
    limit = [2 * 32 * (n - 1) / n for n in x]
    bits.plot(x, limit, "x", color="black", label="2 (N - 1) / N x 32")
    bits.set(ylabel="bits a parameter and step that a member sends", title="Counted", yscale="log")
    seconds.set(ylabel="seconds a step", yscale="log")
    seconds.set_title(f"Computed: {shown // 1_000_000} million parameters, bandwidth alone")
    bits.set_ylim(1, 200)
    seconds.set_ylim(bottom=2e-3)
    for axes in (bits, seconds):
        axes.set(xlabel="members")
        axes.set_xticks(x)
    bits.legend(loc="center right")
    seconds.legend(ncols=2, loc="lower center", fontsize=9)
    return figure


COMMUNICATION = Experiment("communication", CLAIM, run, draw)
