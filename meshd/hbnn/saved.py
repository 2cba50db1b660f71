"""How many bytes a layer's activations take between forward and backward."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def saved_activation_bytes(layer: nn.Module, x: Tensor) -> int:
    """Return the bytes that autograd keeps for `layer` and its input `x` (B, ...) until backward.

    What it keeps for an empty batch (packed weights) and the layer's parameters do not count, nor
    does a storage count twice. `layer` must take an empty batch.
    """
    return _saved_bytes(layer, x) - _saved_bytes(layer, x.new_empty(0, *x.shape[1:]))


def _saved_bytes(layer: nn.Module, x: Tensor) -> int:
    own = {tensor.untyped_storage().data_ptr() for tensor in layer.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.nbytes() and storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        layer(x.detach().requires_grad_())
    return sum(kept.values())
