"""Model sizes: what every parameter takes in float32, in float16, and in our model file.

A binary parameter of `rows` x `columns` is a bit a weight, each row in whole bytes, and a 16-bit
scale for each segment of beta: 1 + 16 / beta bits a weight, 32 / (1 + 16 / beta) times less
than float32 (25.6 at beta = 64). A dense parameter stays float32. Computed from the shapes that
`meshd.core.network` gives; a model file is just these arrays and a header.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from matplotlib.figure import Figure

from meshd.bits import ops
from meshd.core.network.graph import Parameter, resolve
from meshd.core.network.spec import NetworkDescription, NetworkSpec, Shape
from meshd.reproduce.picture import FLOAT, OURS, SKY, panels
from meshd.reproduce.result import Experiment, Figures, Options, Result, Say, Table

CLAIM = "Reduction of model sizes."
BETA = 64
SHORTER = {"beta_w": 32, "beta_a": 32}
GREY, COLOUR, LARGE = (1, 28, 28), (3, 32, 32), (3, 224, 224)
# Settings of [network], the data's shape, its classes. Segments lie within a tap's channels: beta
# is 64 where it divides them, else 32.
NETWORKS: dict[str, tuple[dict[str, Any], Shape, int]] = {
    "seed's MLP": ({"preset": "seed", "width": 1024}, (784,), 10),
    "seed's MLP, first layer binary": (
        {"preset": "seed", "width": 1024, "first": "binary"},
        (784,),
        10,
    ),
    "LeNet": ({"preset": "lenet", **SHORTER}, GREY, 10),
    "NIN": ({"preset": "nin", **SHORTER}, COLOUR, 10),
    "AlexNet-inspired": ({"preset": "alexnet"}, COLOUR, 10),
    "ResNet-18, 32 pixels": ({"preset": "resnet18"}, COLOUR, 10),
    "ResNet-18, 224 pixels": ({"preset": "resnet18"}, LARGE, 1000),
}
BY_LAYER = "ResNet-18, 32 pixels"


def model_file_bytes(parameter: Parameter) -> int:
    """What a parameter takes in a model file, without the header."""
    if parameter.kind == "dense":
        return 4 * parameter.size
    bits = -(-parameter.columns // 8)
    return parameter.rows * (bits + 2 * ops.segments(parameter.columns, parameter.beta))


def layers_of(parameters: Iterable[Parameter]) -> list[dict[str, Any]]:
    """Name, kind, elements and bytes of every parameter, in order."""
    return [
        {
            "name": parameter.name,
            "kind": parameter.kind,
            "shape": list(parameter.shape),
            "float32": 4 * parameter.size,
            "float16": 2 * parameter.size,
            "ours": model_file_bytes(parameter),
        }
        for parameter in parameters
    ]


def run(options: Options, say: Say) -> Result:
    """Add up every network; nothing is measured."""
    networks: dict[str, Any] = {}
    for name, (settings, shape, classes) in NETWORKS.items():
        say(name)
        spec = NetworkSpec(**{"beta_w": BETA, "beta_a": BETA, **settings})
        layers = layers_of(resolve(NetworkDescription(spec, shape, classes)).parameters())
        totals = {key: sum(layer[key] for layer in layers) for key in ("float32", "float16")}
        parts = {
            kind: [layer for layer in layers if layer["kind"] == kind]
            for kind in ("binary", "dense")
        }
        networks[name] = {
            **totals,
            "beta": spec.beta_w,
            "ours": sum(layer["ours"] for layer in layers),
            "ours_dense": sum(layer["ours"] for layer in parts["dense"]),
            "float32_binary": sum(layer["float32"] for layer in parts["binary"]),
            "ours_binary": sum(layer["ours"] for layer in parts["binary"]),
            "layers": layers,
        }
    rows = [
        [
            name,
            str(sizes["beta"]),
            f"{sizes['float32'] / 1e6:.3f}",
            f"{sizes['float16'] / 1e6:.3f}",
            f"{sizes['ours'] / 1e6:.3f}",
            f"{sizes['float32'] / sizes['ours']:.1f}x",
            f"{sizes['float32_binary'] / sizes['ours_binary']:.1f}x",
            f"{100 * sizes['ours_dense'] / sizes['ours']:.0f} %",
        ]
        for name, sizes in networks.items()
    ]
    binary = [sizes["float32_binary"] / sizes["ours_binary"] for sizes in networks.values()]
    ratios = [sizes["float32"] / sizes["ours"] for sizes in networks.values()]
    return Result(
        experiment="size",
        claim=CLAIM,
        finding=(
            f"binary layers {min(binary):.1f} to {max(binary):.1f} times smaller, whole models"
            f" {min(ratios):.1f} to {max(ratios):.1f} times"
        ),
        settings={"networks": {n: list(v) for n, v in NETWORKS.items()}},
        seeds=[],
        figures={"networks": networks},
        table=Table(
            (
                *("NETWORK", "BETA", "FLOAT32 MB", "FLOAT16 MB", "OURS MB", "SMALLER"),
                *("BINARY LAYERS", "DENSE PART"),
            ),
            rows,
        ),
        notes=(
            "computed from the shapes; first and last layers and normalisation are dense, float32",
            "the seed's MLP stays large where its first layer is dense, as the seed has it: 784 x"
            " 1024 of its 1.86 million weights",
        ),
    )


def draw(figures: Figures) -> Figure:
    """Whole models in three forms, and one network parameter by parameter."""
    figure, (models, layers) = panels(2)
    networks = figures["networks"]
    places = range(len(networks))
    forms = (("float32", FLOAT), ("float16", SKY), ("ours", OURS))
    for row, (form, color) in enumerate(forms):
        widths = [sizes[form] / 1e6 for sizes in networks.values()]
        offset = 0.27 * (row - 1)
        models.barh([p + offset for p in places], widths, 0.25, color=color, label=form)
    for place, sizes in zip(places, networks.values(), strict=True):
        models.annotate(
            f"{sizes['float32'] / sizes['ours']:.1f}x smaller",
            (sizes["ours"] / 1e6, place + 0.27),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    models.set_yticks(list(places), list(networks))
    models.invert_yaxis()
    models.set(xlabel="MB", xscale="log", title="Whole models")
    models.grid(visible=False, axis="y")
    chosen = [layer for layer in networks[BY_LAYER]["layers"] if len(layer["shape"]) > 1]
    for form, color in forms:
        sizes = [layer[form] / 1e3 for layer in chosen]
        layers.plot(range(1, len(chosen) + 1), sizes, color=color, marker="o", markersize=4)
    dense = [i for i, layer in enumerate(chosen, 1) if layer["kind"] == "dense"]
    for place in dense:
        layers.axvspan(place - 0.5, place + 0.5, color="#000000", alpha=0.07, linewidth=0)
    layers.set(xlabel="weight matrix, from first to last (shaded: dense)", ylabel="kB")
    layers.set(yscale="log", title=BY_LAYER)
    figure.legend(*models.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


SIZE = Experiment("size", CLAIM, run, draw)
