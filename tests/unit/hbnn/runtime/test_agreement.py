"""Runtime and ONNX give the class that torch gives on each of 10,000 images, after training."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from meshd.core.network.graph import resolve
from meshd.core.network.spec import NetworkDescription, NetworkSpec
from meshd.hbnn.export import load_model, save_model
from meshd.hbnn.networks import build_network, logits
from meshd.hbnn.runtime import load
from meshd.hbnn.runtime.model_file import read_model
from meshd.hbnn.runtime.onnx_graph import onnx_model

SEED = 20_261_123
SCALE = np.float32(1 / 255)
IMAGES = 10_000


@pytest.fixture(scope="module")
def images() -> tuple[np.ndarray, np.ndarray]:
    """Ten coarse patterns in noise: (N, 1, 28, 28) uint8, and their labels."""
    rng = np.random.default_rng(SEED)
    patterns = (rng.random((10, 7, 7)) > 0.6).repeat(4, 1).repeat(4, 2)
    labels = rng.integers(0, 10, IMAGES)
    x = 0.7 * patterns[labels] + 0.3 * rng.random((IMAGES, 28, 28), np.float32)
    return (255 * x[:, None]).astype(np.uint8), labels


def train(net: nn.Sequential, x: np.ndarray, y: np.ndarray) -> None:
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for i in range(0, 2400, 40):
        seen = torch.from_numpy(x[i : i + 80] * SCALE)
        loss = nn.functional.cross_entropy(logits(net, seen), torch.from_numpy(y[i : i + 80]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.eval()


def assert_same_classes(found: np.ndarray, theirs: np.ndarray, within: float) -> None:
    """On every image; but of two classes that are tied to `within` deviations of the logits,
    rounding may prefer the other: one activation's sign that it turns moves a logit by a term."""
    differ = np.flatnonzero(found.argmax(1) != theirs.argmax(1))
    given = theirs[differ, found[differ].argmax(1)]
    assert np.all(theirs[differ].max(1) - given <= within * theirs.std())
    assert len(differ) <= 3


@pytest.mark.parametrize(
    ("preset", "width", "beta", "first"),
    [
        ("seed", 128, 32, "dense"),
        ("seed", 128, 64, "binary"),
        ("lenet", 128, 8, "dense"),
        ("convnet", 8, 8, "binary"),
    ],
)
def test_every_image_gets_the_same_class(preset, width, beta, first, images, tmp_path):
    x, y = images
    spec = NetworkSpec(preset=preset, width=width, beta_w=beta, beta_a=beta, first=first)
    description = NetworkDescription(spec, (1, 28, 28), 10)
    net = build_network(resolve(description), SEED)
    train(net, x, y)
    path = tmp_path / "model.safetensors"
    save_model(path, net, description, scale=float(SCALE))

    trained, _ = load_model(path)
    trained.eval()
    with torch.no_grad():
        parts = [logits(trained, torch.from_numpy(p * SCALE)) for p in np.array_split(x, 20)]
    theirs = torch.cat(parts).numpy()
    assert (theirs.argmax(1) == y).mean() > 0.3  # the weights have learnt something
    ours = load(path, threads=1).logits(x)
    assert_same_classes(ours, theirs, within=1e-5)
    # Where float rounding turns a sign, a logit moves by one term; that is rare.
    spread = theirs.std()
    assert (np.abs(ours - theirs).max(1) <= 1e-4 * spread).mean() >= 0.999

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    graph = onnx_model(*read_model(path)).SerializeToString()
    session = onnxruntime.InferenceSession(graph, options)
    outputs = [session.run(None, {"input": p.astype(np.float32)})[0] for p in np.array_split(x, 20)]
    found = np.concatenate(outputs)
    assert_same_classes(found, theirs, within=0.2)
    assert (np.abs(found - theirs).max(1) <= 1e-3 * spread).mean() >= 0.95
