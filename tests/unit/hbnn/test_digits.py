"""The seed's network learns: a real training on scikit-learn's digits, on the native kernels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from meshd.hbnn.activations import Ramp
from meshd.hbnn.binarize import codes
from meshd.hbnn.evaluator import BinarizeLayer, BinLayer, LinearLayer, Sigmoid, evaluate
from meshd.hbnn.networks import logits, network_from_text, predict

TRAINING = 1437  # of 1797; the other 360 are the test


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    images = torch.from_numpy(data.data[order]).float() / 16
    return images, torch.from_numpy(data.target[order])


def accuracy_after_training(net, digits, epochs, seed, batch=32, rate=4e-3):
    """Test accuracy after Adam with a rate that falls linearly to a twentieth."""
    print(f"seed {seed}")
    images, labels = digits
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=rate)
    steps = epochs * -(-TRAINING // batch)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, steps)
    for _ in range(epochs):
        for indices in torch.randperm(TRAINING, generator=generator).split(batch):
            loss = torch.nn.functional.cross_entropy(logits(net, images[indices]), labels[indices])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    right = predict(net, images[TRAINING:]) == labels[TRAINING:]
    return float(right.float().mean())


def test_the_seeds_network_learns_digits(digits):
    net = network_from_text("network = { width = 256, beta_w = 16, beta_a = 16 }", (64,), 10)
    accuracy = accuracy_after_training(net, digits, epochs=6, seed=0)
    print(f"test accuracy {accuracy:.4f}")
    assert accuracy > 0.9


def seed_network_coded(coding, width, beta):
    """The seed's seven layers with a chosen coding of what follows the Ramps."""
    generator = torch.Generator().manual_seed(0)
    options = {"coding": coding, "generator": generator}
    return torch.nn.Sequential(
        LinearLayer(64, width, generator=generator),
        Ramp(),
        BinarizeLayer(beta, coding),
        BinLayer(width, width, beta, **options),
        Ramp(),
        BinLayer(width, 10, beta, **options),
        Sigmoid(),
    )


def test_signed_coding_after_a_ramp_learns_nothing(digits):
    """Why the unipolar coding is not optional.

    After a Ramp nothing is negative, so every sign is +1 and the bits say nothing. What is left is
    one mean a segment; with a segment that covers the layer, one number for the whole image.
    """
    images, _ = digits
    net = seed_network_coded("signed", 128, 128)
    values = evaluate(net, images, "Training")
    assert (codes(values[2], "signed") == 1).all() and (codes(values[5], "signed") == 1).all()
    assert (values[3] == values[3][:, :1]).all()

    signed = accuracy_after_training(net, digits, epochs=4, seed=0)
    unipolar = accuracy_after_training(
        seed_network_coded("unipolar", 128, 128), digits, epochs=4, seed=0
    )
    print(f"signed {signed:.4f}, unipolar {unipolar:.4f}")
    assert signed < 0.2 < 0.6 < unipolar
