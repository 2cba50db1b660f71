"""The ONNX graph, run by onnxruntime, gives what the runtime gives."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto

from meshd.core.network.spec import NetworkSpec
from meshd.hbnn.runtime import Model, ModelError, onnx_graph
from meshd.hbnn.runtime.model_file import Header, weight_hash
from meshd.hbnn.runtime.onnx_graph import onnx_model

SEED = 20_261_123
SCALE = float(np.float32(1 / 255))


def logits(model: ModelProto, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    assert session.get_inputs()[0].shape == ["batch", *x.shape[1:]]
    return session.run(["logits"], {"input": x})[0]


def assert_same(network, weights, x, scale=1.0) -> None:
    header = Header(network, scale=scale, class_names=(), weight_hash=weight_hash(network, weights))
    model = onnx_model(header, weights)
    for samples in (x, x[:1]):  # the batch is dynamic
        ours = Model(header, weights, threads=1).logits(samples)
        theirs = logits(model, samples)
        top = np.abs(ours).max()
        assert np.abs(ours - theirs).max() <= 0.02 * top
        assert (np.abs(ours - theirs) <= 1e-4 * top).mean() >= 0.99
    assert np.array_equal(Model(header, weights).predict(x), logits(model, x).argmax(1))


@pytest.mark.parametrize("first", ["dense", "binary"])
@pytest.mark.parametrize(
    ("preset", "width", "shape", "beta"),
    [
        ("seed", 128, (784,), 24),  # the last segment is shorter
        ("lenet", 256, (1, 28, 28), 8),
        ("convnet", 16, (1, 28, 28), 16),
        ("nin", 96, (3, 32, 32), 16),
        ("alexnet", 8, (3, 32, 32), 8),
        ("resnet18", 8, (3, 32, 32), 8),
    ],
)
def test_presets(preset, width, shape, beta, first, network_of, weights_of):
    spec = NetworkSpec(preset=preset, width=width, beta_w=beta, beta_a=beta, first=first)
    network = network_of(spec, shape)
    x = np.random.default_rng(SEED).integers(0, 256, (40, *shape)).astype(np.float32)
    assert_same(network, weights_of(network, SEED), x, SCALE)


@pytest.mark.parametrize("coding", ["signed", "unipolar"])
@pytest.mark.parametrize("beta_a", [1, 4, 1 << 20])
@pytest.mark.parametrize(("kernel", "padding", "stride"), [(3, 1, 2), (1, 0, 1), (2, 1, 1)])
def test_convolutions(coding, beta_a, kernel, padding, stride, network_of, weights_of):
    window = {"out": 6, "kernel": kernel, "padding": padding, "stride": stride}
    binary = {"coding": coding, "beta_a": beta_a, "beta_w": 4, "gain": True, "bias": True}
    tables = [
        {"layer": "hadamard_conv", **window, **binary},
        {"layer": "binarize", "beta": 4, "coding": coding},
        {"layer": "hardtanh"},
        {"layer": "flatten"},
        {"layer": "dropout"},
        {"layer": "hadamard_linear", **binary, "beta_w": 7},
    ]
    network = network_of(tables, (8, 7, 6), 5)
    x = np.random.default_rng(SEED).standard_normal((12, 8, 7, 6), np.float32)
    assert_same(network, weights_of(network, SEED), x)


def test_the_graph_says_whose_it_is(network_of, weights_of):
    network = network_of(NetworkSpec(preset="seed", width=8), (6,), 2)
    header = Header(network, class_names=("no", "yes"), weight_hash="h")
    properties = onnx_model(header, weights_of(network, 1)).metadata_props
    assert {p.key: p.value for p in properties} == {"weight_hash": "h", "class_names": "no\nyes"}


def test_a_model_too_large_for_onnx_is_refused(network_of, weights_of, monkeypatch):
    network = network_of(NetworkSpec(preset="seed", width=8), (6,), 2)
    monkeypatch.setattr(onnx_graph, "MAX_BYTES", 100)
    with pytest.raises(ModelError, match="more than 2 GiB"):
        onnx_model(Header(network), weights_of(network, 1))
