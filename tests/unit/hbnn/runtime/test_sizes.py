"""What is reported is what is in the file."""

from __future__ import annotations

import json

from meshd.core.network.spec import NetworkSpec
from meshd.hbnn.runtime import model_size_report


def test_a_file_and_its_network(network_of, model_path):
    network = network_of(NetworkSpec(preset="lenet", width=128, beta_w=8, beta_a=8), (1, 28, 28))
    path = model_path(network)
    measured, computed = model_size_report(path), model_size_report(network)
    assert measured.layers == computed.layers
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    assert measured.file_bytes == len(whole) == header + computed.file_bytes
    assert measured.float32_bytes == 4 * (
        sum(p.size for p in network.parameters()) + sum(n for _, n in network.statistics())
    )
    assert measured.ratio == measured.float32_bytes / len(whole)
    report = json.loads(json.dumps(measured.report()))
    assert report["ratio"] == measured.ratio
    assert [la["name"] for la in report["layers"]] == [
        *(p.name for p in network.parameters()),
        *(name for name, _ in network.statistics()),
    ]


def test_the_figures_of_the_presets(network_of):
    """Seed's MLP: 2.2 times with its dense first layer, 25 binary; ResNet-18: 17 times."""
    beta = {"beta_w": 64, "beta_a": 64}
    seed = {"preset": "seed", "width": 1024, **beta}
    dense = model_size_report(network_of(NetworkSpec(**seed), (784,)))
    assert 2.2 < dense.ratio < 2.3 and dense.binary_ratio > 25.5
    binary = model_size_report(network_of(NetworkSpec(**seed, first="binary"), (784,)))
    assert binary.ratio > 25 and all(layer.ratio > 25 for layer in binary.layers)
    resnet = network_of(NetworkSpec(preset="resnet18", **beta), (3, 32, 32))
    assert model_size_report(resnet).ratio > 17
    assert model_size_report(resnet, dense="float16").ratio > 20
