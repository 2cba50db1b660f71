"""What binary layers keep between forward and backward, and what a training step takes at most."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from meshd.hbnn.activations import Ramp
from meshd.hbnn.conv import HadamardConv2d
from meshd.hbnn.linear import HadamardLinear
from meshd.hbnn.saved import saved_activation_bytes

# Bits an activation: its sign, 32 / beta_a for the scales, 1 for a cut, 8 for the polynomial.
SETTINGS = [
    (64, {"cut_a": None}, 1.5),
    (64, {}, 2.5),
    (256, {"cut_a": None}, 1.125),
    (16, {"cut_a": None}, 3.0),
    (64, {"estimator": "polynomial"}, 9.5),
    (64, {"cut_a": None, "gain": True, "backward": "int8"}, 1.5),
    (1, {"cut_a": None}, 32),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("beta", "options", "bits"), SETTINGS)
def test_bits_that_an_activation_keeps(normal, beta, options, bits, dtype):
    if dtype == torch.float64:  # the tensor route; scales are of the layer's dtype
        bits = 64 if beta == 1 else bits + 32 / beta
    linear = HadamardLinear(512, 24, 64, beta, **options).to(dtype)
    x = normal(96, 512).to(dtype)
    assert saved_activation_bytes(linear, x) == x.numel() * bits / 8
    conv = HadamardConv2d(256, 8, 3, 64, beta, padding=1, **options).to(dtype)
    image = normal(2, 256, 5, 4).to(dtype)
    assert saved_activation_bytes(conv, image) == image.numel() * bits / 8


def test_twenty_times_less_than_a_float_layer(normal):
    x, image = normal(96, 512), normal(2, 256, 5, 4)
    pairs = [
        (nn.Linear(512, 24, bias=False), HadamardLinear(512, 24, 64, cut_a=None), x),
        (nn.Conv2d(256, 8, 3), HadamardConv2d(256, 8, 3, 64, cut_a=None), image),
        (nn.ReLU(), Ramp(), x),
    ]
    for dense, binary, values in pairs:
        kept = saved_activation_bytes(dense, values)
        assert kept == values.nbytes
        assert saved_activation_bytes(binary, values) * 20 < kept


def test_what_nobody_asks_for_is_not_kept(normal):
    layer, x = HadamardLinear(512, 24, 64), normal(8, 512)
    layer.weight.requires_grad_(False)
    assert saved_activation_bytes(layer, x) == x.numel() // 8  # the cut's bit
    assert layer(x).grad_fn is None


STEP = """
import torch
from torch import nn
from meshd.hbnn.activations import Ramp
from meshd.hbnn.linear import HadamardLinear

def memory(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key))

def step(linear, ramp):
    net = nn.Sequential(*(part for _ in range(12) for part in (linear(), ramp())))
    net(x[:64]).sum().backward()
    before = memory("VmRSS")
    net(x).sum().backward()
    print(memory("VmHWM") - before)

torch.set_num_threads(1)
x = torch.randn(32768, 64)  # 8 MiB
step(lambda: HadamardLinear(64, 64, 64, cut_a=None), Ramp)
step(lambda: nn.Linear(64, 64, bias=False), nn.ReLU)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_peak_memory_of_a_training_step():
    """Float keeps 12 activations of 8 MiB, binary 12 of 0.6; both hold a few on the way.

    The process's high-water mark, so binary goes first. Blocks are mapped one by one: glibc would
    else hold on to freed ones, and the mark would count these too.
    """
    command = [sys.executable, "-c", STEP]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=True
    )
    binary, dense = map(int, done.stdout.split())
    print(f"binary {binary / 2**20:.1f} MiB, float {dense / 2**20:.1f} MiB")
    assert dense > 12 * 2**23
    assert binary < dense / 2
