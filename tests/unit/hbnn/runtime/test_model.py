"""What the runtime computes is what the layers are: against a dumb second implementation."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.core.network.spec import NetworkSpec
from meshd.hbnn.runtime import Model, ModelError, load
from meshd.hbnn.runtime.model_file import Header

SEED = 20_261_123
CASES = [
    ("seed", 128, (784,), 16),
    ("seed", 128, (1, 28, 28), 3),  # products of floats: the segments are short
    ("lenet", 256, (1, 28, 28), 8),
    ("convnet", 16, (1, 28, 28), 16),
    ("convnet", 16, (3, 32, 32), 4),
    ("nin", 96, (3, 32, 32), 16),
    ("alexnet", 16, (3, 32, 32), 16),
    ("resnet18", 16, (3, 32, 32), 16),
    ("resnet18", 8, (3, 64, 64), 8),
]


def samples(shape, count, rng):
    return rng.standard_normal((count, *shape), np.float32)


def assert_close(model: Model, other, x) -> None:
    """A sign that float rounding turns moves a logit by one term: allow it in one of 200 logits."""
    ours, theirs = model.logits(x), other.logits(torch.from_numpy(x))
    scale = np.abs(theirs).max()
    near = np.abs(ours - theirs) <= 2e-5 * scale
    assert ours.dtype == np.float32 and ours.shape == theirs.shape
    assert near.mean() >= 0.995 and np.abs(ours - theirs).max() <= 0.05 * scale


@pytest.mark.parametrize("first", ["dense", "binary"])
@pytest.mark.parametrize(("preset", "width", "shape", "beta"), CASES)
def test_presets(preset, width, shape, beta, first, network_of, weights_of, second):
    spec = NetworkSpec(preset=preset, width=width, beta_w=beta, beta_a=beta, first=first)
    network = network_of(spec, shape)
    weights = weights_of(network, SEED)
    x = samples(shape, 20, np.random.default_rng(SEED))
    assert_close(Model(Header(network), weights, threads=1), second(network, weights), x)


IMAGES = st.fixed_dictionaries(
    {
        "kernel": st.integers(1, 4),
        "stride": st.integers(1, 3),
        "padding": st.integers(0, 2),
        "channels": st.sampled_from([3, 8, 16, 24]),
    }
)
BINARY = st.fixed_dictionaries(
    {
        "beta_w": st.sampled_from([1, 4, 8, 1 << 20]),
        "beta_a": st.sampled_from([1, 2, 8, 1 << 20]),
        "coding": st.sampled_from(["signed", "unipolar"]),
        "gain": st.booleans(),
        "bias": st.booleans(),
    }
)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(["conv", "hadamard_conv", "maxpool", "avgpool"]),
    image=IMAGES,
    binary=BINARY,
)
def test_every_window(kind, image, binary, network_of, weights_of, second):
    image = dict(image)
    channels = image.pop("channels")
    layer = {"layer": kind, **image}
    if kind in ("maxpool", "avgpool"):
        layer["padding"] = min(image["padding"], image["kernel"] // 2)
    else:
        layer["out"] = 5
    if kind == "conv":
        layer["bias"] = binary["bias"]
    if kind == "hadamard_conv":
        for key in ("beta_w", "beta_a"):
            fits = channels % binary[key] == 0 or binary[key] > 1000
            binary = {**binary, key: binary[key] if fits else 1}
        layer.update(binary)
    tables = [layer, {"layer": "flatten"}, {"layer": "linear", "bias": True}]
    network = network_of(tables, (channels, 7, 9), 4)
    weights = weights_of(network, SEED)
    x = samples((channels, 7, 9), 6, np.random.default_rng(SEED))
    assert_close(Model(Header(network), weights, threads=1), second(network, weights), x)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    binary=BINARY,
    betas=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    before=st.sampled_from(["ramp", "hardtanh", "sigmoid", "batchnorm", "binarize", "dropout"]),
)
def test_linear_layers_of_any_segments(binary, betas, before, network_of, weights_of, second):
    tables = [
        {"layer": before},
        {"layer": "hadamard_linear", "out": 9, **binary, "beta_w": betas[0], "beta_a": betas[1]},
        {"layer": "linear"},
    ]
    network = network_of(tables, (67,), 4)
    weights = weights_of(network, SEED)
    x = samples((67,), 8, np.random.default_rng(SEED))
    kept = x.copy()
    assert_close(Model(Header(network), weights, threads=1), second(network, weights), x)
    assert np.array_equal(x, kept)  # the caller's samples are not written to


def test_residuals_do_not_write_to_what_the_shortcut_reads(network_of, weights_of, second):
    inner = {"layer": "residual", "body": [{"layer": "ramp"}, {"layer": "hardtanh"}]}
    tables = [
        {"layer": "conv", "out": 8, "kernel": 3, "padding": 1},
        {"layer": "residual", "body": [{"layer": "ramp"}, inner], "shortcut": [inner]},
        {"layer": "residual", "shortcut": [{"layer": "sigmoid"}]},
        {"layer": "globalavgpool"},
        {"layer": "linear"},
    ]
    network = network_of(tables, (3, 8, 8), 4)
    weights = weights_of(network, SEED)
    x = samples((3, 8, 8), 5, np.random.default_rng(SEED))
    assert_close(Model(Header(network), weights, threads=1), second(network, weights), x)


@pytest.fixture
def convnet(network_of, model_path):
    network = network_of(NetworkSpec(preset="convnet", width=8, beta_w=8, beta_a=8), (1, 28, 28))
    return model_path(network, scale=float(np.float32(1 / 255)))


def test_blocks_threads_and_forms_of_samples_do_not_change_a_bit(convnet):
    model = load(convnet, threads=1)
    rng = np.random.default_rng(SEED)
    x = rng.integers(0, 256, (model._block * 2 + 3, 784), np.uint8)
    logits = model.logits(x)
    assert np.array_equal(logits, load(convnet, threads=2).logits(x))
    assert np.array_equal(logits, load(convnet).logits(x.reshape(-1, 1, 28, 28)))
    assert np.array_equal(logits, model.logits(x.astype(np.float32)))
    assert np.allclose(logits[:5], model.logits(x[:5]), atol=1e-5)
    assert np.array_equal(model.predict(x), logits.argmax(1))
    assert model.logits(x[:0]).shape == (0, 10)


def test_threads_of_the_caller_do_not_share_memory(convnet):
    model = load(convnet, threads=1)
    rng = np.random.default_rng(SEED)
    inputs = [rng.integers(0, 256, (40, 784), np.uint8) for _ in range(4)]
    wanted = [model.logits(x) for x in inputs]
    found: list[list[np.ndarray]] = [[] for _ in inputs]

    def work(i: int) -> None:
        for _ in range(5):
            found[i].append(model.logits(inputs[i]))

    workers = [threading.Thread(target=work, args=(i,)) for i in range(len(inputs))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for logits, wish in zip(found, wanted, strict=True):
        assert len(logits) == 5 and all(np.array_equal(one, wish) for one in logits)


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (np.zeros((3, 783), np.uint8), "do not fit: the model takes"),
        (np.zeros((3, 28, 28, 1), np.uint8), "do not fit"),
        (np.zeros(784, np.uint8), "do not fit"),
        (np.zeros((3, 784)), "uint8 or float32, not float64"),
        ([[0] * 784], "uint8 or float32, not list"),
    ],
)
def test_wrong_samples_are_one_line(convnet, x, said):
    with pytest.raises(ModelError, match=said) as caught:
        load(convnet).predict(x)
    assert "\n" not in str(caught.value)


def test_threads_are_bounded(convnet):
    for threads in (0, -1, 10_000):
        with pytest.raises(ModelError, match="threads must be"):
            load(convnet, threads=threads)


def test_a_process_that_predicts_never_loads_torch(convnet):
    program = (
        "import sys, numpy as np\n"
        "from meshd.hbnn.runtime import load\n"
        f"print(load({str(convnet)!r}).predict(np.zeros((2, 784), np.uint8)).shape)\n"
        "print([name for name in ('torch', 'zmq', 'asyncio', 'onnx') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "(2,)\n[]\n"
