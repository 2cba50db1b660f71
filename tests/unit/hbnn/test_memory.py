"""Gradients' memory: a freed block serves the next gradient of its size, and no tensor twice."""

from __future__ import annotations

import gc
import threading

import torch

from meshd.hbnn.gradient import Factor, product_with_bits
from meshd.hbnn.linear import HadamardLinear
from meshd.hbnn.memory import ALIGNMENT, LEAST_BYTES, BlockPool

COLUMNS = LEAST_BYTES // 4


def test_a_block_returns_when_the_last_view_of_it_is_gone() -> None:
    pool = BlockPool()
    tensor = pool.empty(2, COLUMNS)
    where, view, array = tensor.data_ptr(), tensor[1:, 5:], tensor.numpy()[0]
    assert where % ALIGNMENT == 0 and tensor.shape == (2, COLUMNS)
    del tensor
    other = pool.empty(2, COLUMNS)
    assert other.data_ptr() != where and pool.free_bytes() == 0
    del view
    assert pool.free_bytes() == 0
    del array
    gc.collect()
    assert pool.free_bytes() == 2 * LEAST_BYTES
    assert pool.empty(2, COLUMNS).data_ptr() == where


def test_a_size_that_is_not_there_gives_back_what_is() -> None:
    pool = BlockPool()
    pool.empty(2, COLUMNS)
    pool.empty(3, COLUMNS)
    assert pool.free_bytes() == 3 * LEAST_BYTES


def test_small_tensors_are_not_kept() -> None:
    pool = BlockPool()
    pool.empty(1, COLUMNS - 1)
    assert pool.free_bytes() == 0
    assert pool.empty(0, 5).shape == (0, 5)


def test_threads_never_share_a_block() -> None:
    pool = BlockPool()
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(20):
            tensor = pool.empty(1, COLUMNS).fill_(number)
            if not bool((tensor == number).all()):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    # Each holds its last tensor while it asks for the next.
    assert 0 < pool.free_bytes() <= 2 * len(threads) * LEAST_BYTES


def test_gradients_of_two_layers_are_apart_and_reused_by_the_next_step() -> None:
    generator = torch.Generator().manual_seed(3)
    width = 512
    layers = [HadamardLinear(width, width, 64, generator=generator) for _ in range(2)]
    x = torch.randn(8, width, generator=generator)
    kept: list[list[torch.Tensor]] = []
    places: list[set[int]] = []
    for _ in range(3):
        layers[1](torch.relu(layers[0](x))).square().sum().backward()
        gradients = [layer.weight.grad for layer in layers if layer.weight.grad is not None]
        kept.append([gradient.clone() for gradient in gradients])
        places.append({gradient.data_ptr() for gradient in gradients})
        del gradients
        for layer in layers:
            layer.weight.grad = None
    assert len(places[0]) == 2 and places[0] == places[1] == places[2]
    for again in kept[1:]:
        assert all(map(torch.equal, kept[0], again))
    assert not torch.equal(*kept[0])


def test_a_product_owns_its_result() -> None:
    packed = HadamardLinear(512, 512, 64).packed()
    bits = Factor(packed.words, packed.scales, 64, 512, unipolar=False)
    grads = torch.randn(2, 512, 512, generator=torch.Generator().manual_seed(4))
    first = product_with_bits(grads[0], bits, "planes(2)")
    before = first.clone()
    product_with_bits(grads[1], bits, "planes(2)")
    assert torch.equal(first, before)
