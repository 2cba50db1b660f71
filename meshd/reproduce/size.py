"""Model sizes: what every parameter takes in float32, in float16, and in our model file.

A binary parameter is a bit a weight, each row in whole bytes, and a 16-bit scale for each segment
of beta: 1 + 16 / beta bits a weight, 32 / (1 + 16 / beta) times less than float32 (25.6 at beta =
64). Dense matrices stay float32, or are stored as float16; vectors and running statistics are
float32. Computed by `meshd.hbnn.runtime.sizes`, without a file's header.
"""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from meshd.core.network.graph import Network, resolve
from meshd.core.network.spec import NetworkDescription, NetworkSpec, Shape
from meshd.hbnn.runtime.sizes import model_size_report
from meshd.reproduce.picture import FLOAT, GREEN, OURS, SKY, panels
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
# Form -> label and colour; of ours, how dense matrices are stored.
FORMS = {
    "float32": ("float32", FLOAT),
    "float16": ("float16", SKY),
    "ours": ("ours", OURS),
    "ours16": ("ours, dense float16", GREEN),
}
FILES = {"ours": "float32", "ours16": "float16"}
BY_LAYER = "ResNet-18, 32 pixels"


def layers_of(network: Network) -> list[dict[str, Any]]:
    """Name, kind, shape and bytes in each form of every parameter and statistic, in order."""
    shapes = {parameter.name: list(parameter.shape) for parameter in network.parameters()}
    files = [model_size_report(network, dense).layers for dense in FILES.values()]
    return [
        {
            "name": layer.name,
            "kind": layer.kind,
            "shape": shapes.get(layer.name, [layer.elements]),
            "float32": layer.float32_bytes,
            "float16": layer.float32_bytes // 2,
            **{
                form: stored.file_bytes
                for form, stored in zip(FILES, [layer, *others], strict=True)
            },
        }
        for layer, *others in zip(*files, strict=True)
    ]


def run(options: Options, say: Say) -> Result:
    """Add up every network; nothing is measured."""
    networks: dict[str, Any] = {}
    for name, (settings, shape, classes) in NETWORKS.items():
        say(name)
        spec = NetworkSpec(**{"beta_w": BETA, "beta_a": BETA, **settings})
        layers = layers_of(resolve(NetworkDescription(spec, shape, classes)))
        binary = [layer for layer in layers if layer["kind"] == "binary"]
        networks[name] = {
            "beta": spec.beta_w,
            **{form: sum(layer[form] for layer in layers) for form in FORMS},
            "binary": {form: sum(layer[form] for layer in binary) for form in FORMS},
            "layers": layers,
        }
    packed = [sizes["binary"]["float32"] / sizes["binary"]["ours"] for sizes in networks.values()]
    halved = [sizes["float32"] / sizes["ours16"] for sizes in networks.values()]
    ratios = [sizes["float32"] / sizes["ours"] for sizes in networks.values()]
    rows = [
        [
            name,
            str(sizes["beta"]),
            *(f"{sizes[form] / 1e6:.3f}" for form in FORMS),
            *(f"{ratio[place]:.1f}x" for ratio in (ratios, halved, packed)),
        ]
        for place, (name, sizes) in enumerate(networks.items())
    ]
    return Result(
        experiment="size",
        claim=CLAIM,
        finding=(
            f"binary layers {min(packed):.1f} to {max(packed):.1f} times smaller, whole models"
            f" {min(ratios):.1f} to {max(ratios):.1f} times, {min(halved):.1f} to"
            f" {max(halved):.1f} with dense matrices as float16"
        ),
        settings={"networks": {n: list(v) for n, v in NETWORKS.items()}},
        seeds=[],
        figures={"networks": networks},
        table=Table(
            (
                *("NETWORK", "BETA", "FLOAT32 MB", "FLOAT16 MB", "OURS MB", "DENSE FLOAT16 MB"),
                *("SMALLER", "DENSE FLOAT16", "BINARY LAYERS"),
            ),
            rows,
        ),
        notes=(
            "computed from the shapes; first and last layers and normalisation are dense",
            "the seed's MLP stays large where its first layer is dense, as the seed has it: 784 x"
            " 1024 of its 1.86 million weights",
        ),
    )


def draw(figures: Figures) -> Figure:
    """Whole models in three forms, and one network parameter by parameter."""
    figure, (models, layers) = panels(2)
    networks = figures["networks"]
    places = range(len(networks))
    for row, (form, (label, color)) in enumerate(FORMS.items()):
        widths = [sizes[form] / 1e6 for sizes in networks.values()]
        offset = 0.21 * (row - 1.5)
        models.barh([p + offset for p in places], widths, 0.2, color=color, label=label)
    for place, sizes in zip(places, networks.values(), strict=True):
        models.annotate(
            f"{sizes['float32'] / sizes['ours']:.1f}x, {sizes['float32'] / sizes['ours16']:.1f}x",
            (sizes["ours"] / 1e6, place + 0.21),
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
    for form, (_, color) in FORMS.items():
        sizes = [layer[form] / 1e3 for layer in chosen]
        layers.plot(range(1, len(chosen) + 1), sizes, color=color, marker="o", markersize=4)
    dense = [i for i, layer in enumerate(chosen, 1) if layer["kind"] == "dense"]
    for place in dense:
        layers.axvspan(place - 0.5, place + 0.5, color="#000000", alpha=0.07, linewidth=0)
    layers.set(xlabel="weight matrix, from first to last (shaded: dense)", ylabel="kB")
    layers.set(yscale="log", title=BY_LAYER)
    figure.legend(*models.get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


SIZE = Experiment("size", CLAIM, run, draw)
